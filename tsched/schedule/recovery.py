"""What the end of a run means for its task: outcome, retry when, give up when (DESIGN section 4)."""

import signal
from typing import assert_never

from tsched.model.fleet import OnDeadline, Retry
from tsched.model.override import Override, OverrideKind
from tsched.model.records import dataclass
from tsched.model.run import ExitReason, Outcome, Run, RunExit
from tsched.model.task import Settlement, Task, TaskStatus, Verdict
from tsched.model.units import format_duration

RUNS_PER_ATTEMPT = 3  # runs of any kind, charged or not, that park a task: 3 x attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The outcome of a run, why (words for a person), and how its task is left."""

    outcome: Outcome
    reason: str
    settlement: Settlement


def judge(
    *,
    exit: RunExit,
    run: Run,
    task: Task | None,
    missing: str,
    retry: Retry,
    on_deadline: OnDeadline = OnDeadline.REQUEUE,
    stalled_before: bool = False,
    kill: Override | None = None,
    now: float,
) -> Judgement:
    """Decide once what a run came to. `task`: as the task server has it now, None where it is gone.

    `missing`: what a run that exited with 0 lacks as proof of success, in words; "" where it lacks nothing.

    `on_deadline` is the policy frozen at the agent's cordon; `stalled_before`: the attempt before made no progress
    either. `kill`: what an operator ordered to become of the run. `now`: seconds since the epoch.
    """
    if task is None:
        return _stands(Outcome.CANCELLED, "its task is gone from the task server", exit)
    if (word := _own_word(run, task) if exit.started else _meanwhile(run, task)) is not None:
        return _stands(*word, exit)
    outcome, reason, charged = _outcome(exit, missing)
    if outcome is Outcome.COMPLETE:
        return Judgement(outcome=outcome, reason=reason, settlement=Settlement(verdict=Verdict.COMPLETE))
    if kill is not None:
        return _killed(kill, reason if exit.reason is not ExitReason.STOPPED else "", run)
    if exit.reason is ExitReason.DRAIN and on_deadline is OnDeadline.FAIL:
        parked = Settlement(verdict=Verdict.PARK, charged=charged)
        return Judgement(outcome=Outcome.FAILED, reason=f"{reason}; on_deadline is fail", settlement=parked)
    if exit.reason is ExitReason.STALLED and stalled_before:
        parked = Settlement(verdict=Verdict.PARK)
        return Judgement(outcome=outcome, reason=f"{reason}, as the attempt before", settlement=parked)
    return _again(outcome, reason, charged, run, task, retry, now, delayed=_delayed(outcome, exit))


def _stands(outcome: Outcome, reason: str, exit: RunExit) -> Judgement:
    settlement = Settlement(verdict=Verdict.STAND, charged=exit.started)
    return Judgement(outcome=outcome, reason=reason, settlement=settlement)


def _killed(kill: Override, ended: str, run: Run) -> Judgement:
    """An operator's word comes before any limit: it is neither charged nor counted against the task's runs."""
    words = [f"killed by {kill.by}", *([kill.reason] if kill.reason else []), *([ended] if ended else [])]
    verdict = Verdict.PARK if kill.kind is OverrideKind.KILL else Verdict.RETRY
    owner = run.assigned_before if verdict is Verdict.RETRY else None
    settlement = Settlement(verdict=verdict, charged=False, assigned_to=owner)
    return Judgement(outcome=Outcome.INTERRUPTED, reason=": ".join(words), settlement=settlement)


def _own_word(run: Run, task: Task) -> tuple[Outcome, str] | None:
    """The agent's own word on the task, or a person's, given while the run went on."""
    if task.status is TaskStatus.CANCELLED:
        return Outcome.CANCELLED, "the task was cancelled"
    if task.status is TaskStatus.COMPLETE:
        return Outcome.COMPLETE, "the task was completed by the agent itself"
    if task.status is not TaskStatus.WORKING or task.assigned_to != run.agent:
        return Outcome.COMPLETE, f"the task was handed over ({task.status}, {task.assigned_to or 'unassigned'})"
    return None


