"""Ready tasks × free slots → assignments. Deterministic: the same input gives the same result, in any order."""

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

from tsched.model.fleet import Fleet
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.records import dataclass
from tsched.model.task import Task
from tsched.schedule.override import Overrides, admitted

Rows = Mapping[tuple[str, str], Lifecycle]
Heap = list[tuple[int, str]]  # of (-free slots, agent)


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
    own = (task for task in ready if task.assigned_to is not None and task.id not in held)
    shared = (task for task in ready if task.assigned_to is None and task.id not in held)
    left = min((n for n in (fleet_free, most) if n is not None), default=len(ready))
    if left <= 0:
        return ()
    return tuple(given_out(Books(slots, resting), own, shared, lifecycles=lifecycles, most=left))


def given_out(
    books: "Books", own: Iterable[Task], shared: Iterable[Task], *, lifecycles: Rows, most: int
) -> Iterator[Assignment]:
    """The assignments one by one, at most so many: `own`, tasks of one agent each, before `shared`, the others."""
    offers = ((books.own(task, lifecycles) for task in own), (books.any(task) for task in shared))
    for offer in offers:
        if most <= 0 or not books.open:
            return
        for given in offer:
            if given is not None:
                most -= 1
                yield given
            if most <= 0 or not books.open:
                return


class _Slots:
    """What the books say of an agent. `listed`: a bit for each number of free slots that its heap has it under."""

    __slots__ = ("floor", "free", "heap", "listed", "name", "queue", "recipe")

    def __init__(self, agent: AgentSlots, queue: str, heap: Heap | None) -> None:
        self.name, self.recipe, self.floor = agent.name, agent.recipe, agent.priority_floor
        self.queue = queue
        self.free = agent.free
        self.heap = heap  # None: it takes nothing unassigned
        self.listed = 0


class Books:
    """Free slots while they are given out and come back. `open`: how many there are; `resting`: as for capacities.

    Each queue has a heap for each floor of its agents: most free first, then name. An agent is put in anew whenever
    its free slots change; where it stood before it is passed over, until it is so free again. A pool is entered when
    the first task asks for it.
    """

    def __init__(self, slots: Sequence[Capacity], resting: Mapping[str, int]) -> None:
        self.resting = dict(resting)
        self.open = sum([agent.free for capacity in slots for agent in capacity.agents])
        self._capacities = {capacity.queue: capacity for capacity in slots}
        self._pool_free = {capacity.queue: capacity.free for capacity in slots}
        self._agents: dict[str, _Slots] = {}
        self._heaps: dict[str, Sequence[tuple[int, Heap]]] = {}

    @cached_property
    def _homes(self) -> Mapping[str, str]:
        """Each agent's queue."""
        return {agent.name: queue for queue, capacity in self._capacities.items() for agent in capacity.agents}

    def _enter(self, queue: str) -> Sequence[tuple[int, Heap]]:
        """The heaps of a queue; none where no pool serves it."""
        found = self._heaps.get(queue)
        if found is not None or (capacity := self._capacities.get(queue)) is None:
            return found or ()
        heaps: dict[int, Heap] = {}
        for agent in capacity.agents:
            heap = None if capacity.own_only else heaps.setdefault(agent.priority_floor, [])
            self._agents[agent.name] = one = _Slots(agent, queue, heap)
            self._list(one)
        self._heaps[queue] = found = sorted(heaps.items())
        return found

    def _agent(self, name: str) -> _Slots | None:
        """None: no pool has it."""
        if name not in self._agents and (home := self._homes.get(name)) is not None:
            self._enter(home)
        return self._agents.get(name)

    def own(self, task: Task, lifecycles: Rows) -> Assignment | None:
        """The task for the agent that it is assigned to, where that takes it now."""
        agent = self._agent(task.assigned_to or "")
        if agent is None or agent.free <= 0 or task.priority < agent.floor or self._rests(agent):
            return None
        if self._pool_free[agent.queue] == 0 or not admits(lifecycles, agent.name, task.queue):
            return None
        return self._give(task, agent, assigned=True)

    def any(self, task: Task) -> Assignment | None:
        """The task for whoever of its queue takes it now. Who refuses one refuses those of lower priority too."""
        if self._pool_free.get(task.queue) == 0:
            return None
        best: tuple[int, str] | None = None
        for floor, heap in self._enter(task.queue):
            if floor > task.priority:
                break
            first = self._first(heap)
            if first is not None and (best is None or first < best):
                best = first
        return None if best is None else self._give(task, self._agents[best[1]], assigned=False)

    def back(self, agent: str) -> None:
        """A run of the agent is over."""
        one = self._agent(agent)
        if one is None:
            return
        self._free(one, 1)
        free = self._pool_free[one.queue]
        if free is not None:
            self._pool_free[one.queue] = free + 1

    def _first(self, heap: Heap) -> tuple[int, str] | None:
        """Who of a heap has most slots free now; who is listed as freer than that, or rests, is dropped from it."""
        while heap:
            negative, name = heap[0]
            agent = self._agents[name]
            if agent.free == -negative and not self._rests(agent):
                return heap[0]
            heapq.heappop(heap)
            agent.listed &= ~(1 << -negative)
        return None

    def _rests(self, agent: _Slots) -> bool:
        return self.resting.get(agent.recipe, 1) <= 0

    def _give(self, task: Task, agent: _Slots, *, assigned: bool) -> Assignment:
        self._free(agent, -1)
        if agent.recipe in self.resting:
            self.resting[agent.recipe] -= 1
        queue = agent.queue
        free = self._pool_free[queue]
        if free is not None:
            self._pool_free[queue] = free - 1
        pool = self._capacities[queue].pool
        return Assignment(task=task, agent=agent.name, pool=pool, queue=queue, assigned=assigned)

    def _free(self, agent: _Slots, more: int) -> None:
        """So many slots of it are free besides."""
        agent.free += more
        self.open += more
        self._list(agent)

    def _list(self, agent: _Slots) -> None:
        """Where it stands in its heap follows from its free slots."""
        bit = 1 << agent.free
        if agent.free > 0 and agent.heap is not None and not agent.listed & bit:
            agent.listed |= bit
            heapq.heappush(agent.heap, (-agent.free, agent.name))
