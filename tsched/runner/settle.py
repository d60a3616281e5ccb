"""The end of a run, from its exit record to the task server's word: each step can be repeated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from tsched.executors.answer import last_words
from tsched.executors.documents import documents
from tsched.executors.evidence import missing, usage
from tsched.executors.runtimes import clean
from tsched.executors.sessions import session_of
from tsched.model.errors import ConfigurationError, KnownOutage, TransientError
from tsched.model.fleet import Limits
from tsched.model.run import ExitReason, Outcome, Run, RunExit, RunResult, Usage
from tsched.model.secrets import without
from tsched.model.task import Task, Verdict
from tsched.model.units import count, iso
from tsched.runner.override import forget_kill, policy_at_deadline
from tsched.runner.patient import MOST_FAILURES
from tsched.runner.record import Pass
from tsched.schedule.breaker import Breaker, after
from tsched.schedule.override import kill_of
from tsched.schedule.recovery import Judgement, judge
from tsched.state import breakers, history

T = TypeVar("T")
AUTHOR = "tsched"
MOST_WORDS = 2000  # characters of an agent's last words that a comment quotes
LINES = 20_000  # of a run's log that are looked at for figures; agents that stream write a line a word


def settle_all(p: Pass, ends: Mapping[str, RunExit]) -> None:
    known = {run_id: end for run_id, end in ends.items() if run_id in p.runs}
    for run_id in ends.keys() - known.keys():
        p.log.warning(f"Run {run_id} has no readable record: removed; its task is released by its claim")
        p.event("run.unreadable", f"run/{run_id}", "its record could not be read")
        p.host.executor.discard(run_id, succeeded=False)
        forget(p, run_id)
    if not known:
        return
    ended = [(p.runs[run_id], end) for run_id, end in known.items()]
    try:
        tasks = p.host.tasks.get({run.task_id for run, _ in ended})
    except TransientError as error:
        p.fault("task-server", f"task server: {{}}; the results of {count(len(known), 'run')} wait for it", error)
        if len(ended) > 1:  # it may be one task's fault alone
            each(p, ended, lambda one: settle(p, *one, p.host.tasks.get([one[0].task_id]).get(one[0].task_id)))
        return
    each(p, ended, lambda one: settle(p, *one, tasks.get(one[0].task_id)))


def each(p: Pass, things: Sequence[T], do: Callable[[T], None]) -> None:
    """Do it to each. What the task server refuses of one thing holds up no other, until too many failed in a row."""
    failures = 0
    for number, thing in enumerate(things):
        if number and p.late():
            return
        try:
            do(thing)
            failures = 0
        except (TransientError, ConfigurationError) as error:
            p.fault("task-server", "task server: {}", error)
            failures += 1
            if failures == MOST_FAILURES or isinstance(error, KnownOutage):
                return


def settle(p: Pass, run: Run, end: RunExit, task: Task | None) -> None:
    """The end of a run, as a sequence in which each step can be repeated (DESIGN section 4, "Reaping")."""
    host = p.host
    saved = host.executor.salvage(run.run_id)
    stored = history.find(host.db, run.run_id)
    ours = task is not None and task.claim_run == run.run_id
    if stored is None and not ours and not end.started:
        p.event("run.fenced", f"run/{run.run_id}", f"never started: task {run.task_id} was not claimed for it")
        _finish(p, run, succeeded=False)
        return
    if stored is None:
        stored = _record(p, run, end, _judge(p, run, end, task))
    if not stored.acknowledged:
        deliver(p, stored, saved)
    _finish(p, run, succeeded=stored.outcome is Outcome.COMPLETE)


def _judge(p: Pass, run: Run, end: RunExit, task: Task | None) -> Judgement:
    succeeded = end.reason is ExitReason.EXITED and end.exit_code == 0
    output = p.host.executor.tail(run.run_id, lines=LINES)
    lacking = missing(run, end, output, _earlier(p, run)) if succeeded else ""
    limits = p.applied.fleet.limits if p.applied.fleet is not None else Limits()
    return judge(
        exit=end, run=run, task=task, missing=lacking, retry=limits.retry,
        on_deadline=policy_at_deadline(p, run), kill=kill_of(p.overrides, run.run_id),
        stalled_before=end.reason is ExitReason.STALLED and _stalled_before(p, run), now=p.now,
    )  # fmt: skip


def _earlier(p: Pass, run: Run) -> Usage | None:
    """What was spent in the conversation that the run went on with; None where it began one."""
    if not run.session:
        return None
    results = [one for one in history.of_task(p.host.db, run.task_id) if one.session == run.session]
    return sum((one.usage for one in results if one.usage is not None), Usage())


def _stalled_before(p: Pass, run: Run) -> bool:
    """Whether the attempt before this one was stopped for the same reason. A reopened task counts anew."""
    last = next(reversed(history.of_task(p.host.db, run.task_id)), None)
    return last is not None and last.run.attempt == run.attempt - 1 and last.exit.reason is ExitReason.STALLED


def _record(p: Pass, run: Run, end: RunExit, verdict: Judgement) -> RunResult:
    output = p.host.executor.tail(run.run_id, lines=LINES) if end.started else ""
    spent = usage(run.runtime, output, _earlier(p, run))
    result = RunResult(
        run=replace(run, response=""),
        exit=replace(end, detail=_told(p, end.detail), unmet=_told(p, end.unmet)),
        outcome=verdict.outcome,
        reason=_told(p, verdict.reason),
        settlement=verdict.settlement,
        usage=spent,
        session=session_of(run, f"{p.host.executor.head(run.run_id)}\n{output}") if end.started else "",
    )
    p.event(
        f"run.{verdict.outcome}", f"task/{run.task_id}", f"{run.agent}: {result.reason}",
        run_id=run.run_id, agent=run.agent, attempt=run.attempt, exit_code=end.exit_code,
        tokens=None if spent is None else spent.total_tokens, cost_usd=None if spent is None else spent.cost_usd,
    )  # fmt: skip
    with p.commit():
        _count(p, result)
        forget_kill(p, run.run_id)
        stored = history.record(p.host.db, result)
    p.ended.append(stored)
    return stored


def _count(p: Pass, result: RunResult) -> None:
    """What a result means for its recipe's breaker."""
    run, fleet = result.run, p.applied.fleet
    recipe = fleet.recipes.get(run.recipe) if fleet is not None else None
    if recipe is None or recipe.content != run.content or not result.exit.started:
        return  # of a text that is no longer run, or of a machine
    if result.exit.reason in (ExitReason.DRAIN, ExitReason.SHIM_DIED):
        return  # not the recipe's doing
    known = p.breakers.get(run.recipe)
    if known is None or known.content != run.content:
        known = Breaker(recipe=run.recipe, content=run.content)
    now = after(known, result.outcome, task_id=run.task_id, now=p.now)
    if now == known:
        return
    breakers.put(p.host.db, now)
    p.breakers = {**p.breakers, run.recipe: now}
    if now.until > known.until:
        words = (
            f"its last {count(now.failures, 'run')} failed: no more start before {iso(now.until)}, "
            "then one tries; a change of the recipe ends this"
        )
        p.log.warning(f"{run.recipe}: {words}")
        p.event("breaker.opened", f"recipe/{run.recipe}", words, failures=now.failures)
    elif known.open and not now.open:
        p.log.info(f"{run.recipe}: a run was complete, its breaker is closed")
        p.event("breaker.closed", f"recipe/{run.recipe}", f"run {run.run_id} was complete")


