"""A queue's depth over time, from samples that each stand until the next: weighted by time, never by their number."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise

from tsched.model.history import Sample
from tsched.schedule.timeline import Window


@dataclass(frozen=True, slots=True)
class Depth:
    """Idle tasks of one queue. Times are seconds since the epoch, rising; `areas` is task-seconds up to each."""

    times: tuple[float, ...] = ()
    values: tuple[int, ...] = ()
    areas: tuple[float, ...] = ()

    @property
    def begins(self) -> float | None:
        """From when on it is known."""
        return self.times[0] if self.times else None

    def at(self, time: float) -> int | None:
        """How many waited at a time; None before it begins."""
        number = bisect_right(self.times, time)
        return self.values[number - 1] if number else None

    def mean(self, since: float, until: float) -> float | None:
        """The time-weighted average between two times, of the part that is known; None where none is.

        Of no time at all it is the value there. It lies between the least and the most that stood meanwhile.
        """
        if not self.times or until < self.times[0] or since < until == self.times[0]:
            return None
        since = max(since, self.times[0])
        if until <= since:
            return self.at(until)
        return (self._area(until) - self._area(since)) / (until - since)

    def most(self, window: Window) -> int | None:
        """The most that waited at any moment of the window."""
        first, last = bisect_right(self.times, window.since), bisect_right(self.times, window.until)
        return max(self.values[max(0, first - 1) : last], default=None)

    def means(self, window: Window, number: int) -> tuple[float | None, ...]:
        """The average of each of so many equal parts of the window."""
        step = window.seconds / number
        return tuple(self.mean(window.since + step * one, window.since + step * (one + 1)) for one in range(number))

    def _area(self, time: float) -> float:
        number = bisect_right(self.times, time) - 1
        return self.areas[number] + self.values[number] * (time - self.times[number])


def depths(samples: Iterable[Sample]) -> dict[str, Depth]:
    """Each queue's depth over time, by name. `samples`: oldest first."""
    found: dict[str, list[tuple[float, int]]] = {}
    for one in samples:
        found.setdefault(one.queue, []).append((one.time, one.idle))
    return {queue: _depth(points) for queue, points in sorted(found.items())}


def _depth(points: list[tuple[float, int]]) -> Depth:
    rising = sorted(dict(points).items())  # a clock that was put back: the later sample of a moment stands
    areas = accumulate((value * (after - time) for (time, value), (after, _) in pairwise(rising)), initial=0.0)
    return Depth(
        times=tuple(time for time, _ in rising), values=tuple(value for _, value in rising), areas=tuple(areas)
    )
