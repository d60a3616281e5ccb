"""The agent's lifecycle (DESIGN section 5): a table of its own, and what a new revision does to it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from operator import is_

from tsched.model.fleet import DrainPolicy, Fleet, OnDeadline, Pool
from tsched.model.lifecycle import AgentState, Key, Lifecycle, Lifecycles


def adopt(
    rows: Mapping[Key, Lifecycle], old: Fleet | None, new: Fleet, *, now: float, stopping: Collection[Key] = ()
) -> Lifecycles:
    """The lifecycle rows once `new` is applied. `now`: seconds since the epoch.

    `rows` are those that `old` left. Agents that are in `new` are active; those that no longer serve a queue are
    cordoned with the drain policy that `old` gave them. `stopping`: agents added again whose runs have already begun
    to stop. A queue whose pool is the very same one in both, and whose rows are all active, is not gone through.
    """
    before = Lifecycles.of(rows)
    leaving = {row.queue for row in before.leaving}
    was, is_now = _by_queue(old), _by_queue(new)
    after = {}
    for queue in dict.fromkeys((*before.queues, *is_now)):
        here, pools, served = before.queues.get(queue, {}), is_now.get(queue, ()), was.get(queue, ())
        if queue not in leaving and len(here) == sum(len(pool.agents) for pool in pools) and _same(served, pools):
            continue
        stuck = {agent for agent, where in stopping if where == queue}
        wanted = _rows_wanted(here, pools, new.revision, stuck)
        after[queue] = {**wanted, **_rows_gone(here, wanted, served, now)}
    return before.replaced(after)


def _by_queue(fleet: Fleet | None) -> Mapping[str, Sequence[Pool]]:
    found: dict[str, list[Pool]] = {}
    for pool in fleet.pools if fleet is not None else ():
        found.setdefault(pool.queue, []).append(pool)
    return found


def _same(old: Sequence[Pool], new: Sequence[Pool]) -> bool:
    return len(old) == len(new) and all(map(is_, old, new))


def _rows_wanted(
    rows: Mapping[str, Lifecycle], pools: Sequence[Pool], revision: str, stuck: Collection[str]
) -> dict[str, Lifecycle]:
    """The rows of a queue's agents."""
    after = {}
    for pool in pools:
        for agent in pool.agents:
            row = rows.get(agent.name)
            if row is None or row.state is not AgentState.ACTIVE or row.pool != pool.name or row.limit != agent.limit:
                row = _wanted(row, (agent.name, pool.queue), pool, agent.limit, revision, stuck=agent.name in stuck)
            after[agent.name] = row
    return after


def _rows_gone(
    rows: Mapping[str, Lifecycle], wanted: Collection[str], pools: Sequence[Pool], now: float
) -> dict[str, Lifecycle]:
    """The rows of those that no longer serve a queue. `pools`: that served it."""
    gone = [agent for agent in rows if agent not in wanted]
    policies = {agent.name: (pool.drain, agent.limit) for pool in pools for agent in pool.agents} if gone else {}
    after = {}
    for agent in gone:
        policy, limit = policies.get(agent, (DrainPolicy(), rows[agent].limit))
        after[agent] = _unwanted(rows[agent], policy, limit, now)
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