def deliver(p: Pass, result: RunResult, saved: Sequence[str]) -> None:
    """Give the task server the decided result: a remark for people, then the task's new state."""
    run = result.run
    if result.outcome is not Outcome.COMPLETE or saved:
        p.host.tasks.comment(run.task_id, author=AUTHOR, text=_remark(p, result, saved), tag=run.run_id)
    p.host.tasks.settle(run.task_id, run.run_id, result.settlement)
    with p.commit():
        history.acknowledge(p.host.db, run.run_id)


def _remark(p: Pass, result: RunResult, saved: Sequence[str]) -> str:
    run = result.run
    spent = "" if result.usage is None else f" ({result.usage})"
    lines = [f"run {run.run_id} by {run.agent}: {result.outcome}: {result.reason}{spent}", *saved]
    if result.settlement.verdict is Verdict.PARK:
        lines.append(f"Parked for a person: to put it back, {p.host.tasks.unpark.format(id=run.task_id)}")
    if result.outcome in (Outcome.FAILED, Outcome.UNPROVEN):
        said = last_words(run.runtime, documents(p.host.executor.tail(run.run_id, lines=LINES)))[-MOST_WORDS:]
        if said:
            lines += ["Its last words:", said]
        elif tail := p.host.executor.tail(run.run_id):
            lines += ["The end of its log:", tail]
    return _told(p, "\n".join(lines))


def _told(p: Pass, text: str) -> str:
    """An agent's words as they may be told: it may say half a character, or the key that it was given."""
    return without(clean(text), p.host.settings.secrets)


def _finish(p: Pass, run: Run, *, succeeded: bool) -> None:
    p.host.leases.remove(run.task_id, run.run_id)
    p.host.executor.discard(run.run_id, succeeded=succeeded)
    p.log.count(runs_ended=1)
    forget(p, run.run_id)


def forget(p: Pass, run_id: str) -> None:
    p.runs.pop(run_id, None)
    p.liveness.pop(run_id, None)
