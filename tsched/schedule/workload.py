"""What finished runs come to, taken together: outcomes, durations, waits, failures by kind, tokens and cost."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from statistics import fmean

from tsched.model.records import dataclass
from tsched.model.run import ExitReason, Outcome, RunResult, Usage
from tsched.schedule.rates import Rate, percentile
from tsched.schedule.troubles import pattern

FAILED = frozenset({Outcome.FAILED, Outcome.UNPROVEN})
JUDGED = FAILED | {Outcome.COMPLETE}  # the others were ended from outside and say nothing of an agent
_NEXT = re.compile(r" \((?:attempt \d+ of \d+(?:, again in \w+)?|\d+ runs of any kind)\)\Z")  # what recovery.py adds


class By(StrEnum):
    """What runs are grouped by."""

    POOL = "pool"
    AGENT = "agent"
    RECIPE = "recipe"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Some durations, in seconds: how many, their mean, and nearest-rank percentiles."""

    number: int
    mean: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureKind:
    """Failed runs alike: why they ended, and the reason without what varies. `example` is the newest's."""

    reason: ExitReason
    exit_code: int | None
    pattern: str
    runs: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Some finished runs together. `durations` and `waits` are None where none is known.

    A wait is that of a task for its first run. `usage`: None where no run says what it spent.
    """

    runs: int = 0
    tasks: int = 0
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    durations: Spread | None = None
    waits: Spread | None = None
    failures: tuple[FailureKind, ...] = ()
    usage: Usage | None = None

    @property
    def failed(self) -> Rate:
        """How many of those that ended by their own doing failed; interrupted and cancelled ones are not counted."""
        bad = sum(self.outcomes.get(one, 0) for one in FAILED)
        return Rate(successes=bad, runs=sum(self.outcomes.get(one, 0) for one in JUDGED))


def took(result: RunResult) -> float | None:
    """Seconds that the run's agent worked; None where it never started."""
    end = result.exit
    return max(0.0, end.ended_at - end.started_at) if end.started and end.started_at else None


def waited(result: RunResult) -> float | None:
    """Seconds that a task waited for its first run; None of later runs, and where it is not known."""
    run = result.run
    return max(0.0, run.created_at - run.queued_at) if run.first and run.queued_at else None


def succeeded(results: Iterable[RunResult]) -> Rate:
    """How many of the runs that ended by their own doing are complete."""
    judged = [one.outcome for one in results if one.outcome in JUDGED]
    return Rate(successes=judged.count(Outcome.COMPLETE), runs=len(judged))


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of the values that are known; None where none is."""
    known = sorted(one for one in values if one is not None)
    p50, p95 = percentile(known, 50), percentile(known, 95)
    if p50 is None or p95 is None:
        return None
    return Spread(number=len(known), mean=fmean(known), p50=p50, p95=p95)


def summary(results: Sequence[RunResult]) -> Summary:
    """Some finished runs together. `results`: oldest first."""
    counted = Counter(one.outcome for one in results)
    spent = [one.usage for one in results if one.usage is not None]
    return Summary(
        runs=len(results),
        tasks=len({one.run.task_id for one in results}),
        outcomes={outcome: counted[outcome] for outcome in Outcome},
        durations=spread(map(took, results)),
        waits=spread(map(waited, results)),
        failures=failures(results),
        usage=_sum(spent),
    )


def _sum(spent: Sequence[Usage]) -> Usage | None:
    """As adding them one by one gives, without the thousands of sums between."""
    costs = [one.cost_usd for one in spent if one.cost_usd is not None]
    if not spent:
        return None
    return Usage(
        input_tokens=sum(one.input_tokens for one in spent),
        output_tokens=sum(one.output_tokens for one in spent),
        total_tokens=sum(one.total_tokens for one in spent),
        cost_usd=sum(costs) if costs else None,
    )


def grouped(results: Iterable[RunResult], by: By) -> dict[str, list[RunResult]]:
    """The runs of each group, in the order they come; groups by name."""
    found: dict[str, list[RunResult]] = {}
    name = attrgetter(f"run.{by.value}")
    for one in results:
        found.setdefault(name(one), []).append(one)
    return dict(sorted(found.items()))


def why(reason: str) -> str:
    """Why a run failed, without what becomes of its task."""
    return _NEXT.sub("", reason)


@lru_cache(maxsize=4096)  # the same reasons come again, in each group that a run belongs to
def _alike(reason: str) -> str:
    return pattern(why(reason))


def failures(results: Iterable[RunResult]) -> tuple[FailureKind, ...]:
    """Failed runs by kind, the most frequent first. `results`: oldest first."""
    alike: dict[tuple[ExitReason, int | None, str], list[RunResult]] = {}
    for one in results:
        if one.outcome in FAILED:
            alike.setdefault((one.exit.reason, one.exit.exit_code, _alike(one.reason)), []).append(one)
    kinds = [
        FailureKind(reason=reason, exit_code=code, pattern=words, runs=len(them), example=why(them[-1].reason))
        for (reason, code, words), them in alike.items()
    ]
    return tuple(sorted(kinds, key=lambda kind: (-kind.runs, kind.reason, kind.exit_code or 0, kind.pattern)))
