"""What a simulation comes to: waits and depth of each queue, use of each pool."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import accumulate

from tsched.model.fleet import Fleet
from tsched.model.records import dataclass
from tsched.schedule.capacity import present_slots
from tsched.schedule.load import Load
from tsched.schedule.match import Assignment
from tsched.schedule.timeline import Window
from tsched.schedule.workload import Spread, spread

PARTS = 48  # of the window, for depth over time


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFared:
    """A queue's tasks. `waits`: of those that started, for their first run; None where none did.

    `left`: how many wait when nothing more can start. `most`: the most that waited at once; `depth`: how many waited
    at the end of each of PARTS equal parts of the window.
    """

    queue: str
    pool: str | None
    tasks: int
    waits: Spread | None
    left: int
    most: int
    depth: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFared:
    """A pool's slots. `busy`: seconds that agents worked in the window, over all slots."""

    pool: str
    queue: str
    slots: int
    busy: float
    utilisation: float | None
    runs: int
    failed: int
    parked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A load played through a fleet. `ended`: when the last run was done, seconds since the epoch.

    `passes`: how many had something to do.
    """

    revision: str
    window: Window
    ended: float
    passes: int
    queues: tuple[QueueFared, ...]
    pools: tuple[PoolFared, ...]

    @property
    def runs(self) -> int:
        return sum(one.runs for one in self.pools)


class _Depth:
    """How many tasks of a queue wait, in total and as changes in each part of the window."""

    __slots__ = ("came", "changes", "most", "now")

    def __init__(self) -> None:
        self.came = self.now = self.most = 0
        self.changes = [0] * (PARTS + 1)


class Tally:
    """Counts while a simulation goes on."""

    def __init__(self, fleet: Fleet, load: Load) -> None:
        self.passes = 0
        self._fleet = fleet
        self._window = load.window
        self._step = max(load.window.seconds, 1e-9) / PARTS
        self._depths: dict[str, _Depth] = {}
        self._waits: dict[str, array[float]] = {}
        self._busy: defaultdict[str, float] = defaultdict(float)
        self._runs: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._parked: Counter[str] = Counter()
        self._tasks = Counter(one.queue for one in load.arrivals)
        self._ended = load.window.since
        for queue in {*self._tasks, *(pool.queue for pool in fleet.pools)}:
            self._depths[queue], self._waits[queue] = _Depth(), array("d")

    def idle(self, queue: str, at: float) -> None:
        """A task of the queue begins to wait."""
        depth = self._depths[queue]
        depth.now += 1
        depth.most = max(depth.most, depth.now)
        depth.changes[self._part(at)] += 1

    def start(self, given: Assignment, now: float, ends: float) -> None:
        """A task's wait is over."""
        task = given.task
        depth = self._depths[task.queue]
        depth.now -= 1
        depth.changes[self._part(now)] -= 1
        if not task.runs:
            self._waits[task.queue].append(now - task.created_at)
        self._runs[given.pool] += 1
        self._busy[given.pool] += self._window.overlap(now, ends)
        self._ended = max(self._ended, ends)

    def failed(self, *, given: Assignment, parked: bool) -> None:
        """A run failed. `parked`: its task is given up."""
        self._failed[given.pool] += 1
        self._parked[given.pool] += parked

    def _part(self, time: float) -> int:
        return min(PARTS, int((time - self._window.since) / self._step))

    def result(self, *, left: Mapping[str, int]) -> Simulated:
        pools = {pool.queue: pool.name for pool in self._fleet.pools}
        return Simulated(
            revision=self._fleet.revision,
            window=self._window,
            ended=self._ended,
            passes=self.passes,
            queues=tuple(
                QueueFared(
                    queue=queue, pool=pools.get(queue), tasks=self._tasks[queue], waits=spread(self._waits[queue]),
                    left=left.get(queue, 0), most=depth.most, depth=tuple(accumulate(depth.changes[:PARTS])),
                )
                for queue, depth in sorted(self._depths.items())
            ),
            pools=tuple(self._pool(pool.name, pool.queue, present_slots(pool, None)) for pool in self._fleet.pools),
        )  # fmt: skip

    def _pool(self, pool: str, queue: str, slots: int) -> PoolFared:
        busy, whole = self._busy[pool], slots * self._window.seconds
        return PoolFared(
            pool=pool, queue=queue, slots=slots, busy=busy, utilisation=busy / whole if whole else None,
            runs=self._runs[pool], failed=self._failed[pool], parked=self._parked[pool],
        )  # fmt: skip
