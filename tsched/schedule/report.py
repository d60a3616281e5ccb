"""All that a workload report says, as values: the whole, its groups, and the figures of its plots."""

from collections.abc import Iterable, Mapping, Sequence

from tsched.model.history import Sample
from tsched.model.records import dataclass
from tsched.model.run import RunResult
from tsched.schedule.depth import Depth, depths
from tsched.schedule.timeline import Bar, Bin, Window, bars, bins, step_of
from tsched.schedule.workload import By, Summary, grouped, summary, took

PARTS = 96  # of the window, in each queue's depth over time


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepths:
    """Idle tasks of a queue over the window; None where nothing is known of it."""

    queue: str
    average: float | None
    most: int | None
    now: int | None
    series: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkReport:
    """A window's work. `step`: seconds of each bar."""

    window: Window
    whole: Summary
    groups: Mapping[By, Mapping[str, Summary]]
    step: float
    bars: tuple[Bar, ...]
    bins: tuple[Bin, ...]
    depths: tuple[QueueDepths, ...]


def work_report(
    window: Window, results: Sequence[RunResult], samples: Iterable[Sample], *, by: Sequence[By]
) -> WorkReport:
    """The report of runs that ended in the window, oldest first, and of the samples of its queues, oldest first."""
    step = step_of(window.seconds)
    return WorkReport(
        window=window,
        whole=summary(results),
        groups={one: {name: summary(runs) for name, runs in grouped(results, one).items()} for one in by},
        step=step,
        bars=bars(results, window, step),
        bins=bins([seconds for one in results if (seconds := took(one)) is not None]),
        depths=tuple(_depths(queue, depth, window) for queue, depth in depths(samples).items()),
    )


def _depths(queue: str, depth: Depth, window: Window) -> QueueDepths:
    return QueueDepths(
        queue=queue,
        average=depth.mean(window.since, window.until),
        most=depth.most(window),
        now=depth.at(window.until),
        series=depth.means(window, PARTS),
    )
