"""Makes claims, leases and runs agree again, and names what the task server holds that can't be used."""

import os
from collections.abc import Iterator, Mapping, Sequence

from tsched.executors.executor import Liveness
from tsched.model.run import ExitReason
from tsched.model.task import Settlement, Task, TaskStatus, Verdict
from tsched.runner.record import Pass
from tsched.runner.settle import deliver, each
from tsched.state import events, history
from tsched.state.leases import LeaseScan, task_named

MANY = 500  # claims that are let go of before the next step
AGAIN = 24 * 3600.0  # seconds after which a task that is adrift is named again


def agree(p: Pass) -> None:
    """Both ways: a claim of ours without a run is released, a lease without a run is dropped, links are mended."""
    _sweep_leases(p)
    with p.guarded("task server", kind="task-server"):
        held = p.host.tasks.held(p.host.runner_id)
        due = _due(p, held)
        for start in range(0, len(due), MANY):
            with p.host.tasks.together():
                each(p, due[start : start + MANY], lambda task: _claimed(p, task))
        _deliver_late(p)
        _say_adrift(p)
        p.elsewhere = p.host.tasks.others(p.host.runner_id)


def _due(p: Pass, held: Sequence[Task]) -> Sequence[Task]:
    """Claims whose run is no more, or whose task was cancelled."""
    if len(p.liveness) == len(p.surveyed) and not p.host.kept(_any_due, held, p.surveyed):
        return ()
    return [one for one in held if one.claim_run not in p.liveness or one.status is TaskStatus.CANCELLED]


def _any_due(held: Sequence[Task], runs: Mapping[str, Liveness]) -> bool:
    return any(one.claim_run not in runs or one.status is TaskStatus.CANCELLED for one in held)


def _claimed(p: Pass, task: Task) -> None:
    if task.claim_run is None:
        return
    if task.claim_run in p.liveness:
        _obey(p, task, task.claim_run)
    else:
        _release(p, task, task.claim_run)


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
    scan = p.host.leases.scan()
    p.log.count(leases_scanned=len(scan.leases))
    tasks, dropped = p.host.kept(_tasks, scan), set[str]()
    if len(p.liveness) < len(p.surveyed) or not p.host.kept(_sound, scan, p.surveyed):
        dropped = {*_drop_orphans(p, scan), *_drop_unreadable(p, scan)}
    live = {task: lease for task, lease in scan.leases.items() if task not in dropped} if dropped else scan.leases
    p.host.leases.mend_links(live)
    gone = {task for task in dropped if not os.path.lexists(p.host.leases.path(task))}
    p.leased = tasks - gone if gone else tasks


def _tasks(scan: LeaseScan) -> frozenset[str]:
    return scan.tasks


def _sound(scan: LeaseScan, runs: Mapping[str, Liveness]) -> bool:
    """Whether every lease is a run's that is there."""
    return not scan.unreadable and all(lease.run_id in runs for lease in scan.leases.values())


def _drop_orphans(p: Pass, scan: LeaseScan) -> Iterator[str]:
    """Drop the leases of runs that are no more. Their tasks."""
    orphans = [(task_id, lease) for task_id, lease in scan.leases.items() if lease.run_id not in p.liveness]
    for task_id, lease in orphans:
        p.host.leases.remove(task_id, lease.run_id, lasting=False)
        p.log.warning(f"Dropped the lease of task {task_id}: no run {lease.run_id or '(none named)'} is left")
        p.event("lease.dropped", f"task/{task_id}", f"no run {lease.run_id} is left")
        yield task_id
    if orphans:
        p.host.leases.sync()


def _drop_unreadable(p: Pass, scan: LeaseScan) -> Iterator[str]:
    """Drop what can't be read and is no lease of a run that is there. The tasks of those that went."""
    busy = {run.task_id for run in p.runs.values()}
    for name in scan.unreadable:
        task_id = task_named(name)
        if task_id in busy:
            p.log.warning(f"Unreadable lease {name}: its run goes on, its lease is made anew when it can be")
        else:
            p.host.leases.remove(task_id, None)
            p.log.warning(f"Dropped the unreadable lease {name}: no run of task {task_id} is left")
            p.event("lease.dropped", f"task/{task_id}", "it could not be read and no run of the task is left")
            yield task_id


def _deliver_late(p: Pass) -> None:
    """Results that were decided but never delivered, and whose run's folder is gone (removed by hand)."""
    late = [one for one in history.unacknowledged(p.host.db) if one.run.run_id not in p.liveness]
    each(p, late, lambda result: deliver(p, result, ()))


def _say_adrift(p: Pass) -> None:
    """Name, once a day each, the tasks of ours that are being worked on by nobody's run. They are never touched."""
    fleet, adrift = p.applied.fleet, p.host.tasks.adrift()
    if not adrift:
        return
    queues = {pool.queue for pool in fleet.pools} if fleet is not None else set()
    agents = {agent.name for _, agent in fleet.agents()} if fleet is not None else set()
    for task in adrift:
        ours = task.queue in queues or task.assigned_to in agents
        if ours and not events.known(p.host.db, "task.adrift", f"task/{task.id}", since=p.now - AGAIN):
            words = "it is being worked on without a claim, by a person or an agent: make it idle and it is tried"
            p.log.warning(f"Task {task.id} is left alone: {words}")
            p.event("task.adrift", f"task/{task.id}", words, assigned_to=task.assigned_to)


def say_odd(p: Pass) -> None:
    """Name, once a day each, what the task server lists that is no task."""
    for name, words in p.host.tasks.odd().items():
        if not events.known(p.host.db, "task.odd", f"task/{name}", since=p.now - AGAIN):
            p.log.warning(f"Task {name} can't be used and is left out: {words}: mend it on the task server")
            p.event("task.odd", f"task/{name}", words)
