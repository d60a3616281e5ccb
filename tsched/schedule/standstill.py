"""Whether work stands still: tasks that free slots could take, or that wait where nothing runs at all."""

from collections.abc import Collection, Mapping, Sequence

from tsched.model.records import dataclass
from tsched.model.task import Task
from tsched.schedule.match import AgentSlots, Capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Of the queues where something could start: ready tasks, free slots, runs that go on."""

    ready: int = 0
    free: int = 0
    running: int = 0


def room_for(
    ready: Sequence[Task],
    slots: Sequence[Capacity],
    *,
    held: Collection[str],
    running_by_queue: Mapping[str, int],
    fleet_free: int | None,
) -> Room:
    """Left out is what is no standstill: a queue whose slots are all busy, tasks whose own agent is, a fleet that
    runs all that it may, and a pool that git suspends or an operator has stopped.
    """
    if fleet_free == 0:
        return Room()
    waiting = _by_pool(ready, slots, held)
    found = Room()
    for capacity in slots:
        tasks, running = waiting[capacity.queue], running_by_queue.get(capacity.queue, 0)
        free = sum(agent.free for agent in capacity.agents)
        free = min(n for n in (free, capacity.free, fleet_free) if n is not None)
        takers = [agent for agent in capacity.agents if agent.free > 0] if free else []
        number = _startable(tasks, takers) or (0 if running else len(tasks))
        if number and not capacity.shut:
            found = Room(ready=found.ready + number, free=found.free + free, running=found.running + running)
    return found


def _by_pool(ready: Sequence[Task], slots: Sequence[Capacity], held: Collection[str]) -> Mapping[str, list[Task]]:
    """The tasks of each pool, by its queue: its agents' own from any queue, and the unassigned ones of its queue."""
    home = {agent.name: capacity.queue for capacity in slots for agent in capacity.agents}
    taken: dict[str, list[Task]] = {capacity.queue: [] for capacity in slots}
    shared = {capacity.queue for capacity in slots if not capacity.own_only}
    for task in ready:
        queue = home.get(task.assigned_to) if task.assigned_to is not None else task.queue
        if queue is not None and task.id not in held and (task.assigned_to is not None or queue in shared):
            taken[queue].append(task)
    return taken


def _startable(tasks: Sequence[Task], takers: Sequence[AgentSlots]) -> int:
    """How many of the tasks somebody with a free slot would take."""
    floors = {agent.name: agent.priority_floor for agent in takers}
    lowest = min(floors.values(), default=None)
    if lowest is None:
        return 0
    return sum(
        task.priority >= (lowest if task.assigned_to is None else floors.get(task.assigned_to, task.priority + 1))
        for task in tasks
    )
