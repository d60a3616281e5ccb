"""What Kubernetes' words about a Job and its pod come to. Shapes are those of the API reference."""

from typing import Any

import pytest

from tsched.executors.kubernetes import words
from tsched.executors.kubernetes.job import literal, name_of
from tsched.model.run import ExitReason

GONE: dict[str, Any] = {
    **{"exitCode": 0, "reason": "Completed"},
    **{"startedAt": "2026-01-20T10:15:00Z", "finishedAt": "2026-01-20T10:16:00Z"},
}
NO_START = {**GONE, "exitCode": 128, "reason": "StartError"}
FULL = "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available:"
DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}


def job(kind: str = "Failed", reason: str = "BackoffLimitExceeded") -> words.Job:
    conditions = [
        {"type": "FailureTarget", "status": "True", "reason": reason},  # comes before it, while pods still end
        {"type": kind, "status": "True", "reason": reason},
    ]
    return words.job_of({"metadata": {"name": "j", "uid": "u"}, "status": {"conditions": conditions}})


def pod(state: dict[str, Any] | None = None, phase: str = "Failed", **status: Any) -> words.Pod:
    agent = {"name": "agent", "state": state or {}}
    others = {"name": "istio-proxy", "state": {"terminated": {"exitCode": 9, "reason": "Error"}}}
    status = {"phase": phase, "containerStatuses": [others, agent], **status}
    return words.pod_of({"metadata": {"name": "p"}, "spec": {"nodeName": "n1"}, "status": status})


def test_a_job_is_over_by_its_last_condition_alone() -> None:
    half = {"status": {"conditions": [{"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded"}]}}
    assert words.job_of(half).finished == ""
    assert job().finished == "Failed"
    assert words.job_of({"status": {"conditions": [{"type": "Complete", "status": "False"}]}}).finished == ""


@pytest.mark.parametrize(
    ("seen", "reason", "code", "started"),
    [
        (pod({"terminated": GONE}, "Succeeded"), ExitReason.EXITED, 0, True),
        (pod({"terminated": {**GONE, "exitCode": 3, "reason": "Error"}}), ExitReason.EXITED, 3, True),
        (pod({"terminated": GONE}, reason="DeadlineExceeded"), ExitReason.TIMEOUT, 0, True),
        (pod({"terminated": {**GONE, "exitCode": 137}}, reason="Evicted"), ExitReason.REBOOT, 137, True),
        (pod(reason="Evicted", message="The node was low on resource: memory."), ExitReason.REBOOT, None, False),
        (pod(reason="OutOfcpu"), ExitReason.NOT_STARTED, None, False),
        (pod({"terminated": NO_START}), ExitReason.START_FAILED, None, False),
        (pod({"terminated": GONE}, conditions=[DISRUPTED]), ExitReason.REBOOT, 0, True),
        (None, ExitReason.REBOOT, None, False),
    ],
)  # fmt: skip
def test_how_a_run_ended(seen: words.Pod | None, reason: ExitReason, code: int | None, started: bool) -> None:
    end = words.ended(job(), seen, asked=None, began=False)
    assert end is not None
    assert (end.reason, end.exit_code, end.started) == (reason, code, started)


def test_who_ends_of_itself_just_before_it_is_deleted_has_ended_of_itself() -> None:
    value: dict[str, Any] = {
        "metadata": {"deletionTimestamp": "2026-01-20T10:16:31Z", "deletionGracePeriodSeconds": 30},
        "status": {"phase": "Succeeded", "containerStatuses": [{"name": "agent", "state": {"terminated": GONE}}]},
    }
    end = words.ended(None, words.pod_of(value), asked=None, began=True)
    assert end is not None
    assert end.reason is ExitReason.EXITED  # at 10:16:00; asked at 10:16:01
    value["metadata"]["deletionTimestamp"] = "2026-01-20T10:16:30Z"
    end = words.ended(None, words.pod_of(value), asked=None, began=True)
    assert end is not None
    assert end.reason is ExitReason.STOPPED


def test_a_pod_that_still_runs_has_not_ended_and_its_times_are_the_clusters() -> None:
    running = pod({"running": {"startedAt": "2026-01-20T10:15:00Z"}}, "Running")
    assert words.ended(job(), running, asked=ExitReason.STOPPED, began=True) is None
    over = pod({"terminated": GONE}, "Succeeded")
    assert over.ended_at - over.started_at == 60
    assert over.over


@pytest.mark.parametrize(
    ("unplaced", "hopeless"),
    [
        (f"{FULL} 2 No preemption victims found for incoming pod.", False),
        (f"{FULL} 2 Preemption is not helpful for scheduling.", True),
        (f"{FULL} 1 No preemption victims found, 1 Preemption is not helpful for scheduling.", False),
        ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", True),
        ("no nodes available to schedule pods", True),
    ],
)  # fmt: skip
def test_a_full_cluster_is_waited_for_and_one_that_has_no_such_node_is_not(unplaced: str, hopeless: bool) -> None:
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unplaced}
    assert (words.stuck(pod(phase="Pending", conditions=[said])) is not None) is hopeless


def test_names_and_literals() -> None:
    assert name_of("12-1-0a1b2c3d4e") == "12-1-0a1b2c3d4e"
    assert name_of("Task_7-1-0a").startswith("run-")
    assert name_of("Task_7-1-0a") != name_of("task_7-1-0a")
    assert literal("$(HOME) $$") == "$$(HOME) $$$$"
