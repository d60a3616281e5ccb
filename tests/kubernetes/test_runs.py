"""What may happen to a run on Kubernetes, over a real API server and its controllers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.executor_contract import STAYS, recovered, there
from tests.integration.kube_place import IMAGE, later, let_go, running
from tests.integration.local_runs import shell, wait_for
from tests.kubernetes.control import NAMESPACE, Control
from tests.kubernetes.node import Node
from tests.kubernetes.place import RealPlace
from tests.kubernetes.wire import Wire
from tsched.executors.executor import Liveness
from tsched.executors.kubernetes import api as kubernetes_api
from tsched.executors.kubernetes import job as jobs
from tsched.executors.kubernetes import watch as kubernetes_watch
from tsched.executors.kubernetes.api import Api, GoneError
from tsched.model.errors import TransientError
from tsched.model.fleet import Recipe, RecipeFile, Resources, Runtime
from tsched.model.placement import Kubernetes
from tsched.model.run import ExitReason
from tsched.model.task import Task

JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"


@pytest.fixture
def wired(tmp_path: Path, control: Control, node: Node, wire: Wire) -> RealPlace:
    """Over a wire that can be cut, and with a connection that is open already."""
    place = RealPlace(tmp_path, control, node, port=wire.port)
    assert api(place).job("nothing") is None
    return place


def api(place: RealPlace) -> Api:
    """As the executor speaks to it."""
    return place.executor._clusters.at("", "", place.executor._owner).api  # type: ignore[attr-defined, no-any-return]


# -- the request


def test_what_was_created_and_not_told_goes_on_and_is_not_asked_for_again(
    wired: RealPlace, wire: Wire, control: Control
) -> None:
    before, wire.mode = control.asked("create", "jobs"), "answer"
    with pytest.raises(TransientError, match="no answer"):
        wired.launch(wired.launch_of(shell("echo once")))
    wire.mode = ""
    wired.executor = wired.another()  # the runner was killed, too
    wired.executor.start(wired.run_id)
    assert wired.ended(wired.run_id).exit_code == 0
    assert wired.log(wired.run_id) == "once\n"
    assert control.asked("create", "jobs") == before + 1


def test_a_request_that_is_still_on_its_way_finds_its_name_taken(
    wired: RealPlace, wire: Wire, control: Control
) -> None:
    before, wire.mode = control.asked("create", "jobs"), "request"
    with pytest.raises(TransientError):
        wired.launch(wired.launch_of(shell("echo late")))
    wire.mode = ""
    end = recovered(wired)
    assert (end.reason, end.started) == (ExitReason.NOT_STARTED, False)
    wire.late()
    wait_for(lambda: control.asked("create", "jobs") == before + 2)
    assert wired.executor.poll() == {wired.run_id: Liveness.ENDED}
    assert wired.job()["spec"]["completions"] == 0
    wait_for(lambda: wired.job()["status"].get("conditions", [{}])[0].get("type") == "Complete")
    assert wired.all("pods") == []


def test_a_name_is_given_once(place: RealPlace) -> None:
    fence = jobs.fence(place.run_id, "me")
    assert api(place).create(fence) is not None
    assert api(place).create(fence) is None


def test_a_request_that_is_refused_is_the_runs_end_with_the_clusters_words(place: RealPlace) -> None:
    wanted = Kubernetes(image=IMAGE, node_selector=(("disk", "no value"),))
    end = place.ended(place.launch(place.launch_of(shell("true"), kubernetes=wanted)))
    assert (end.reason, end.started) == (ExitReason.START_FAILED, False)
    assert 'spec.template.spec.nodeSelector: Invalid value: "no value"' in end.detail
    assert ": mend `kubernetes`" in end.detail
    assert not place.lease_of().exists()


def test_a_quota_of_jobs_that_is_used_up_is_no_fault_of_the_fleet(place: RealPlace, control: Control) -> None:
    path = control.quota("small", {"count/jobs.batch": "0"})
    with pytest.raises(TransientError, match="exceeded quota"):
        place.launch(place.launch_of(shell("true")))
    with pytest.raises(TransientError, match="nothing is started"):
        place.executor.prepare(place.launch_of(shell("true"), run_id="other"))
    control.ask("DELETE", path)
    assert recovered(place).reason is ExitReason.NOT_STARTED


@pytest.mark.parametrize(
    ("hard", "wanted", "words"),
    [
        ({"pods": "0"}, {}, "exceeded quota: small, requested: pods=1"),
        ({"requests.memory": "1Gi"}, {}, "failed quota: small: must specify requests.memory"),
        ({}, {"service_account": "nobody"}, 'serviceaccount "nobody" not found'),
    ],
)
def test_a_job_that_gets_no_pod_is_told_with_what_kubernetes_says_of_it(
    place: RealPlace, control: Control, hard: dict[str, str], wanted: Mapping[str, Any], words: str
) -> None:
    if hard:
        control.quota("small", hard)
    run_id = place.launch(place.launch_of(shell("true"), kubernetes=Kubernetes(image=IMAGE, **wanted)))
    wait_for(lambda: place.executor.poll() and (place.runs / run_id / "missed").exists())
    wait_for(lambda: api(place).complaint(place.job()["metadata"]["uid"]))
    later(place, 310)
    end = place.ended(run_id)
    assert (end.reason, end.started) == (ExitReason.START_FAILED, False)
    assert end.detail.startswith("Kubernetes makes no pod for it: ")
    assert words in end.detail
    assert place.all("jobs") == []


# -- the API server


def test_a_watch_goes_on_where_it_ended_by_its_time(
    place: RealPlace, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_watch, "SPELL", 1)
    lists, watches = control.asked("list", "jobs"), control.asked("watch", "jobs")
    run_id = running(place)
    wait_for(lambda: place.executor.poll() and control.asked("watch", "jobs") >= watches + 3)
    let_go(place)
    assert place.ended(run_id).exit_code == 0
    assert control.asked("list", "jobs") == lists + 1


def test_an_api_server_that_is_killed_loses_nothing_and_starts_nothing(place: RealPlace, control: Control) -> None:
    run_id = running(place)
    control.kill("kube-apiserver")
    wait_for(lambda: place.executor.poll() and place.executor.trouble())
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    assert "Kubernetes can't be asked: https://127.0.0.1" in place.executor.trouble()
    assert place.executor.recover(run_id) is None
    with pytest.raises(TransientError, match="nothing is started"):
        place.executor.prepare(place.launch_of(shell("true"), run_id="other"))
    let_go(place)
    control.revive()
    assert place.ended(run_id).exit_code == 0
    assert place.executor.trouble() == ""


def test_an_api_server_that_hangs_is_given_up(wired: RealPlace, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = running(wired)
    monkeypatch.setattr(kubernetes_api, "PATIENCE", 0.3)
    wire.mode = "hang"
    wired.executor = wired.another()
    assert wired.executor.poll() == {run_id: Liveness.ALIVE}
    assert "no answer" in wired.executor.trouble()
    wire.mode = ""
    monkeypatch.undo()
    let_go(wired)
    assert wired.ended(run_id).exit_code == 0


def test_history_that_is_gone_is_said(place: RealPlace, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    version = control.ask("GET", JOBS)["metadata"]["resourceVersion"]
    for number in range(3):
        assert api(place).create(jobs.fence(f"fence-{number}", "me")) is not None
    monkeypatch.setattr(kubernetes_api, "PAGE", 1)
    ask, pages = api(place)._ask, []

    def compacting(*arguments: Any, **options: Any) -> kubernetes_api.Answer:
        answer = ask(*arguments, **options)
        pages.append(answer.status)
        control.ask("DELETE", f"{JOBS}/fence-2" if len(pages) == 1 else f"{JOBS}/fence-1")
        control.compact()
        return answer

    monkeypatch.setattr(api(place), "_ask", compacting)
    with pytest.raises(GoneError):
        api(place).list("jobs", jobs.selector("me"))
    assert pages == [200, 410]
    control.kill("kube-apiserver")  # its own memory of what changed goes with it
    control.revive()
    with pytest.raises(GoneError, match="too old resource version"):
        list(api(place).watch("jobs", jobs.selector("me"), version, seconds=5))


def test_a_run_is_followed_over_a_server_that_has_forgotten_all_history(place: RealPlace, control: Control) -> None:
    run_id = running(place)
    control.kill("kube-apiserver")
    control.compact()
    control.revive()
    let_go(place)
    assert place.ended(run_id).exit_code == 0


# -- stops


def test_a_lease_that_is_removed_by_hand_stops_the_run(place: RealPlace) -> None:
    run_id = running(place, f"echo before; {STAYS}")
    there(place)
    place.lease_of().unlink()
    end = place.ended(run_id)
    assert (end.reason, end.started) == (ExitReason.LEASE_GONE, True)
    assert place.all("jobs") == place.all("pods") == []
    assert place.log(run_id).startswith("before\n")


def test_who_does_not_hear_term_is_killed_when_its_grace_is_over(place: RealPlace, node: Node) -> None:
    run_id = place.launch(
        place.launch_of(shell("trap '' TERM; touch there; while :; do sleep 0.05; done"), stop_grace=1)
    )
    there(place)
    place.until_running()
    place.executor.stop([run_id], reason=ExitReason.STOPPED, at=0)
    end = place.ended(run_id)
    assert (end.reason, end.exit_code) == (ExitReason.STOPPED, 137)
    assert place.all("jobs") == place.all("pods") == []


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_a_job_that_somebody_deletes_is_a_run_that_was_stopped(
    place: RealPlace, control: Control, node: Node, policy: str
) -> None:
    run_id = running(place, STAYS)
    there(place)
    control.ask("DELETE", f"{JOBS}/{run_id}", {"propagationPolicy": policy})
    end = recovered(place, run_id) if policy == "Background" else place.ended(run_id)
    assert (end.reason, end.started) == (ExitReason.STOPPED, True)
    assert "was deleted" in end.detail
    assert all(one.returncode is not None for one in node.processes.values())
    assert not place.lease_of().exists()


# -- the pod and its node


@pytest.mark.parametrize("waits_for", ["ImagePullBackOff", "CreateContainerConfigError"])
def test_an_image_or_secret_that_is_not_to_be_had_is_told_after_a_while(
    place: RealPlace, node: Node, waits_for: str
) -> None:
    node.wait = "" if waits_for == "CreateContainerConfigError" else waits_for
    wanted = Kubernetes(image=IMAGE, secrets=("missing",) if not node.wait else ())
    run_id = place.launch(place.launch_of(shell("true"), kubernetes=wanted))
    stuck(place, waits_for)
    later(place, 310)
    end = place.ended(run_id)
    assert (end.reason, end.started) == (ExitReason.START_FAILED, False)
    assert end.detail.startswith(f"{waits_for}: {'as the test' if node.wait else 'secret'}")
    assert place.all("jobs") == []


def test_a_run_that_no_node_can_take_ends_and_one_that_waits_for_room_does_not(place: RealPlace) -> None:
    run_id = place.launch(place.launch_of(shell("true"), resources=Resources(memory=1 << 40)))
    wait_for(lambda: place.executor.poll() and "Insufficient memory" in str(place.all("pods")))
    later(place, 3000)
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    assert not (place.runs / run_id / "missed").exists()
    place.finish(run_id)
    wanted = Kubernetes(image=IMAGE, start_within=60.0, node_selector=(("disk", "tape"),))
    place.launch(place.launch_of(shell("true"), run_id="other", kubernetes=wanted))
    stuck(place, "node affinity")
    later(place, 70)
    end = place.ended("other")
    assert end.reason is ExitReason.START_FAILED
    assert "no node can take it: 0/1" in end.detail


def stuck(place: RealPlace, words: str) -> None:
    """Its pod says so, and a runner that was started anew has seen it."""
    wait_for(lambda: words in str(place.all("pods")))
    place.executor = place.another()
    place.executor.poll()


def test_a_pod_that_its_node_evicts_is_interrupted(place: RealPlace, node: Node) -> None:
    run_id = running(place)
    node.evict(place.all("pods")[0]["metadata"]["name"])
    end = place.ended(run_id)
    assert (end.reason, end.started, end.exit_code) == (ExitReason.REBOOT, True, 137)
    assert end.detail == "Evicted on node-1: The node was low on resource: memory."
    assert [one["type"] for one in place.job()["status"]["conditions"]] == ["Failed"]


def test_a_node_that_is_lost_ends_its_run_once_it_must_have_ended_by_itself(
    place: RealPlace, node: Node, control: Control
) -> None:
    run_id = place.launch(
        place.launch_of(shell("until [ -e go ]; do sleep 0.05; done"), max_runtime=60, stop_grace=5)
    )
    place.until_running()
    node.lose()
    control.until(lambda: unready(control), "Kubernetes misses the node")
    later(place, 60 + 5 + 290)
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    later(place, 60 + 5 + 310)
    end = place.ended(run_id)
    assert (end.reason, end.detail) == (ExitReason.REBOOT, "its node node-1 is lost")
    assert place.all("jobs") == place.all("pods") == []


def test_a_log_that_can_not_be_had_is_waited_for_and_then_done_without(place: RealPlace, node: Node) -> None:
    node.mute = True
    run_id = place.launch(place.launch_of(shell("echo said")))
    wait_for(lambda: place.executor.poll() and (place.runs / run_id / "missed").exists())
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    later(place, 610)
    end = place.ended(run_id)
    assert (end.exit_code, end.detail) == (0, "its log could not be brought back")


def unready(control: Control) -> bool:
    conditions = control.ask("GET", "/api/v1/nodes/node-1")["status"]["conditions"]
    return any((one["type"], one["status"]) == ("Ready", "Unknown") for one in conditions)


# -- what a Job is


def test_what_a_job_asks_for_is_what_the_server_has_understood(place: RealPlace, control: Control) -> None:
    control.ask("PUT", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default", {"metadata": {"name": "default"}})
    wanted = Kubernetes(
        image=IMAGE, user=1000, node_selector=(("disk", "ssd"),), pull_secrets=("registry",), ttl=60.0
    )
    resources = Resources(cpus=0.5, memory=1 << 30)
    place.launch(
        place.launch_of(shell("true"), kubernetes=wanted, resources=resources, max_runtime=90.5, stop_grace=20)
    )
    asked = place.executor._pod_run(place.run_id).job  # type: ignore[attr-defined]
    missing = difference(asked, place.job())
    assert missing == ["spec.podReplacementPolicy"]  # not known to this one
    wait_for(lambda: place.all("pods"))
    (pod,) = place.all("pods")
    assert not [one for one in pod["spec"]["volumes"] if "secret" in one]  # no account's token
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "500m", "memory": "1073741824"}


def difference(asked: object, made: object, at: str = "") -> list[str]:
    """The places where what was made is not what was asked for."""
    if isinstance(asked, dict) and isinstance(made, dict):
        return [
            one for key, value in asked.items() for one in difference(value, made.get(key), f"{at}.{key}".lstrip("."))
        ]
    if isinstance(asked, list) and isinstance(made, list) and len(asked) == len(made):
        return [
            one for n, pair in enumerate(zip(asked, made, strict=True)) for one in difference(*pair, f"{at}[{n}]")
        ]
    return [] if asked == made or (not asked and not made) else [at]


def test_as_much_of_a_recipe_as_a_run_may_have_arrives_whole(place: RealPlace) -> None:
    text = "#" * (jobs.MOST_FILES - 1000)
    recipe = Recipe(
        path="recipes/ada.yaml", title="Ada", prompt="Do it",
        files=(RecipeFile(path="recipes/ada.yaml", blob="a" * 40, text=text),),
    )  # fmt: skip
    runtime = Runtime(name="x", argv=("/bin/sh", "-c", 'wc -c < "$0"', "{recipe}"))
    run_id = place.launch(place.launch_of(runtime, recipe=recipe))
    assert place.ended(run_id).exit_code == 0
    assert place.log(run_id).strip() == str(len(text))


def test_an_account_that_is_named_gives_its_token(place: RealPlace) -> None:
    wanted = Kubernetes(image=IMAGE, service_account="default")
    place.launch(place.launch_of(shell("true"), kubernetes=wanted))
    (pod,) = wait_for(lambda: place.all("pods"))
    (mount,) = [one for one in pod["spec"]["containers"][0]["volumeMounts"] if one["name"] not in ("run", "work")]
    assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert place.ended(place.run_id).exit_code == 0


def test_a_finished_job_goes_by_itself_where_nobody_comes_for_it(place: RealPlace) -> None:
    run_id = place.launch(place.launch_of(shell("echo said"), kubernetes=Kubernetes(image=IMAGE, ttl=1.0)))
    end = place.ended(run_id)
    wait_for(lambda: not place.all("jobs") and not place.all("pods"))
    assert place.executor.poll() == {run_id: Liveness.ENDED}
    assert place.executor.exit(run_id) == end
    place.executor.discard(run_id, succeeded=True)
    assert place.executor.poll() == {}


def test_the_runs_job_goes_with_its_record(place: RealPlace) -> None:
    run_id = place.launch(place.launch_of(shell("true")))
    place.ended(run_id)
    place.executor.discard(run_id, succeeded=True)
    wait_for(lambda: not place.all("jobs") and not place.all("pods"))
    assert place.executor.poll() == {}


def test_many_runs_come_in_pages(place: RealPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_api, "PAGE", 7)
    names = [f"{place.run_id}-{number}" for number in range(24)]
    for number, name in enumerate(names):  # a task each: its lease is its own
        place.launch(place.launch_of(shell("true"), run_id=name, task=Task(id=str(number), title="t", queue="dev")))
    wait_for(lambda: set(place.executor.poll().values()) == {Liveness.ENDED})
    assert {name: getattr(place.executor.exit(name), "exit_code", None) for name in names} == dict.fromkeys(names, 0)
