"""What the end of a run means for its task."""

from typing import Any

import pytest

from tsched.model.fleet import OnDeadline, Retry
from tsched.model.override import Override, OverrideKind
from tsched.model.run import ExitReason, Outcome, Run, RunExit
from tsched.model.task import Task, TaskStatus, Verdict
from tsched.schedule.recovery import Judgement, backoff, judge

RETRY = Retry(attempts=3, backoff=10.0, max_backoff=25.0)
RUN = Run(
    run_id="7-1-a", task_id="7", agent="ada", pool="dev", queue="dev", attempt=1, revision="r", executor="local",
    recipe="recipes/a.yaml", runtime="goose", evidence="tokens", created_at=0.0,
)  # fmt: skip


def end(reason: ExitReason, code: int | None = None, *, started: bool = True) -> RunExit:
    return RunExit(run_id="7-1-a", reason=reason, started=started, exit_code=code)


def verdict(
    exit: RunExit,
    *,
    evidence: bool = False,
    on_deadline: OnDeadline = OnDeadline.REQUEUE,
    gone: bool = False,
    stalled_before: bool = False,
    kill: OverrideKind | None = None,
    **facts: object,
) -> Judgement:
    known = {"id": "7", "title": "t", "queue": "dev", "status": TaskStatus.WORKING, "assigned_to": "ada", **facts}
    task = None if gone else Task(**known)  # type: ignore[arg-type]
    order = None if kill is None else Override(kind=kill, subject="run/7-1-a", since=1.0, by="op", reason="why")
    return judge(
        exit=exit, run=RUN, kill=order, task=task, missing="" if evidence else "no token was spent", retry=RETRY,
        on_deadline=on_deadline, stalled_before=stalled_before, now=1000.0,
    )  # fmt: skip


def test_exit_zero_with_evidence_completes() -> None:
    found = verdict(end(ExitReason.EXITED, 0), evidence=True)
    assert (found.outcome, found.settlement.verdict) == (Outcome.COMPLETE, Verdict.COMPLETE)


def test_exit_zero_without_evidence_is_unproven_and_tried_again() -> None:
    found = verdict(end(ExitReason.EXITED, 0))
    assert found.outcome is Outcome.UNPROVEN
    assert (found.settlement.verdict, found.settlement.charged) == (Verdict.RETRY, True)


@pytest.mark.parametrize(("attempts", "wait"), [(0, 10.0), (1, 20.0)])
def test_a_failure_is_tried_again_after_a_doubled_wait(attempts: int, wait: float) -> None:
    found = verdict(end(ExitReason.EXITED, 3), attempts=attempts, runs=attempts)
    assert (found.outcome, found.settlement.not_before) == (Outcome.FAILED, 1000.0 + wait)
    assert "exit status 3" in found.reason


def test_the_last_attempt_parks() -> None:
    found = verdict(end(ExitReason.EXITED, 3), attempts=2, runs=2)
    assert found.settlement.verdict is Verdict.PARK


def test_two_attempts_in_a_row_without_progress_park() -> None:
    first, second = (verdict(end(ExitReason.STALLED), stalled_before=before) for before in (False, True))
    assert (first.outcome, first.settlement.verdict, first.settlement.charged) == (
        Outcome.FAILED, Verdict.RETRY, True,
    )  # fmt: skip
    assert second.settlement.verdict is Verdict.PARK
    assert "made no progress" in second.reason
    assert verdict(end(ExitReason.EXITED, 3), stalled_before=True).settlement.verdict is Verdict.RETRY


def test_many_runs_of_any_kind_park_all_the_same() -> None:
    stopped = end(ExitReason.STOPPED)
    assert verdict(stopped, runs=7).settlement.verdict is Verdict.RETRY
    assert verdict(stopped, runs=8).settlement.verdict is Verdict.PARK


@pytest.mark.parametrize(
    "reason",
    [ExitReason.DRAIN, ExitReason.STOPPED, ExitReason.REBOOT, ExitReason.LEASE_GONE],
)
def test_what_we_stopped_goes_back_at_once_uncharged(reason: ExitReason) -> None:
    found = verdict(end(reason))
    assert (found.outcome, found.settlement.verdict) == (Outcome.INTERRUPTED, Verdict.RETRY)
    assert (found.settlement.charged, found.settlement.not_before) == (False, 1000.0)


