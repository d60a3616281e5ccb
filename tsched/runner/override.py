"""Local overrides in a pass: orders are taken up, edits of the view heeded, and what is in force is made so."""

from collections.abc import Iterable, Mapping, Sequence

from tsched.executors.executor import Executor, Liveness
from tsched.model.fleet import Fleet, OnDeadline
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.override import Lift, Override, OverrideKind
from tsched.model.run import ExitReason, Run
from tsched.runner.record import Pass
from tsched.runner.roster import homes
from tsched.schedule.override import carried, covers, deleted_by_hand, drain_of, kill_of, ordered
from tsched.state import overrides as store
from tsched.state import view
from tsched.state.requests import Request

BY_HAND = "deleted from agent-control.json by hand"
KILLS = (OverrideKind.KILL, OverrideKind.REQUEUE)


def follow(p: Pass, asked: Sequence[Request]) -> None:
    """Take up orders, in the open commit. Their events were written by the commands."""
    orders = store.orders(p.host.db, asked)
    if not orders:
        return
    p.overrides = store.load(p.host.db)
    store.keep(p.host.db, p.overrides)
    for order in orders:
        if isinstance(order, Lift) and drain_of(p.overrides, order.subject.removeprefix("agent/")) is None:
            let_go(p.host.executor, p.runs, p.applied.lifecycles, order)


def let_go(
    executor: Executor, runs: Mapping[str, Run], lifecycles: Mapping[tuple[str, str], Lifecycle], lift: Lift
) -> Sequence[str]:
    """Take back the deadline of a lifted drain from the agent's runs. Returns those that have begun to stop for it.

    Where git drains the agent too, its deadline stands.
    """
    late = []
    for run_id, run in runs.items():
        row = lifecycles.get((run.agent, run.queue))
        mine = lift.kind is OverrideKind.DRAIN and f"agent/{run.agent}" == lift.subject
        if mine and (row is None or row.state is AgentState.ACTIVE) and not executor.recall(run_id):
            late.append(run_id)
    return late


def heed_view(p: Pass) -> None:
    """The guide's emergency removal: an agent deleted from agent-control.json by hand is drained here.

    Any other edit of that file is put back, when the applied fleet is shown in it again.
    """
    if p.host.settings.repo is None or as_left(p):  # without a repo the file is no view
        return
    fleet, shown = p.applied.fleet, view.shown(p.host.db)
    if fleet is None or shown is None:
        return
    try:
        found = view.found(p.host.folder)
        by = view.owner(p.host.folder)
    except OSError:  # none there, or none that can be read: it is said where it is shown again
        return
    if found in (shown, view.rows(fleet, left_out(p))):  # the latter: killed before it could note what it had written
        return
    gone = [] if found is None else deleted_by_hand(shown, found, fleet, p.overrides)
    for name in gone:
        _removed(p, fleet, name, by)
    if found is None or set(found) != {row for row in shown if row[0] not in gone}:
        p.log.warning("agent-control.json was edited by hand and is put back: it only shows the applied fleet")


def _removed(p: Pass, fleet: Fleet, name: str, by: str) -> None:
    place = fleet.find(name)
    policy = None if place is None else place[0].drain
    drain = Override(
        kind=OverrideKind.DRAIN, subject=f"agent/{name}", since=p.now, by=by, reason=BY_HAND, policy=policy
    )
    p.overrides = ordered(p.overrides, [drain])
    p.event("override.set", drain.subject, str(drain))
    with p.commit():
        store.keep(p.host.db, p.overrides)
    p.log.warning(
        f"Agent '{name}' was {BY_HAND}: it takes no new task here, as by `tsched agent drain {name}`. git still "
        f"has it: `tsched agent remove {name} --pr` removes it there, `{drain.undo}` takes this back"
    )


