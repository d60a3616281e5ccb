"""What was done in a queue over a window, and how many tasks came to it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from tsched.model.history import Sample
from tsched.model.records import dataclass
from tsched.model.run import Outcome, Run, RunResult
from tsched.model.task import QueueDepth
from tsched.model.units import about, count
from tsched.schedule.depth import Depth
from tsched.schedule.timeline import Window

PARTS = 24  # of the window, in the depth's series


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueWork:
    """A queue now and over a window. `average`, `most` and `series` are of idle tasks, None where not known.

    `oldest`: seconds that the longest waiting ready task has waited. `outcomes` of the runs that ended.
    """

    queue: str
    now: QueueDepth
    average: float | None = None
    most: int | None = None
    series: tuple[float | None, ...] = ()
    oldest: float | None = None
    assigned: int = 0
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    per_hour: float = 0.0  # tasks completed


def queue_work(
    queue: str, window: Window, *, now: QueueDepth | None, depth: Depth, last: Sample | None,
    results: Iterable[RunResult], live: Iterable[Run],
) -> QueueWork:  # fmt: skip
    """One queue's work. `now`: by the task server's word, None where it gave none; `last`: the newest sample.

    `results`: runs that ended in the window; `live`: those that go on. Other queues' are left out.
    """
    known = now or _as_depth(queue, last)
    ended = [one for one in results if one.run.queue == queue]
    started = [one.run for one in ended] + [one for one in live if one.queue == queue]
    outcomes = Counter(one.outcome for one in ended)
    oldest = last.oldest if last is not None and known.idle > known.blocked else None
    return QueueWork(
        queue=queue,
        now=known,
        average=depth.mean(window.since, window.until),
        most=depth.most(window),
        series=depth.means(window, PARTS),
        oldest=None if oldest is None else max(0.0, window.until - oldest),
        assigned=sum(window.since <= run.created_at <= window.until for run in started),
        outcomes={outcome: outcomes[outcome] for outcome in Outcome},
        per_hour=outcomes[Outcome.COMPLETE] / window.seconds * 3600 if window.seconds > 0 else 0.0,
    )


def _as_depth(queue: str, last: Sample | None) -> QueueDepth:
    if last is None:
        return QueueDepth(name=queue)
    return QueueDepth(name=queue, idle=last.idle, blocked=last.blocked, working=last.working)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """How many tasks came to a queue in `window`: those first started, and what its depth grew by (None: unknown)."""

    window: Window
    started: int
    growth: int | None

    @property
    def number(self) -> int:
        """Never below 0: tasks that were cancelled while they waited make the depth fall."""
        return max(0, self.started + (self.growth or 0))

    @property
    def words(self) -> str:
        """How it was counted, for a person."""
        first = f"{count(self.started, 'task')} had its first run" if self.started == 1 else (
            f"{self.started} tasks had their first run"
        )  # fmt: skip
        span = f"in the {about(self.window.seconds)} that are known"
        if self.growth is None:
            return f"{first} {span}; the queue's depth was not recorded, so how it changed is taken as 0."
        grew = f"{'grew' if self.growth >= 0 else 'shrank'} by {abs(self.growth)}"
        return (
            f"{first} {span} and the queue {grew}: what came is what was first started plus the growth "
            "(flow conservation; a retry that waits counts into the depth)."
        )


def arrivals(window: Window, depth: Depth, runs: Sequence[Run]) -> Arrivals:
    """Tasks that came to a queue. `runs`: its runs, of whatever time; `depth` begins where it is known.

    The window is cut to where the depth is known, so that both ends of it were measured.
    """
    begins = depth.begins
    if begins is not None and begins > window.since:
        window = Window(since=min(begins, window.until), until=window.until)
    before, after = depth.at(window.since), depth.at(window.until)
    started = sum(run.first and window.since < run.created_at <= window.until for run in runs)
    growth = None if before is None or after is None else after - before
    return Arrivals(window=window, started=started, growth=growth)
