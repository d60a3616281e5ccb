"""Ready tasks × free slots → assignments. Deterministic: the same input gives the same result, in any order."""

import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tsched.model.fleet import Fleet
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.task import Task
from tsched.schedule.override import Overrides, admitted

Rows = Mapping[tuple[str, str], Lifecycle]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSlots:
    """How many more runs an agent may start now, and the lowest priority it takes."""

    name: str
    free: int
    priority_floor: int = 0
    recipe: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """A pool's admitting agents; `free` is what the pool's own cap leaves (None: no cap).

    `own_only`: they take none of the queue's unassigned tasks. `shut`: somebody decided that nothing starts in it.
    """

    pool: str
    queue: str
    agents: tuple[AgentSlots, ...] = ()
    free: int | None = None
    own_only: bool = False
    shut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One task for one agent. `assigned`: it was the agent's already."""

    task: Task
    agent: str
    pool: str
    queue: str
    assigned: bool


def room(cap: int | None, used: int) -> int | None:
    """What a cap leaves; None where there is no cap."""
    return None if cap is None else max(0, cap - used)


def capacities(
    fleet: Fleet,
    lifecycles: Rows,
    *,
    running_by_agent: Mapping[str, int],
    running_by_queue: Mapping[str, int],
    now: float,
    resting: Mapping[str, int] = MappingProxyType({}),
    overrides: Overrides = (),
) -> tuple[Capacity, ...]:
    """Free slots of each pool. An agent's limit counts its runs in all queues. `now`: seconds since the epoch.

    Agents that are not active in the pool's queue or drained here, and all agents of a suspended or stopped pool,
    have none. `resting`: recipes whose breaker is open, and how many more of their runs may start, whichever agent it
    is: `match` shares them out.
    """
    found = []
    for pool in fleet.pools:
        suspended = pool.suspend is not None and pool.suspend.holds(now)
        agents, shut = [], bool(pool.agents)
        for agent in pool.agents:
            closed = suspended or not admitted(overrides, pool.queue, agent.name)
            shut = shut and closed
            closed = closed or not admits(lifecycles, agent.name, pool.queue)
            slots = 0 if closed else max(0, agent.limit - running_by_agent.get(agent.name, 0))
            slots = min(slots, resting.get(agent.recipe, slots))
            agents.append(
                AgentSlots(name=agent.name, free=slots, priority_floor=agent.priority_floor, recipe=agent.recipe)
            )
        free = room(pool.max_running, running_by_queue.get(pool.queue, 0))
        found.append(
            Capacity(
                pool=pool.name, queue=pool.queue, agents=tuple(agents), free=free, own_only=pool.own_only, shut=shut
            )
        )  # fmt: skip
    return tuple(found)


def admits(lifecycles: Rows, agent: str, queue: str) -> bool:
    """Whether the agent may take work of the queue: a row that is not active forbids it, no row does not."""
    row = lifecycles.get((agent, queue))
    return row is None or row.state is AgentState.ACTIVE


def match(
    ready: Sequence[Task],
    slots: Sequence[Capacity],
    *,
    lifecycles: Rows,
    held: Collection[str] = (),
    fleet_free: int | None = None,
    most: int | None = None,
    resting: Mapping[str, int] = MappingProxyType({}),
) -> tuple[Assignment, ...]:
    """Give ready tasks (best first, see order.py) to free slots.

    First each agent's own tasks, from any queue, then each queue's unassigned ones, to the agent with most free
    slots, then by name. Where the fleet's cap is short, the order of `ready` decides across queues. `held`: ids of
    tasks that some run still names; `most`: how many may start at all (None: no bound); `resting`: as for capacities.
    """
    left = min((n for n in (fleet_free, most) if n is not None), default=len(ready))
    books = _Books(slots, resting)
    made: list[Assignment] = []
    for own in (True, False):
        for task in ready:
            if len(made) >= left or not books.open:
                return tuple(made)
            if (task.assigned_to is not None) is not own or task.id in held:
                continue
            given = books.own(task, lifecycles) if own else books.any(task)
            if given is not None:
                made.append(given)
    return tuple(made)


class _Books:
    """Free slots while they are given out. One heap a queue: most free first, then name."""

    def __init__(self, slots: Sequence[Capacity], resting: Mapping[str, int]) -> None:
        self._resting = dict(resting)
        self._recipe = {agent.name: agent.recipe for capacity in slots for agent in capacity.agents}
        self._pools = {capacity.queue: capacity for capacity in slots}
        self._pool_free = {capacity.queue: capacity.free for capacity in slots}
        self._free = {agent.name: agent.free for capacity in slots for agent in capacity.agents}
        self._floor = {agent.name: agent.priority_floor for c in slots for agent in c.agents}
        self._home = {agent.name: capacity.queue for capacity in slots for agent in capacity.agents}
        self._heaps = {
            capacity.queue: [(-agent.free, agent.name) for agent in capacity.agents if agent.free > 0]
            for capacity in slots
            if not capacity.own_only
        }
        for heap in self._heaps.values():
            heapq.heapify(heap)
        self.open = sum(self._free.values())

    def own(self, task: Task, lifecycles: Rows) -> Assignment | None:
        agent = task.assigned_to
        if agent is None or self._free.get(agent, 0) <= 0 or task.priority < self._floor[agent]:
            return None
        if self._rests(agent):
            return None
        queue = self._home[agent]
        if self._pool_free[queue] == 0 or not admits(lifecycles, agent, task.queue):
            return None
        return self._give(task, agent, queue, assigned=True)

    def any(self, task: Task) -> Assignment | None:
        heap = self._heaps.get(task.queue)
        if not heap or self._pool_free[task.queue] == 0:
            return None
        passed = []
        chosen = None
        while heap and chosen is None:
            negative, agent = heapq.heappop(heap)
            if -negative != self._free[agent]:  # given a task of its own since: put it back at its true place
                if self._free[agent] > 0:
                    heapq.heappush(heap, (-self._free[agent], agent))
            elif self._rests(agent):
                continue  # for good: what may start of its recipe has been given to others
            elif task.priority < self._floor[agent]:
                passed.append((negative, agent))
            else:
                chosen = agent
        for entry in passed:
            heapq.heappush(heap, entry)
        if chosen is None:
            return None
        given = self._give(task, chosen, task.queue, assigned=False)
        if self._free[chosen] > 0:
            heapq.heappush(heap, (-self._free[chosen], chosen))
        return given

    def _rests(self, agent: str) -> bool:
        return self._resting.get(self._recipe[agent], 1) <= 0

    def _give(self, task: Task, agent: str, queue: str, *, assigned: bool) -> Assignment:
        self._free[agent] -= 1
        self.open -= 1
        if self._recipe[agent] in self._resting:
            self._resting[self._recipe[agent]] -= 1
        free = self._pool_free[queue]
        if free is not None:
            self._pool_free[queue] = free - 1
        return Assignment(task=task, agent=agent, pool=self._pools[queue].pool, queue=queue, assigned=assigned)