def test_a_drain_with_fail_parks() -> None:
    found = verdict(end(ExitReason.DRAIN), on_deadline=OnDeadline.FAIL)
    assert found.settlement.verdict is Verdict.PARK


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        ({"status": TaskStatus.COMPLETE}, Outcome.COMPLETE),
        ({"status": TaskStatus.CANCELLED}, Outcome.CANCELLED),
        ({"status": TaskStatus.IDLE, "assigned_to": None, "queue": "qa"}, Outcome.COMPLETE),
        ({"assigned_to": "ben"}, Outcome.COMPLETE),
    ],
)
def test_the_agents_own_word_stands_whatever_the_exit(facts: dict[str, object], outcome: Outcome) -> None:
    for exit in (end(ExitReason.EXITED, 0), end(ExitReason.EXITED, 1), end(ExitReason.TIMEOUT)):
        found = verdict(exit, **facts)  # type: ignore[arg-type]  # only facts of the task
        assert (found.outcome, found.settlement.verdict) == (outcome, Verdict.STAND)


def test_a_run_that_never_ran_is_not_charged_but_waits() -> None:
    for reason in (ExitReason.START_FAILED, ExitReason.NOT_STARTED):
        found = verdict(end(reason, started=False))
        assert not found.settlement.charged
        assert found.settlement.not_before > 1000.0


def test_a_dead_shim_is_charged_only_where_the_agent_ran() -> None:
    assert verdict(end(ExitReason.SHIM_DIED)).settlement.charged
    assert not verdict(end(ExitReason.SHIM_DIED, started=False)).settlement.charged


def test_a_task_that_is_gone_is_left_alone() -> None:
    assert verdict(end(ExitReason.EXITED, 1), gone=True).settlement.verdict is Verdict.STAND


def test_a_signal_is_named() -> None:
    assert "SIGKILL" in verdict(end(ExitReason.EXITED, 137)).reason


def test_the_wait_grows_to_its_bound() -> None:
    assert [backoff(RETRY, number) for number in (1, 2, 3, 400)] == [10.0, 20.0, 25.0, 25.0]


IDLE: dict[str, Any] = {"status": TaskStatus.IDLE, "assigned_to": None}


@pytest.mark.parametrize("reason", [ExitReason.NOT_STARTED, ExitReason.START_FAILED, ExitReason.REBOOT])
@pytest.mark.parametrize("facts", [IDLE, {}])
def test_a_claim_that_was_broken_off_is_nobodys_word(reason: ExitReason, facts: dict[str, Any]) -> None:
    """The server may have the claim and not the rest of it: the task is still idle."""
    found = verdict(end(reason, started=False), attempts=1, runs=2, **facts)
    assert found.outcome is not Outcome.COMPLETE
    assert (found.settlement.verdict, found.settlement.charged) == (Verdict.RETRY, False)
    assert found.settlement.not_before > 0 or reason is ExitReason.REBOOT
    many = verdict(end(reason, started=False), attempts=1, runs=8, **facts)
    assert many.settlement.verdict is Verdict.PARK, "not for ever"


@pytest.mark.parametrize(
    "facts",
    [
        {"status": TaskStatus.COMPLETE},
        {"status": TaskStatus.CANCELLED},
        {"assigned_to": "ben"},
        {**IDLE, "assigned_to": "ben"},
    ],
)
def test_what_others_did_before_a_run_started_stands_and_is_not_its_success(facts: dict[str, Any]) -> None:
    found = verdict(end(ExitReason.NOT_STARTED, started=False), **facts)
    assert (found.outcome, found.settlement.verdict, found.settlement.charged) == (
        Outcome.CANCELLED, Verdict.STAND, False,
    )  # fmt: skip


def test_a_time_that_ran_out_before_the_agent_started_is_no_attempt() -> None:
    """The workspace's git remote hung, say."""
    found = verdict(end(ExitReason.TIMEOUT, started=False), attempts=2, runs=2)
    assert (found.outcome, found.settlement.verdict, found.settlement.charged) == (
        Outcome.FAILED, Verdict.RETRY, False,
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "left"), [(OverrideKind.KILL, Verdict.PARK), (OverrideKind.REQUEUE, Verdict.RETRY)])
@pytest.mark.parametrize("exit", [end(ExitReason.STOPPED), end(ExitReason.EXITED, 3), end(ExitReason.SHIM_DIED)])
def test_an_operators_kill_decides_however_the_run_ended(exit: RunExit, kind: OverrideKind, left: Verdict) -> None:
    found = verdict(exit, kill=kind, attempts=2, runs=50)
    assert (found.outcome, found.settlement.verdict) == (Outcome.INTERRUPTED, left)
    assert not found.settlement.charged
    assert found.settlement.not_before == 0.0
    assert found.reason.startswith("killed by op: why")


def test_work_that_was_done_before_the_kill_stands() -> None:
    assert verdict(end(ExitReason.EXITED, 0), evidence=True, kill=OverrideKind.KILL).outcome is Outcome.COMPLETE
    moved = verdict(end(ExitReason.STOPPED), kill=OverrideKind.KILL, status=TaskStatus.CANCELLED)
    assert moved.settlement.verdict is Verdict.STAND
