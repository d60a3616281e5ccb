"""The agent's lifecycle (DESIGN section 5): a table of its own, and what a new revision does to it."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from tsched.model.fleet import DrainPolicy, Fleet, OnDeadline, Pool
from tsched.model.lifecycle import AgentState, Lifecycle

Key = tuple[str, str]  # agent, queue


def adopt(
    rows: Mapping[Key, Lifecycle], old: Fleet | None, new: Fleet, *, now: float, stopping: Collection[Key] = ()
) -> dict[Key, Lifecycle]:
    """The lifecycle rows once `new` is applied. `now`: seconds since the epoch.

    Agents that are in `new` are active; those that no longer serve a queue are cordoned with the drain policy that
    `old` gave them. `stopping`: agents added again whose runs have already begun to stop.
    """
    after: dict[Key, Lifecycle] = {}
    for pool, agent in new.agents():
        key = (agent.name, pool.queue)
        row = rows.get(key)
        if row is None or row.state is not AgentState.ACTIVE or row.pool != pool.name or row.limit != agent.limit:
            row = _wanted(row, key, pool, agent.limit, new.revision, stuck=key in stopping)
        after[key] = row
    if gone := rows.keys() - after.keys():
        policies = {
            (agent.name, pool.queue): (pool.drain, agent.limit) for pool, agent in (old.agents() if old else ())
        }
        for key, row in rows.items():
            if key in gone:
                policy, limit = policies.get(key, (DrainPolicy(), row.limit))
                after[key] = _unwanted(row, policy, limit, now)
    return after


def _wanted(row: Lifecycle | None, key: Key, pool: Pool, limit: int, revision: str, *, stuck: bool) -> Lifecycle:
    active = Lifecycle(agent=key[0], queue=key[1], pool=pool.name, limit=limit, revision=revision)
    if row is None:
        return active
    same = row.pool == pool.name and row.limit == limit
    match row.state:
        case AgentState.ACTIVE | AgentState.SUSPENDED:
            return row if same else replace(row, pool=pool.name, limit=limit)
        case AgentState.CORDONED | AgentState.DRAINING if stuck:
            return replace(row, state=AgentState.STOPPING, again=True, pool=pool.name, limit=limit)
        case AgentState.CORDONED | AgentState.DRAINING | AgentState.DRAINED:
            return active
        case AgentState.STOPPING:
            return replace(row, again=True, pool=pool.name, limit=limit)


def _unwanted(row: Lifecycle, policy: DrainPolicy, limit: int, now: float) -> Lifecycle:
    if row.state is AgentState.ACTIVE:
        return replace(row, state=AgentState.CORDONED, since=now, policy=policy, limit=limit)
    return replace(row, again=False) if row.again else row


def put_right(row: Lifecycle, now: float) -> Lifecycle:
    """A row whose cordon is yet to come: the clock was ahead then, so the deadline counts from now."""
    if row.state is AgentState.ACTIVE or row.since <= now:
        return row
    return replace(row, since=now)


def progress(
    row: Lifecycle, *, live: int, unacknowledged: int, stopping: bool, handed_back: bool, now: float
) -> Lifecycle | None:
    """The next state of a row that is not active; the row itself where it has to wait; None: deleted.

    live: runs of the agent in the queue that are not wholly settled. unacknowledged: results the task server has not
    taken. stopping: a run has begun to stop. handed_back: its waiting tasks are back in the queue.
    """
    settled = live == 0 and unacknowledged == 0
    match row.state:
        case AgentState.ACTIVE | AgentState.SUSPENDED:
            return row
        case AgentState.CORDONED:
            return replace(row, state=AgentState.DRAINING)
        case AgentState.DRAINING if settled:
            return replace(row, state=AgentState.DRAINED)
        case AgentState.DRAINING if live and (stopping or overdue(row, now)):
            return replace(row, state=AgentState.STOPPING)
        case AgentState.STOPPING if settled:
            return replace(row, state=AgentState.DRAINED)
        case AgentState.DRAINED if row.again:
            return replace(row, state=AgentState.ACTIVE, since=0.0, policy=None, again=False)
        case AgentState.DRAINED if handed_back:
            return None
        case AgentState.DRAINING | AgentState.STOPPING | AgentState.DRAINED:
            return row


def overdue(row: Lifecycle, now: float) -> bool:
    """Whether the drain's deadline has passed and asks for a stop."""
    if row.policy is None or row.policy.on_deadline is OnDeadline.WAIT:
        return False
    return now >= row.since + row.policy.deadline
