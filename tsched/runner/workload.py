"""What commands that look at work ask: finished runs, live ones, queue depths. Nothing is changed.

What is slow to load and seldom needed is imported where it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.fleet import Fleet
from tsched.model.history import Sample
from tsched.model.run import Run, RunResult
from tsched.model.task import QueueDepth
from tsched.runner.folder import folder_of
from tsched.schedule.depth import Depth, depths
from tsched.schedule.forecast import Forecast, forecast
from tsched.schedule.queues import QueueWork, queue_work
from tsched.schedule.timeline import Window
from tsched.settings import Settings
from tsched.state import applied, history, passes
from tsched.state.database import Database
from tsched.state.folder import StateFolder
from tsched.state.leases import Leases

if TYPE_CHECKING:
    from tsched.runner.questions import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The work of a window, which begins no earlier than anything is known.

    `fleet`: what is applied and served here. `results`: runs that ended in the window, oldest first; `live`: those
    that go on. `now`: the queues by the task server's word, empty where it was not asked or gave none.
    """

    window: Window
    fleet: Fleet | None
    results: tuple[RunResult, ...]
    live: tuple[Run, ...]
    samples: tuple[Sample, ...]
    now: Mapping[str, QueueDepth]

    @property
    def queues(self) -> Sequence[str]:
        """Every queue that is served or of which something is known, by name."""
        served = {pool.queue for pool in self.fleet.pools} if self.fleet is not None else set()
        worked = {one.run.queue for one in self.results} | {run.queue for run in self.live}
        return sorted(served | worked | {one.queue for one in self.samples} | self.now.keys())


def workload(
    settings: Settings, *, since: float, now: float, ask: bool = False, watch: "Watch | None" = None
) -> Workload:
    """The work between two times (seconds since the epoch). `ask`: whether the task server is asked for depths.

    `watch`: the watched folder, for one who looks again and again; without it not a byte is touched.
    """
    folder = folder_of(settings)
    going = _going(settings, folder)  # before the history is opened: what ends meanwhile is in that
    with _databases(folder) if watch is None else watch.both() as (db, kept):
        live = tuple(run for run in going if history.find(db, run.run_id) is None)
        first = history.oldest(db)
        known = [passes.first_pass(kept), first.run.created_at if first is not None else None]
        known += [run.created_at for run in live]  # the first pass may not be over yet
        begins = min([now, *(one for one in known if one is not None)])
        return Workload(
            window=Window(since=max(since, begins), until=now, asked=since if begins > since else None),
            fleet=_served(settings, db),
            results=history.ended_since(db, since),
            live=live,
            samples=passes.samples(kept, since=since),
            now={one.name: one for one in _asked(settings, folder, watch)} if ask else {},
        )


@contextmanager
def _databases(folder: StateFolder) -> Iterator[tuple[Database, Database]]:
    """Copies of tsched.db and history.db."""
    with (
        closing(Database.read_only(folder.db) or Database.empty()) as db,
        closing(passes.read_passes(folder.history_db)) as kept,
    ):
        yield db, kept


def _served(settings: Settings, db: Database) -> Fleet | None:
    fleet = applied.load(db).fleet
    if fleet is None or not settings.pools:
        return fleet
    from tsched.runner.revise import select

    return select(fleet, settings.pools)


def _asked(settings: Settings, folder: StateFolder, watch: "Watch | None") -> Sequence[QueueDepth]:
    """None are known while the task server does not answer."""
    if watch is not None:
        from tsched.runner.questions import depths as watched

        return watched(watch)
    from tsched.runner.sources import source_of

    with closing(source_of(settings, folder, read_only=True)) as tasks, suppress(TransientError):
        return tasks.depths()
    return ()


def _going(settings: Settings, folder: StateFolder) -> tuple[Run, ...]:
    """The runs that leases name, and those that have ended and wait for a pass to reap them."""
    leases = Leases(folder.running).read_all().leases.values()
    leased = {one.run_id for one in leases if one.run_id}
    if not leased and not (folder.runs.is_dir() and any(folder.runs.iterdir())):
        return ()
    from tsched.executors.executor import Liveness
    from tsched.runner.execution import executor_of

    executor = executor_of(settings, folder)
    unreaped = {run_id for run_id, state in executor.poll().items() if state is not Liveness.LOST}
    return tuple(run for run_id in sorted(leased | unreaped) if (run := executor.run(run_id)) is not None)


def queues(
    settings: Settings, *, since: float, now: float, watch: "Watch | None" = None
) -> tuple[Window, Sequence[QueueWork]]:
    """Every queue and what was done in it between two times (seconds since the epoch), by name."""
    work = workload(settings, since=since, now=now, ask=True, watch=watch)
    depth, last = depths(work.samples), {one.queue: one for one in work.samples}
    found = [
        queue_work(
            queue, work.window, now=work.now.get(queue), depth=depth.get(queue, Depth()), last=last.get(queue),
            results=work.results, live=work.live,
        )
        for queue in work.queues
    ]  # fmt: skip
    return work.window, found


def forecasts(
    settings: Settings, *, since: float, now: float, queue: str | None = None, wait: float | None = None
) -> tuple[Window, Sequence[Forecast]]:
    """What each queue (or one) needs, by name. `wait`: the mean wait to aim at, in seconds.

    Raises ConfigurationError for a queue of which nothing is known.
    """
    work = workload(settings, since=since, now=now)
    if queue is not None and queue not in work.queues:
        raise ConfigurationError(
            f"nothing is known of a queue {queue} (there are {', '.join(work.queues) or 'none'})"
        )
    depth = depths(work.samples)
    names = work.queues if queue is None else (queue,)
    return work.window, [_forecast(work, name, depth.get(name, Depth()), wait) for name in names]


def _forecast(work: Workload, queue: str, depth: Depth, wait: float | None) -> Forecast:
    return forecast(
        queue, work.window, fleet=work.fleet, depth=depth, results=work.results, live=work.live, wait=wait
    )
