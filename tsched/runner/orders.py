"""What commands order beside git: left in tsched.db for the runner, and done to runs at once, also without one."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from tsched.executors.executor import Liveness
from tsched.executors.local import LocalExecutor
from tsched.executors.runtimes import clean
from tsched.model.errors import ConfigurationError
from tsched.model.event import Event
from tsched.model.fleet import Fleet, Pool
from tsched.model.override import FLEET, Lift, Order, Override, OverrideKind
from tsched.model.run import Run
from tsched.runner.execution import executor_of
from tsched.runner.folder import folder_of
from tsched.runner.override import let_go, stop_covered
from tsched.schedule.override import Overrides, covers, ordered
from tsched.settings import Settings
from tsched.state import applied, events, overrides, requests
from tsched.state.applied import Applied
from tsched.state.database import Database
from tsched.state.lock import holder
from tsched.validate.near import Near

LOOK_AGAIN = 0.2  # seconds between two looks at runs that end
LONGEST_REASON = 500  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """An override as it is in force now, and the runs that it covers."""

    override: Override
    runs: Sequence[Run]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """What was taken back, None where nothing was in force. `late`: runs that stop all the same."""

    override: Override | None
    late: Sequence[str] = ()
    standing: Overrides = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """What an order is written with."""

    db: Database
    executor: LocalExecutor
    record: Applied
    now: float


def stop(settings: Settings, *, pool: str | None, now: bool, by: str, reason: str) -> Ordered:
    """Start nothing new, in the whole fleet or a pool; `now`: stop what runs too. Raises ConfigurationError."""
    with _desk(settings) as desk:
        found = None if pool is None else _pool(desk.record.fleet, pool)
        return _put(
            desk,
            Override(
                kind=OverrideKind.STOP, subject=FLEET if found is None else f"pool/{found.name}", since=desk.now,
                by=clean(by), reason=_reason(reason), now=now, queue="" if found is None else found.queue,
            ),
        )  # fmt: skip


def resume(settings: Settings, *, pool: str | None, by: str) -> Lifted:
    """Take the stop of the fleet, or of a pool, back. Raises ConfigurationError where another one is in force."""
    subject = FLEET if pool is None else f"pool/{pool}"
    with _desk(settings) as desk:
        stops = [one for one in overrides.load(desk.db) if one.kind is OverrideKind.STOP]
        if stops and subject not in {one.subject for one in stops}:
            words = "; ".join(f"{one}: `{one.undo}`" for one in stops)
            raise ConfigurationError(f"{subject} is not stopped by itself. In force: {words}")
        return _lift(desk, Lift(kind=OverrideKind.STOP, subject=subject, by=clean(by)))


def drain(settings: Settings, *, agent: str, now: bool, by: str, reason: str) -> Ordered:
    """Give an agent no new task, and end its runs by its pool's policy or now. Raises ConfigurationError.

    The agent keeps its place in git and its row: it is shown as cordoned or draining, but never deleted, and its
    waiting tasks stay its own, since `undrain` brings it back. They are handed back when git removes it.
    """
    with _desk(settings) as desk:
        pool = _pool_of(desk.record, agent)
        return _put(
            desk,
            Override(
                kind=OverrideKind.DRAIN, subject=f"agent/{agent}", since=desk.now, by=clean(by),
                reason=_reason(reason), now=now, policy=pool.drain,
            ),
        )  # fmt: skip


def undrain(settings: Settings, *, agent: str, by: str) -> Lifted:
    """Take an agent's local drain back; its runs go on, but for those that have begun to stop."""
    with _desk(settings) as desk:
        return _lift(desk, Lift(kind=OverrideKind.DRAIN, subject=f"agent/{agent}", by=clean(by)))


def kill(settings: Settings, *, task_id: str, requeue: bool, by: str, reason: str) -> Ordered:
    """Stop the run of a task, which is then parked, or goes back uncharged. Raises ConfigurationError."""
    with _desk(settings) as desk:
        run = next((run for run in live(desk.executor).values() if run.task_id == task_id), None)
        if run is None:
            raise ConfigurationError(
                f"no run of task {task_id!r} is under way here: `tsched status` lists runs, "
                "`tsched task cancel ID` takes a waiting task away"
            )
        kind = OverrideKind.REQUEUE if requeue else OverrideKind.KILL
        order = Override(
            kind=kind, subject=f"run/{run.run_id}", since=desk.now, by=clean(by), reason=_reason(reason), now=True
        )
        return _put(desk, order, subject=f"task/{task_id}")


