"""A plan: the changes between two fleets and what they mean for live runs, and whether the guard holds them."""

from collections import Counter
from collections.abc import Mapping, Sequence

from tsched.model.change import AgentChange, Change, PoolChange, RecipeChange, diff
from tsched.model.fleet import LEGACY, DrainPolicy, Fleet, OnDeadline
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.records import dataclass
from tsched.model.run import Run
from tsched.model.units import count, format_duration
from tsched.model.words import describe

Key = tuple[str, str]  # agent, queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One change as a table shows it."""

    kind: str
    subject: str
    what: str
    consequence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`removed`: agents that are nowhere in the new fleet. `held`: why the guard holds it, None where it does not."""

    changes: tuple[Change, ...] = ()
    rows: tuple[Row, ...] = ()
    removed: tuple[str, ...] = ()
    held: str | None = None


def plan(
    old: Fleet | None, new: Fleet, *, runs: Sequence[Run] = (), lifecycles: Mapping[Key, Lifecycle] | None = None
) -> Plan:
    """What applying `new` over `old` would do. `runs`: those that live now."""
    changes = diff(old, new)
    live = Counter((run.agent, run.queue) for run in runs)
    by_agent = Counter(run.agent for run in runs)
    rows = tuple(
        Row(
            kind=change.kind,
            subject=change.subject,
            what=describe(change),
            consequence=_consequence(change, old, new, live, by_agent, lifecycles or {}),
        )
        for change in changes
    )
    removed = removed_agents(old, new)
    return Plan(changes=changes, rows=rows, removed=removed, held=guard(old, removed))


def removed_agents(old: Fleet | None, new: Fleet) -> tuple[str, ...]:
    """Agents of `old` that are nowhere in `new`; a move is no removal."""
    if old is None:
        return ()
    same = {id(pool) for pool in old.pools}.intersection(map(id, new.pools))  # their agents are nowhere else
    before, after = (
        {agent.name for pool in fleet.pools if id(pool) not in same for agent in pool.agents} for fleet in (old, new)
    )
    return tuple(sorted(before - after))


def guard(old: Fleet | None, removed: Sequence[str]) -> str | None:
    """Why the applied fleet's guard holds a revision that removes these agents; None where it lets it pass.

    Agents that legacy mode knew by their limit alone go as that mode ends: they are not counted.
    """
    if old is None or not removed:
        return None
    applied = {agent.name for pool, agent in old.agents() if not (pool.own_only and pool.name == LEGACY)}
    gone = len(applied.intersection(removed))
    allowed = old.limits.guard
    if not gone or not allowed.holds(removed=gone, applied=len(applied)):
        return None
    return (
        f"it removes {gone} of {count(len(applied), 'agent')}, more than guard.max_agents_removed ({allowed}) "
        f"allows: commit with the trailer `Tsched-Allow-Removal: yes`, or `tsched accept` it"
    )


def _consequence(
    change: Change, old: Fleet | None, new: Fleet, live: Mapping[Key, int], by_agent: Mapping[str, int],
    rows: Mapping[Key, Lifecycle],
) -> str:  # fmt: skip
    match change:
        case AgentChange(new=None) if old is not None:
            return _drained(change.name, change.old_queue or "", _policy(old, change.old_pool), live)
        case AgentChange(old=None):
            return _returns(rows.get((change.name, change.new_queue or "")))
        case AgentChange() if change.moved and old is not None:
            drained = _drained(change.name, change.old_queue or "", _policy(old, change.old_pool), live)
            return f"in queue {change.old_queue}: {drained}; starts in {change.new_queue}"
        case AgentChange() if change.new is not None:
            return _changed(change, by_agent.get(change.name, 0))
        case PoolChange() if change.old is not None and change.new is not None:
            return _pool(change, live)
        case RecipeChange() if change.old is not None and change.new is not None:
            users = {agent.name for _, agent in new.agents() if agent.recipe == change.path}
            running = sum(number for (agent, _), number in live.items() if agent in users)
            return (
                f"reaches the next run; {count(running, 'run')} {_go(running)} on with the old one" if running else ""
            )
        case _:
            return ""


def _go(number: int) -> str:
    return "goes" if number == 1 else "go"


def _policy(fleet: Fleet, pool: str | None) -> DrainPolicy:
    return next((one.drain for one in fleet.pools if one.name == pool), DrainPolicy())


def _drained(agent: str, queue: str, policy: DrainPolicy, live: Mapping[Key, int]) -> str:
    running = live.get((agent, queue), 0)
    if not running:
        return "idle: deleted at once"
    if policy.on_deadline is OnDeadline.WAIT:
        return f"drains: {count(running, 'run')} {_go(running)} on to the end"
    then = "its task requeued" if policy.on_deadline is OnDeadline.REQUEUE else "its task parked"
    most = format_duration(policy.deadline)
    return f"drains: {count(running, 'run')} {_go(running)} on for at most {most}, then {then}"


def _returns(row: Lifecycle | None) -> str:
    if row is None or row.state is AgentState.ACTIVE:
        return ""
    if row.state is AgentState.STOPPING:
        return "its runs are being stopped; it starts anew after that"
    return f"was {row.state}: active again, its runs untouched"


def _changed(change: AgentChange, running: int) -> str:
    if change.old is None or change.new is None:
        return ""
    if running > change.new.limit:
        return f"{count(running, 'run')} over a limit of {change.new.limit}: none is stopped, none starts"
    content = (change.old.recipe, change.old.runtime) != (change.new.recipe, change.new.runtime)
    return (
        f"reaches the next run; {count(running, 'run')} {_go(running)} on as started" if content and running else ""
    )


def _pool(change: PoolChange, live: Mapping[Key, int]) -> str:
    if change.old is None or change.new is None:
        return ""
    if change.old.queue != change.new.queue:
        running = sum(number for (_, queue), number in live.items() if queue == change.old.queue)
        return f"drains in queue {change.old.queue} ({count(running, 'run')}), starts in {change.new.queue}"
    if change.old.suspend is None and change.new.suspend is not None:
        return "takes no new task; runs go on"
    if change.old.labels != change.new.labels:
        return "runners that choose pools by these labels take or drain it"
    return ""
