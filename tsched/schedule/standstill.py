"""Whether work stands still: ready tasks beside free slots, or in a queue where nothing runs at all."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tsched.model.task import Task
from tsched.schedule.match import Capacity


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
    """A queue whose slots are all busy is left out: that its tasks wait is no standstill."""
    tasks = Counter(task.queue for task in ready if task.id not in held)
    found = Room()
    for capacity in slots:
        free = sum(agent.free for agent in capacity.agents)
        free = min(n for n in (free, capacity.free, fleet_free) if n is not None)
        running = running_by_queue.get(capacity.queue, 0)
        if tasks[capacity.queue] and (free or not running):
            found = Room(
                ready=found.ready + tasks[capacity.queue], free=found.free + free, running=found.running + running
            )
    return found