def left(settings: Settings, order: Override) -> Iterator[Sequence[Run]]:
    """The runs that an order covers, each time they have changed; the last time there are none.

    It also waits for a live runner to take the order up: until then, a pass from before may still start a run.
    """
    folder, told = folder_of(settings), None
    executor = executor_of(settings, folder)
    with closing(Database.open(folder.db)) as db:
        while told != ():
            runner = holder(folder)
            pending = runner is not None and bool(overrides.orders(db, requests.pending(db)))
            runs = live(executor, lost=runner is not None)
            now = tuple(run for run in runs.values() if covers(order, run))
            if now != told and (now or not pending):
                yield now
                told = now
            if told != ():
                time.sleep(LOOK_AGAIN)


def live(executor: LocalExecutor, *, lost: bool = True) -> Mapping[str, Run]:
    """Runs that have not ended. `lost`: also those without a sign of life, which may be about to give the first."""
    states = [Liveness.ALIVE, *([Liveness.LOST] if lost else [])]
    runs = {run_id: executor.run(run_id) for run_id, state in executor.poll().items() if state in states}
    return {run_id: run for run_id, run in runs.items() if run is not None}


@contextmanager
def _desk(settings: Settings) -> Iterator[_Desk]:
    folder = folder_of(settings)
    folder.create()
    with closing(Database.open(folder.db)) as db:
        yield _Desk(db=db, executor=executor_of(settings, folder), record=applied.load(db), now=time.time())


def _put(desk: _Desk, order: Override, *, subject: str | None = None) -> Ordered:
    """The order before the deed: a run that ends for it is never judged without it."""
    standing = _leave(desk, order, "override.set", subject or order.subject, str(order))
    runs = live(desk.executor)
    whole = next(one for one in standing if one.key == order.key)
    stop_covered(desk.executor, runs, whole)
    covered = [run for run in runs.values() if covers(order, run)]
    return Ordered(override=whole, runs=covered)


def _lift(desk: _Desk, order: Lift) -> Lifted:
    before = next((one for one in overrides.load(desk.db) if one.key == order.key), None)
    if before is None:
        return Lifted(override=None)
    standing = _leave(
        desk, order, "override.lifted", order.subject, f"{order.kind} of {order.subject} lifted by {order.by}"
    )
    late = let_go(desk.executor, live(desk.executor), desk.record.lifecycles, order)
    return Lifted(override=before, late=late, standing=standing)


def _leave(desk: _Desk, order: Order, kind: str, subject: str, message: str) -> Overrides:
    revision = None if desk.record.fleet is None else desk.record.fleet.revision
    told = Event(
        time=desk.now, kind=kind, subject=subject, message=message, revision=revision,
        fields={"by": order.by, "override": order.kind},
    )  # fmt: skip
    with desk.db.transaction():
        before = overrides.load(desk.db)
        overrides.leave(desk.db, order, time=desk.now)
        events.append(desk.db, [told])
    return ordered(before, [order])


def _reason(text: str) -> str:
    return clean(" ".join(text.split()))[:LONGEST_REASON]


def _pool(fleet: Fleet | None, name: str) -> Pool:
    pools = {pool.name: pool for pool in (fleet.pools if fleet is not None else ())}
    if name not in pools:
        raise ConfigurationError(f"the applied fleet has no pool {name!r}{_meant(name, list(pools))}")
    return pools[name]


def _pool_of(record: Applied, agent: str) -> Pool:
    place = record.fleet.find(agent) if record.fleet is not None else None
    if place is not None:
        return place[0]
    if any(row.agent == agent for row in record.lifecycles.values()):
        raise ConfigurationError(
            f"git has removed {agent} already, it drains: `tsched kill TASK` ends its runs sooner"
        )
    names = [one.name for _, one in record.fleet.agents()] if record.fleet is not None else []
    raise ConfigurationError(f"the applied fleet has no agent {agent!r}{_meant(agent, names)}")


def _meant(name: str, known: Sequence[str]) -> str:
    near = Near()(name, known)
    return f": {', '.join(known) or 'it is empty'}" if near is None else f": did you mean {near}?"