def show(p: Pass) -> None:
    """Bring the view up to date, as cheaply as may be where nobody has touched it since this process last did."""
    if p.host.settings.repo is None:  # the file is the operator's own
        view.forget(p.host.db)
    elif p.applied.fleet is not None and not as_left(p):
        view.write(p.host.folder, p.host.db, p.applied.fleet, left_out(p))
        p.host.viewed = (_shown(p), left_out(p), view.mark(p.host.folder))


def as_left(p: Pass) -> bool:
    """Whether the view shows what it should, by its mark alone."""
    return p.host.viewed == (_shown(p), left_out(p), view.mark(p.host.folder))


def _shown(p: Pass) -> Mapping[str, str]:
    """What of the fleet the view shows: the same for two fleets that look the same in it."""
    return {} if p.applied.fleet is None else homes(p.host.kept, p.applied.fleet, of="applied")


def left_out(p: Pass) -> frozenset[str]:
    """Agents that the view leaves out."""
    return frozenset(one.name for one in p.overrides if one.kind is OverrideKind.DRAIN)


def carry(p: Pass, old: Fleet | None, new: Fleet) -> None:
    """What a new revision leaves of the overrides, in the commit that applies it."""
    before, p.overrides = p.overrides, carried(p.overrides, old, new)
    if before == p.overrides:
        return
    store.keep(p.host.db, p.overrides)
    for one in before:
        if one.key not in {kept.key for kept in p.overrides}:
            p.event("override.lifted", one.subject, f"{one.kind} of {one.subject}: git has changed what it was about")


def enforce(p: Pass) -> None:
    """Say what is in force, and stop the runs that it wants stopped."""
    with p.guarded("overrides", kind="override"):
        _forget_kills(p)
        say_standing(p)
        if not p.overrides:
            return
        live = {run_id: run for run_id, run in p.runs.items() if p.liveness[run_id] is Liveness.ALIVE}
        for one in p.overrides:
            stop_covered(p.host.executor, live, one)


def say_standing(p: Pass) -> None:
    """Nothing overridden is forgotten: one WARNING, each pass."""
    standing = [one for one in p.overrides if one.kind not in KILLS]
    if standing:
        p.log.warning(f"Overridden on this host: {'; '.join(map(str, standing))}")


def stop_covered(executor: Executor, runs: Mapping[str, Run], override: Override) -> Sequence[Run]:
    """Leave stop requests with the runs that an override wants stopped, now or at its deadline. Returns those.

    It needs no runner: each run's shim looks for them. Raises TransientError where one can't be written.
    """
    at = override.stops_at
    covered = [run for run in runs.values() if covers(override, run)] if at is not None else []
    if at is not None and covered:
        reason = ExitReason.STOPPED if override.now else ExitReason.DRAIN
        executor.stop([run.run_id for run in covered], reason=reason, at=at)
    return covered


def policy_at_deadline(p: Pass, run: Run) -> OnDeadline:
    """What becomes of a run that a drain's deadline ended: as frozen by git's drain, else by the local one."""
    row, local = p.applied.lifecycles.get((run.agent, run.queue)), drain_of(p.overrides, run.agent)
    policies = [row.policy if row is not None else None, local.policy if local is not None else None]
    return next((policy.on_deadline for policy in policies if policy is not None), OnDeadline.REQUEUE)


def forget_kill(p: Pass, run_id: str) -> None:
    """The order about a run has been followed; in the commit that decides its outcome."""
    kill = kill_of(p.overrides, run_id)
    if kill is not None:
        _drop(p, [kill])


def _forget_kills(p: Pass) -> None:
    """Runs that were over before the order to kill them came."""
    late = [one for one in p.overrides if one.kind in KILLS and one.name not in p.liveness]
    for one in late:
        p.log.warning(f"Run {one.name} had ended before it could be killed (by {one.by})")
        p.event("override.lifted", one.subject, "the run had ended before it could be killed")
    if late:
        with p.commit():
            _drop(p, late)


def _drop(p: Pass, gone: Iterable[Override]) -> None:
    keys = {one.key for one in gone}
    p.overrides = tuple(one for one in p.overrides if one.key not in keys)
    store.keep(p.host.db, p.overrides)
