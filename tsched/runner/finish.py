"""Steps 7a: reap finished runs, recover lost ones, and make claims, leases and runs agree again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from tsched.executors.answer import last_words
from tsched.executors.documents import documents
from tsched.executors.evidence import missing, usage
from tsched.executors.executor import Liveness
from tsched.executors.runtimes import clean
from tsched.executors.sessions import session_of
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.fleet import Limits
from tsched.model.run import ExitReason, Outcome, Run, RunExit, RunResult, Usage
from tsched.model.secrets import without
from tsched.model.task import Settlement, Task, TaskStatus, Verdict
from tsched.model.units import count, iso
from tsched.runner.override import forget_kill, policy_at_deadline
from tsched.runner.record import Pass
from tsched.schedule.breaker import Breaker, after
from tsched.schedule.override import kill_of
from tsched.schedule.recovery import Judgement, judge
from tsched.state import breakers, events, history

T = TypeVar("T")
AUTHOR = "tsched"
MOST_WORDS = 2000  # characters of an agent's last words that a comment quotes
AGAIN = 24 * 3600.0  # seconds after which a task that is adrift is named again
MOST_FAILURES = 3  # in a row, each after its own repetitions: then it is the server, and the pass goes on
LINES = 20_000  # of a run's log that are looked at for figures; agents that stream write a line a word


def survey(p: Pass) -> None:
    """Look at every run there is a record of: who it is and whether it lives."""
    p.liveness = p.host.executor.poll()
    if words := p.host.executor.trouble():
        p.error("executor", f"{words}; its runs are left as they are")
    runs = {run_id: p.host.executor.run(run_id) for run_id in p.liveness}
    p.runs = {run_id: run for run_id, run in runs.items() if run is not None}


def reap(p: Pass) -> None:
    """Settle each run whose end is on record, and go on with what earlier ones left to remove."""
    executor = p.host.executor
    with p.guarded("workspaces", kind="workspace"):
        executor.tidy()
    ended = [run_id for run_id, state in p.liveness.items() if state is Liveness.ENDED]
    _settle_all(p, {run_id: end for run_id in ended if (end := executor.exit(run_id)) is not None})


def recover(p: Pass) -> None:
    """Fence each lost run, kill what is left of it, then settle it like any other."""
    lost = [run_id for run_id, state in p.liveness.items() if state is Liveness.LOST]
    ends: dict[str, RunExit] = {}
    for run_id in lost:
        end = p.host.executor.recover(run_id)
        if end is None:
            p.log.warning(f"Run {run_id} is lost but something of it still lives; asking again next pass")
            continue
        ends[run_id] = end
        if run_id in p.runs:
            task = p.runs[run_id].task_id
            p.log.warning(f"Stale lease detected: task={task}, agent={p.runs[run_id].agent}, reason={end.reason}")
            p.log.count(leases_reclaimed=1)
    _settle_all(p, ends)


def agree(p: Pass) -> None:
    """Both ways: a claim of ours without a run is released, a lease without a run is dropped, links are mended."""
    _sweep_leases(p)
    with p.guarded("task server", kind="task-server"):
        _each(p, p.host.tasks.held(p.host.runner_id), lambda task: _claimed(p, task))
        _deliver_late(p)
        _say_adrift(p)
        p.elsewhere = p.host.tasks.others(p.host.runner_id)


def _claimed(p: Pass, task: Task) -> None:
    if task.claim_run is None:
        return
    if task.claim_run in p.liveness:
        _obey(p, task, task.claim_run)
    else:
        _release(p, task, task.claim_run)


def _say_adrift(p: Pass) -> None:
    """Name, once a day each, the tasks of ours that are being worked on by nobody's run. They are never touched."""
    fleet = p.applied.fleet
    queues = {pool.queue for pool in fleet.pools} if fleet is not None else set()
    agents = {agent.name for _, agent in fleet.agents()} if fleet is not None else set()
    for task in p.host.tasks.adrift():
        ours = task.queue in queues or task.assigned_to in agents
        if ours and not events.known(p.host.db, "task.adrift", f"task/{task.id}", since=p.now - AGAIN):
            words = "it is being worked on without a claim, by a person or an agent: make it idle and it is tried"
            p.log.warning(f"Task {task.id} is left alone: {words}")
            p.event("task.adrift", f"task/{task.id}", words, assigned_to=task.assigned_to)


