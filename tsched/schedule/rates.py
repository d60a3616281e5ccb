"""How often and how long, and how sure one may be: percentiles, success rates, and whether two of them differ."""

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import assert_never

from tsched.model.records import dataclass
from tsched.model.units import count

Z = 1.959963984540054  # two-sided 95 %: the normal distribution's quantile at 0.975
FEWEST = 10  # runs on either side below which nothing is said of a difference
MATTERS = 0.2  # a difference that one would want to hear of: 20 percentage points


def percentile(values: Iterable[float], percent: float) -> float | None:
    """The nearest-rank percentile: the smallest value that at least `percent` % of them do not exceed.

    It is always one of the values (a run that took so long), never a figure between two. None where there are none.
    Raises ValueError unless 0 < percent ≤ 100.
    """
    if not 0 < percent <= 100:
        raise ValueError(f"a percentile is above 0 and at most 100, not {percent}")
    ranked = sorted(values)
    return ranked[math.ceil(percent / 100 * len(ranked)) - 1] if ranked else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """From `low` to `high`, both included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many successes in so many runs."""

    successes: int
    runs: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.runs:
            raise ValueError(f"{self.successes} successes in {self.runs} runs can't be")

    @property
    def value(self) -> float | None:
        """The proportion; None where there were no runs."""
        return self.successes / self.runs if self.runs else None

    @property
    def interval(self) -> Interval:
        """Wilson's 95 % interval; everything from 0 to 1 where there were no runs."""
        return wilson(self.successes, self.runs)

    def __str__(self) -> str:
        if self.value is None:
            return "no runs"
        low, high = self.interval.low, self.interval.high
        return f"{self.successes} of {self.runs} ({self.value:.0%}, 95% interval {low:.0%} to {high:.0%})"


def wilson(successes: int, runs: int, z: float = Z) -> Interval:
    """The score interval of a proportion, which holds for few runs and for rates near 0 and 1 too.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927), 209-212.
    """
    if not runs:
        return Interval(low=0.0, high=1.0)
    rate = successes / runs
    centre = rate + z * z / (2 * runs)
    half = z * math.sqrt(rate * (1 - rate) / runs + z * z / (4 * runs * runs))
    scale = 1 + z * z / runs
    low = (centre - half) / scale if successes else 0.0  # exactly: rounding would leave a speck on either side
    high = (centre + half) / scale if successes < runs else 1.0
    return Interval(low=low, high=high)


def newcombe(before: Rate, after: Rate) -> Interval:
    """The 95 % interval of the difference after - before of two independent proportions, made of Wilson's.

    R. G. Newcombe, Interval estimation for the difference between independent proportions: comparison of eleven
    methods, Statistics in Medicine 17 (1998), 873-890, method 10.
    """
    if before.value is None or after.value is None:
        return Interval(low=-1.0, high=1.0)
    difference = after.value - before.value
    old, new = before.interval, after.interval
    below = math.hypot(after.value - new.low, old.high - before.value)
    above = math.hypot(new.high - after.value, before.value - old.low)
    return Interval(low=difference - below, high=difference + above)


class Shown(StrEnum):
    """What two success rates show of each other."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference shown"
    TOO_FEW = "too few to tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two success rates, the 95 % interval of their difference (after - before), and what follows."""

    before: Rate
    after: Rate
    difference: Interval
    verdict: Shown

    @property
    def words(self) -> str:
        """The verdict with its grounds, for a person."""
        low, high = (f"{100 * one:+.0f}" for one in (self.difference.low, self.difference.high))
        span = f"the difference lies between {low} and {high} percentage points (95% interval)"
        match self.verdict:
            case Shown.BETTER | Shown.WORSE:
                return f"{self.verdict}: {span}"
            case Shown.NO_DIFFERENCE:
                return f"{self.verdict}: {span}, so a large one is ruled out"
            case Shown.TOO_FEW if (least := min(self.before.runs, self.after.runs)) < FEWEST:
                return f"{self.verdict}: only {count(least, 'run')} on a side, and {FEWEST} are the least"
            case Shown.TOO_FEW:
                return f"{self.verdict}: {span}, so it may be large or none"
        assert_never(self.verdict)


def compare(before: Rate, after: Rate) -> Comparison:
    """Whether `after` is better or worse than `before`.

    The rule: with fewer than FEWEST runs on a side, too few to tell. Else better or worse where the 95 % interval of
    the difference leaves out 0; no difference shown where it has 0 and nothing as large as MATTERS in it; and too few
    to tell where it has both. Runs are taken as independent, so retries of one bad task count for more than they say.
    """
    difference = newcombe(before, after)
    return Comparison(before=before, after=after, difference=difference, verdict=_verdict(before, after, difference))


def _verdict(before: Rate, after: Rate, difference: Interval) -> Shown:
    if min(before.runs, after.runs) < FEWEST:
        return Shown.TOO_FEW
    if difference.low > 0:
        return Shown.BETTER
    if difference.high < 0:
        return Shown.WORSE
    return Shown.NO_DIFFERENCE if max(-difference.low, difference.high) < MATTERS else Shown.TOO_FEW
