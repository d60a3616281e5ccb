"""Which waiting tasks are ready, and in which order they deserve a slot (DESIGN section 3, step 8)."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from tsched.model.fleet import Retry
from tsched.model.records import dataclass
from tsched.model.task import Task
from tsched.schedule.recovery import backoff

SortKey = tuple[int, int, float, int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """`ready`: unblocked, past their back-off, best first. `blocked`: how many were left out as blocked, by queue.

    `blocks`: how many waiting tasks each ready blocker holds up, by task id.
    """

    ready: tuple[Task, ...] = ()
    blocked: Mapping[str, int] = field(default_factory=dict)
    blocks: Mapping[str, int] = field(default_factory=dict)


def rested(task: Task, now: float, retry: Retry | None = None) -> bool:
    """Whether its back-off is over. By `retry` none is longer than its failures make it: one that seems to be was
    reckoned by a clock that was ahead and has been put right since.
    """
    if task.not_before <= now:
        return True
    return retry is not None and task.not_before > now + backoff(retry, max(task.attempts, task.runs, 1))


def order(waiting: Sequence[Task], *, now: float, blocking: bool = True, retry: Retry | None = None) -> Ordered:
    """Blocked tasks out; then those that block most others, priority, age, id. `retry`: see `rested`.

    `blocking=False` switches blocking awareness off: nothing is filtered and no blocker goes first.
    """
    blocks = Counter(task.blocked_by for task in waiting if blocking and task.blocked_by is not None)
    free = [task for task in waiting if not (blocking and task.blocked)]
    ready = [task for task in free if rested(task, now, retry)]
    ready.sort(key=sort_key(blocks))
    return Ordered(
        ready=tuple(ready),
        blocked=Counter(task.queue for task in waiting if task.blocked) if blocking else {},
        blocks={task.id: blocks[task.id] for task in ready if blocks[task.id]},
    )


def sort_key(blocks: Mapping[str, int]) -> Callable[[Task], SortKey]:
    """The key of the order: smaller goes first."""

    def key(task: Task) -> SortKey:
        return (-blocks.get(task.id, 0), -task.priority, *task.age_key())

    return key