def _release(p: Pass, task: Task, run_id: str) -> None:
    """Let go of a claim whose run is no more: as was decided, or else back to the queue."""
    stored = history.find(p.host.db, run_id)
    if stored is None:
        p.log.warning(f"Requeued task {task.id}")
        p.event("claim.released", f"task/{task.id}", f"run {run_id} left no trace: its claim is released")
        p.host.tasks.settle(task.id, run_id, Settlement(verdict=Verdict.RETRY, charged=False))
    elif stored.acknowledged:
        p.host.tasks.settle(task.id, run_id, stored.settlement)


def _obey(p: Pass, task: Task, run_id: str) -> None:
    """Stop a run whose task was cancelled under it."""
    if task.status is TaskStatus.CANCELLED and p.liveness[run_id] is Liveness.ALIVE:
        p.host.executor.stop([run_id], reason=ExitReason.CANCELLED, at=p.now)


def _sweep_leases(p: Pass) -> None:
    scan = p.host.leases.read_all()
    p.log.count(leases_scanned=len(scan.leases))
    busy = {run.task_id for run in p.runs.values()}
    for task_id, lease in scan.leases.items():
        if lease.run_id not in p.liveness:
            p.host.leases.remove(task_id, lease.run_id)
            p.log.warning(f"Dropped the lease of task {task_id}: no run {lease.run_id or '(none named)'} is left")
            p.event("lease.dropped", f"task/{task_id}", f"no run {lease.run_id} is left")
    for name in scan.unreadable:
        task_id = name.removeprefix("task_").removesuffix(".json")
        if task_id in busy:
            p.log.warning(f"Unreadable lease {name}: its run goes on, its lease is made anew when it can be")
        else:
            p.host.leases.remove(task_id, None)
            p.log.warning(f"Dropped the unreadable lease {name}: no run of task {task_id} is left")
            p.event("lease.dropped", f"task/{task_id}", "it could not be read and no run of the task is left")
    p.host.leases.mend_links({task: lease for task, lease in scan.leases.items() if lease.run_id in p.liveness})


def _settle_all(p: Pass, ends: Mapping[str, RunExit]) -> None:
    known = {run_id: end for run_id, end in ends.items() if run_id in p.runs}
    for run_id in ends.keys() - known.keys():
        p.log.warning(f"Run {run_id} has no readable record: removed; its task is released by its claim")
        p.event("run.unreadable", f"run/{run_id}", "its record could not be read")
        p.host.executor.discard(run_id, succeeded=False)
        _forget(p, run_id)
    if not known:
        return
    try:
        tasks = p.host.tasks.get({p.runs[run_id].task_id for run_id in known})
    except TransientError as error:
        p.error("task-server", f"task server: {error}; the results of {count(len(known), 'run')} wait for it")
        return
    ended = [(p.runs[run_id], end) for run_id, end in known.items()]
    _each(p, ended, lambda one: settle(p, *one, tasks.get(one[0].task_id)))


def _each(p: Pass, things: Sequence[T], do: Callable[[T], None]) -> None:
    """Do it to each. What the task server refuses of one thing holds up no other, until too many failed in a row."""
    failures = 0
    for thing in things:
        try:
            do(thing)
            failures = 0
        except (TransientError, ConfigurationError) as error:
            p.error("task-server", f"task server: {error}")
            failures += 1
        if failures == MOST_FAILURES:
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
        _deliver(p, stored, saved)
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


def _deliver(p: Pass, result: RunResult, saved: Sequence[str]) -> None:
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
    _forget(p, run.run_id)


def _forget(p: Pass, run_id: str) -> None:
    p.runs = {key: run for key, run in p.runs.items() if key != run_id}
    p.liveness = {key: state for key, state in p.liveness.items() if key != run_id}


def _deliver_late(p: Pass) -> None:
    """Results that were decided but never delivered, and whose run's folder is gone (removed by hand)."""
    late = [one for one in history.unacknowledged(p.host.db) if one.run.run_id not in p.liveness]
    _each(p, late, lambda result: _deliver(p, result, ()))
