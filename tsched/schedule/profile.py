"""What the steps of passes take: percentiles of each, and its share of the whole."""

from collections.abc import Sequence

from tsched.model.history import PassRecord
from tsched.model.records import dataclass
from tsched.schedule.workload import spread

WHOLE, REST = "pass", "(between)"  # the pass itself, and what it did outside of its steps


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProfile:
    """A step's times in seconds, over the passes in which it ran. `share`: its part of all passes' time."""

    name: str
    passes: int
    p50: float
    p95: float
    most: float
    total: float
    share: float


def profiled(passes: Sequence[PassRecord]) -> tuple[StepProfile, ...]:
    """Each step in the order of a pass, then what lies between them, then the pass as a whole; () for no passes."""
    times: dict[str, list[float]] = {}
    for one in passes:
        for name, seconds in one.steps.items():
            times.setdefault(name, []).append(seconds)
    times[REST] = [max(0.0, one.seconds - sum(one.steps.values())) for one in passes]
    times[WHOLE] = [one.seconds for one in passes]
    whole = sum(times[WHOLE])
    return tuple(found for name, known in times.items() if (found := _step(name, known, whole)) is not None)


def _step(name: str, known: Sequence[float], whole: float) -> StepProfile | None:
    found = spread(known)
    if found is None:
        return None
    total = sum(known)
    return StepProfile(
        name=name, passes=len(known), p50=found.p50, p95=found.p95, most=max(known), total=total,
        share=total / whole if whole else 0.0,
    )  # fmt: skip
