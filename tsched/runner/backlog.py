"""What a pass makes of the waiting tasks and the free slots, each part kept for as long as nothing of it changed."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tsched.model.fleet import Fleet, Pool, Retry
from tsched.model.kept import Kept, together
from tsched.model.lifecycle import Lifecycle, Lifecycles
from tsched.model.override import Override
from tsched.model.run import Run
from tsched.model.task import Task, TaskStatus
from tsched.observe import messages
from tsched.observe.text import one_line
from tsched.runner.roster import homes
from tsched.schedule.match import Capacity, capacities
from tsched.schedule.order import Ordered, order
from tsched.schedule.override import Overrides
from tsched.schedule.recovery import backoff

ROUNDING = 0.001  # seconds: two reckonings of one moment differ by less
NOTHING: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """Idle tasks of a queue. `oldest`: when the one that has been ready longest was made; None: none is ready."""

    idle: int = 0
    blocked: int = 0
    oldest: float | None = None


def ordered(kept: Kept, waiting: Sequence[Task], now: float, *, blocking: bool, retry: Retry) -> Ordered:
    """The tasks in order, as of now."""
    return kept(_ordered, waiting, as_of(kept, waiting, now, retry), blocking, retry)


def _ordered(waiting: Sequence[Task], moment: float, blocking: bool, retry: Retry) -> Ordered:  # asked by position
    return order(waiting, now=moment, blocking=blocking, retry=retry)


def as_of(kept: Kept, waiting: Sequence[Task], now: float, retry: Retry) -> float:
    """The last moment at which a task became ready, or none any more: until the next one it may stand for now."""
    moments = kept(_moments, waiting, retry)
    index = bisect_right(moments, now)
    return moments[index - 1] if index else float("-inf")


def _moments(waiting: Sequence[Task], retry: Retry) -> Sequence[float]:
    """When `rested` may change its mind: as a back-off ends, and as it turns out to be one that a clock explains."""
    found = {0.0}
    for task in waiting:
        if task.not_before:
            soonest = task.not_before - backoff(retry, max(task.attempts, task.runs, 1))
            found |= {task.not_before, soonest, soonest + ROUNDING}
    return sorted(found)


def depths(kept: Kept, waiting: Sequence[Task], now: float, retry: Retry) -> Mapping[str, Depth]:
    """How many tasks are idle in each queue that has any."""
    return kept(depths_at, waiting, as_of(kept, waiting, now, retry))


def depths_at(waiting: Sequence[Task], moment: float) -> Mapping[str, Depth]:
    """The same, as of a moment (seconds since the epoch)."""
    idle: dict[str, list[Task]] = {}
    for task in waiting:
        if task.status is TaskStatus.IDLE:
            idle.setdefault(task.queue, []).append(task)
    return {queue: _depth(tasks, moment) for queue, tasks in idle.items()}


def _depth(idle: Sequence[Task], moment: float) -> Depth:
    ready = [task.created_at for task in idle if not task.blocked and task.not_before <= moment]
    return Depth(idle=len(idle), blocked=sum(task.blocked for task in idle), oldest=min(ready, default=None))


def free_slots(
    kept: Kept, fleet: Fleet, lifecycles: Lifecycles, *, runs: Sequence[Run], now: float, resting: Mapping[str, int],
    overrides: Overrides,
) -> tuple[Capacity, ...]:  # fmt: skip
    """What match.capacities says of the whole fleet, where only pools of which something changed are looked at."""
    moment = now if kept(_any_suspended, fleet) else 0.0
    return kept(_free_slots, kept, fleet, lifecycles, runs, moment, frozenset(resting.items()), frozenset(overrides))


def _any_suspended(fleet: Fleet) -> bool:
    return any(pool.suspend is not None for pool in fleet.pools)


def _free_slots(
    kept: Kept, fleet: Fleet, lifecycles: Lifecycles, runs: Sequence[Run], now: float,
    resting: frozenset[tuple[str, int]], overrides: frozenset[Override],
) -> tuple[Capacity, ...]:  # fmt: skip
    in_queue, busy = kept(by_queue, runs), _busy(homes(kept, fleet, of="served"), runs)
    return kept(
        together,
        *(
            kept(
                _capacity, pool, frozenset(lifecycles.leaving_in(pool.queue)),
                frozenset(busy[pool.queue].items()) if pool.queue in busy else NOTHING,
                in_queue[pool.queue], now if pool.suspend is not None else 0.0, resting, overrides, of=pool.queue,
            )
            for pool in fleet.pools
        ),
        of="slots",
    )  # fmt: skip


def by_queue(runs: Sequence[Run]) -> Counter[str]:
    """How many runs work on the tasks of each queue."""
    return Counter(run.queue for run in runs)


def _busy(home: Mapping[str, str], runs: Sequence[Run]) -> Mapping[str, Mapping[str, int]]:
    """How many runs there are of each agent, by the queue of its pool."""
    busy: dict[str, Counter[str]] = {}
    for run in runs:
        if (queue := home.get(run.agent)) is not None:
            busy.setdefault(queue, Counter())[run.agent] += 1
    return busy


def _capacity(
    pool: Pool, leaving: frozenset[Lifecycle], busy: frozenset[tuple[str, int]], in_queue: int, now: float,
    resting: frozenset[tuple[str, int]], overrides: frozenset[Override],
) -> Capacity:  # fmt: skip
    (found,) = capacities(
        Fleet(revision="", pools=(pool,)), {row.key: row for row in leaving}, running_by_agent=dict(busy),
        running_by_queue={pool.queue: in_queue}, now=now, resting=dict(resting),
        overrides=tuple(overrides),
    )  # fmt: skip
    return found


def log_lines(
    kept: Kept, waiting: Sequence[Task], blocked: Mapping[str, int], slots: Sequence[Capacity]
) -> Sequence[str]:
    """The queues' part of the operator's log, word for word as the guide's greps want it."""
    return kept(_log_lines, kept, waiting, blocked, slots)


def _log_lines(
    kept: Kept, waiting: Sequence[Task], blocked: Mapping[str, int], slots: Sequence[Capacity]
) -> Sequence[str]:
    found, own = kept(_unassigned, waiting), kept(_assigned, waiting)
    lines: list[str] = []
    for one in slots:
        mine = frozenset((agent.name, own[agent.name]) for agent in one.agents) if one.own_only else frozenset()
        lines += kept(_lines, one, found[one.queue], blocked.get(one.queue, 0), mine, of=one.queue)
    return lines


def _unassigned(waiting: Sequence[Task]) -> Counter[str]:
    return Counter(task.queue for task in waiting if task.assigned_to is None)


def _assigned(waiting: Sequence[Task]) -> Counter[str | None]:
    return Counter(task.assigned_to for task in waiting)


def _lines(capacity: Capacity, found: int, blocked: int, own: frozenset[tuple[str, int]]) -> Sequence[str]:
    lines: list[str] = []
    by_agent = dict(own)
    if not capacity.own_only:
        lines += [messages.processing(capacity.queue), messages.found(found, capacity.queue)]
    if blocked:
        lines.append(messages.filtered_out(blocked))
    for agent in capacity.agents:
        if capacity.own_only:
            lines.append(messages.found_assigned(by_agent[agent.name], agent.name))
        lines.append(messages.available_slots(agent.name, agent.free))
    return [one_line(line) for line in lines]
