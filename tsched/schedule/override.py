"""What local overrides mean: who may start work, which runs they cover, what a new fleet leaves of them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import assert_never

from tsched.model.fleet import Fleet, OnDeadline, Pool
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.override import FLEET, Lift, Order, Override, OverrideKind
from tsched.model.run import Run

Overrides = tuple[Override, ...]  # one for each key, by key
Shown = Collection[tuple[str, str]]  # agents and their queues, as the view of the fleet lists them


def ordered(standing: Overrides, orders: Iterable[Order]) -> Overrides:
    """The overrides in force after these orders, oldest first. To repeat orders that were followed changes nothing.

    One that is ordered again keeps its beginning, so a drain's deadline stays where it is, and may only gain force.
    """
    found = {one.key: one for one in standing}
    for order in orders:
        match order:
            case Lift():
                found.pop(order.key, None)
            case Override():
                before = found.get(order.key)
                found[order.key] = order if before is None else _again(before, order)
            case _:
                assert_never(order)
    return tuple(found[key] for key in sorted(found))


def _again(before: Override, order: Override) -> Override:
    return replace(
        order,
        since=before.since,
        now=before.now or order.now,
        policy=before.policy or order.policy,
        reason=order.reason or before.reason,
    )


def stop_of(overrides: Overrides, queue: str) -> Override | None:
    """The stop that keeps a queue's pool from starting anything, the fleet's before the pool's own."""
    stops = [one for one in overrides if one.kind is OverrideKind.STOP]
    return next((one for one in stops if one.subject == FLEET or one.queue == queue), None)


def drain_of(overrides: Overrides, agent: str) -> Override | None:
    """The local drain of an agent."""
    return next((one for one in overrides if one.key == (OverrideKind.DRAIN, f"agent/{agent}")), None)


def kill_of(overrides: Overrides, run_id: str) -> Override | None:
    """What an operator ordered to become of a run."""
    kinds = (OverrideKind.KILL, OverrideKind.REQUEUE)
    return next((one for one in overrides if one.kind in kinds and one.name == run_id), None)


def admitted(overrides: Overrides, queue: str, agent: str) -> bool:
    """Whether an agent may start work in its pool, as far as overrides go."""
    return stop_of(overrides, queue) is None and drain_of(overrides, agent) is None


def shown_state(row: Lifecycle, local: Override | None, running: int, *, suspended: bool) -> AgentState:
    """Where an agent stands for whoever looks: git's word before its local drain, that before its pool's suspension.

    Under a local drain it is draining while it has runs, else cordoned.
    """
    if row.state is not AgentState.ACTIVE:
        return row.state
    if local is not None:
        return AgentState.DRAINING if running else AgentState.CORDONED
    return AgentState.SUSPENDED if suspended else AgentState.ACTIVE


def shown_drain(row: Lifecycle, local: Override | None) -> tuple[float, float, OnDeadline] | None:
    """Git's drain, else the local one: since when and until when (seconds since the epoch), and what then."""
    if row.state is AgentState.ACTIVE:
        if local is None or local.policy is None:
            return None
        if local.now:
            return local.since, local.since, OnDeadline.REQUEUE
        return local.since, local.since + local.policy.deadline, local.policy.on_deadline
    if row.policy is None or row.deadline is None:
        return None
    return row.since, row.deadline, row.policy.on_deadline


def covers(override: Override, run: Run) -> bool:
    """Whether a run is among those that the override is about."""
    match override.kind:
        case OverrideKind.STOP:
            return override.subject == FLEET or run.queue == override.queue
        case OverrideKind.DRAIN:
            return run.agent == override.name
        case OverrideKind.KILL | OverrideKind.REQUEUE:
            return run.run_id == override.name


def carried(overrides: Overrides, old: Fleet | None, new: Fleet) -> Overrides:
    """What is left of them once `new` is applied.

    The drain of an agent that git removes goes with it, and the stop of a pool that is gone: their work is done. A
    pool's new name is a new label, as everywhere.
    """
    return ordered((), (kept for one in overrides if (kept := _carried(one, old, new)) is not None))


def _carried(override: Override, old: Fleet | None, new: Fleet) -> Override | None:
    match override.kind:
        case OverrideKind.DRAIN:
            return override if new.find(override.name) is not None else None
        case OverrideKind.STOP if override.subject != FLEET:
            pool = _heir(override, new)
            known = old is None or _heir(override, old) is not None
            if pool is None:
                return None if known else override
            return replace(override, subject=f"pool/{pool.name}", queue=pool.queue)
        case OverrideKind.STOP | OverrideKind.KILL | OverrideKind.REQUEUE:
            return override


def _heir(override: Override, fleet: Fleet) -> Pool | None:
    """The pool that a stop is about: that of its queue, else that of its name."""
    by_queue = next((pool for pool in fleet.pools if pool.queue == override.queue), None)
    return by_queue or next((pool for pool in fleet.pools if pool.name == override.name), None)


def deleted_by_hand(shown: Shown, found: Shown, fleet: Fleet, overrides: Overrides) -> Sequence[str]:
    """Agents of the fleet that the view showed and that an operator has deleted from it since."""
    gone = {agent for agent, _ in shown} - {agent for agent, _ in found}
    return sorted(name for name in gone if fleet.find(name) is not None and drain_of(overrides, name) is None)