def _meanwhile(run: Run, task: Task) -> tuple[Outcome, str] | None:
    """What others did to the task of a run that never started; None where it is as the run's claim found or left it.

    A claim that was broken off leaves the task idle: that is nobody's word.
    """
    if task.status in (TaskStatus.CANCELLED, TaskStatus.COMPLETE):
        return Outcome.CANCELLED, f"the task was {task.status} before the run started"
    found = (task.status, task.assigned_to) == (TaskStatus.IDLE, run.assigned_before)
    if found or (task.status, task.assigned_to) == (TaskStatus.WORKING, run.agent):
        return None
    words = f"the task was given away before the run started ({task.status}, {task.assigned_to or 'unassigned'})"
    return Outcome.CANCELLED, words


def _outcome(exit: RunExit, missing: str) -> tuple[Outcome, str, bool]:
    """Outcome, reason and whether the run counts as an attempt."""
    detail = f": {exit.detail}" if exit.detail else ""
    match exit.reason:
        case ExitReason.EXITED if exit.exit_code == 0 and not missing:
            return Outcome.COMPLETE, "exit status 0", True
        case ExitReason.EXITED if exit.exit_code == 0:
            return Outcome.UNPROVEN, f"exit status 0, but {missing}", True
        case ExitReason.EXITED:
            return Outcome.FAILED, _status(exit.exit_code) + detail, True
        case ExitReason.TIMEOUT:
            return Outcome.FAILED, "max_runtime passed" + detail, exit.started
        case ExitReason.STALLED:
            return Outcome.FAILED, "it made no progress" + detail, True
        case ExitReason.SHIM_DIED:
            return Outcome.FAILED, "the run's shim died" + detail, exit.started
        case ExitReason.START_FAILED:
            return Outcome.FAILED, "could not be started" + detail, False
        case ExitReason.CANCELLED:
            return Outcome.CANCELLED, "stopped because its task was cancelled", False
        case (
            ExitReason.DRAIN | ExitReason.STOPPED | ExitReason.LEASE_GONE | ExitReason.NOT_STARTED | ExitReason.REBOOT
        ):
            return Outcome.INTERRUPTED, _INTERRUPTED[exit.reason] + detail, False
    assert_never(exit.reason)


_INTERRUPTED = {
    ExitReason.DRAIN: "the deadline of its agent's drain passed",
    ExitReason.STOPPED: "stopped by an operator",
    ExitReason.LEASE_GONE: "its lease was removed",
    ExitReason.NOT_STARTED: "it never started",
    ExitReason.REBOOT: "the machine was restarted",
}


def _status(code: int | None) -> str:
    if code is not None and code > 128:
        try:
            return f"ended by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return f"exit status {code}"


def _delayed(outcome: Outcome, exit: RunExit) -> bool:
    return outcome in (Outcome.FAILED, Outcome.UNPROVEN) or exit.reason is ExitReason.NOT_STARTED


def _again(
    outcome: Outcome, reason: str, charged: bool, run: Run, task: Task, retry: Retry, now: float, *, delayed: bool
) -> Judgement:
    attempts, runs = task.attempts + charged, task.runs + 1
    if charged and attempts >= retry.attempts:
        parked = Settlement(verdict=Verdict.PARK, charged=True)
        return Judgement(
            outcome=outcome, reason=f"{reason} (attempt {attempts} of {retry.attempts})", settlement=parked
        )
    if runs >= RUNS_PER_ATTEMPT * retry.attempts:
        parked = Settlement(verdict=Verdict.PARK, charged=charged)
        return Judgement(outcome=outcome, reason=f"{reason} ({runs} runs of any kind)", settlement=parked)
    wait = backoff(retry, attempts if charged else runs) if delayed else 0.0
    if charged:
        reason += f" (attempt {attempts} of {retry.attempts}, again in {format_duration(wait)})"
    settlement = Settlement(
        verdict=Verdict.RETRY, charged=charged, not_before=now + wait, assigned_to=run.assigned_before
    )
    return Judgement(outcome=outcome, reason=reason, settlement=settlement)


def backoff(retry: Retry, failures: int) -> float:
    """Seconds to wait after the n-th failure: backoff x 2^(n-1), at most max_backoff."""
    return float(min(retry.backoff * 2.0 ** min(failures - 1, 60), retry.max_backoff))
