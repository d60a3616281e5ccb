"""Finished runs over time and by duration: the figures of the plots."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from tsched.model.records import dataclass
from tsched.model.run import Outcome, RunResult

STEPS = (60.0, 300.0, 900.0, 3600.0, 6 * 3600.0, 86400.0, 7 * 86400.0)  # seconds of a bar
MOST_BARS = 72
BOUNDS = (
    *(0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0),
    *(7200.0, 14400.0, 28800.0, 86400.0),
)  # seconds, between durations' bins


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What is looked at, between two times (seconds since the epoch).

    `asked`: where it was to begin, where that is before anything is known.
    """

    since: float
    until: float
    asked: float | None = None

    @property
    def seconds(self) -> float:
        return self.until - self.since

    def overlap(self, since: float, until: float) -> float:
        """Seconds of another span that lie in this one."""
        return max(0.0, min(until, self.until) - max(since, self.since))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The runs that ended in the `step` seconds from `start` (seconds since the epoch) on, by outcome."""

    start: float
    outcomes: Mapping[Outcome, int]

    @property
    def total(self) -> int:
        return sum(self.outcomes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """How many durations are at least `low` and below `high` seconds."""

    low: float
    high: float
    runs: int


def step_of(window: float) -> float:
    """The shortest step, in seconds, that cuts so many seconds into at most MOST_BARS bars."""
    return next((step for step in STEPS if window <= step * (MOST_BARS - 1)), STEPS[-1])


def bars(results: Iterable[RunResult], window: Window, step: float) -> tuple[Bar, ...]:
    """A bar for each step of the window, empty ones too. Steps begin at multiples of their length (seconds)."""
    counted: dict[int, Counter[Outcome]] = {}
    for one in results:
        if window.since <= one.exit.ended_at <= window.until:
            counted.setdefault(math.floor(one.exit.ended_at / step), Counter())[one.outcome] += 1
    numbers = range(math.floor(window.since / step), math.floor(window.until / step) + 1)
    return tuple(Bar(start=number * step, outcomes=counted.get(number, Counter())) for number in numbers)


def bins(durations: Sequence[float]) -> tuple[Bin, ...]:
    """Durations in bins that grow, from the shortest that is filled to the longest; () where there are none."""
    edges = (0.0, *BOUNDS, math.inf)
    counted = Counter(bisect_right(BOUNDS, one) for one in durations)
    found = [Bin(low=low, high=high, runs=counted[at]) for at, (low, high) in enumerate(pairwise(edges))]
    filled = [number for number, one in enumerate(found) if one.runs]
    return tuple(found[filled[0] : filled[-1] + 1]) if filled else ()
