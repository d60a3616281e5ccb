"""What is asked of a state folder for as long as one watches it, each question a function. Nothing is changed."""

import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from tsched.model.alert import Alert
from tsched.model.event import Event
from tsched.model.fleet import Fleet, Limits
from tsched.model.history import PassRecord, Sample, Total, Trouble
from tsched.model.run import SeenRun
from tsched.model.secrets import without
from tsched.model.task import QueueDepth
from tsched.observe.status import Status
from tsched.observe.vitals import Pulse, Vitals
from tsched.runner.execution import executor_of
from tsched.runner.folder import folder_of
from tsched.runner.standing import status_of
from tsched.settings import Settings
from tsched.state import alarms, applied, events, history, passes, rotation
from tsched.state.database import Database
from tsched.state.folder import StateFolder
from tsched.state.leases import Leases
from tsched.state.lock import holder
from tsched.tasks.embedded import EmbeddedTasks

DAY = 24 * 3600.0  # seconds
LONGEST = 1024 * 1024  # bytes of a log
BUILT_IN = Limits()


@dataclass(kw_only=True, slots=True)
class Watch:
    """A state folder that is watched. Used from one thread. `clock` gives seconds since the epoch.

    Each question opens the databases beside their writers and gives them back: a runner may come, go, or begin them
    anew meanwhile. The applied fleet alone is kept between two questions, since it is long to read.
    """

    settings: Settings
    clock: Callable[[], float] = time.time
    fleet: tuple[int, Fleet] | None = None

    @property
    def folder(self) -> StateFolder:
        return folder_of(self.settings)

    @contextmanager
    def state(self) -> Iterator[Database]:
        """tsched.db at one moment; an empty one before the first pass."""
        with closing(Database.beside(self.folder.db) or Database.empty()) as db:
            db.fleet = self.fleet
            with db.picture():
                yield db
            self.fleet = db.fleet

    @contextmanager
    def history(self) -> Iterator[Database]:
        """history.db at one moment; an empty one before the first pass."""
        path, migrations = self.folder.history_db, passes.MIGRATIONS
        with closing(Database.beside(path, migrations=migrations) or Database.empty(migrations=migrations)) as db:
            yield db

    @contextmanager
    def both(self) -> Iterator[tuple[Database, Database]]:
        """tsched.db and history.db."""
        with self.state() as db, self.history() as kept:
            yield db, kept


def status(watch: Watch) -> Status:
    """The status object, as `tsched status --json` prints it."""
    with watch.state() as db:
        return status_of(db, applied.load(db), watch.folder, depths(watch), now=watch.clock())


def depths(watch: Watch) -> Sequence[QueueDepth]:
    """How queues stand: the embedded ones now; those of a server as the last pass saw them.

    A server is not asked: however many watch, it is the runner alone that uses up its patience.
    """
    if watch.settings.tasks is None:
        with closing(EmbeddedTasks(watch.folder.tasks_db, beside=True)) as tasks:
            return tasks.depths()
    return [
        QueueDepth(name=one.queue, idle=one.idle, blocked=one.blocked, working=one.working) for one in latest(watch)
    ]


def latest(watch: Watch) -> Sequence[Sample]:
    """How each queue that is served stood at the last pass, by queue."""
    with watch.state() as db:
        fleet = applied.load(db).fleet
    served = {pool.queue for pool in fleet.pools} if fleet is not None else set()
    with watch.history() as db:
        return [one for one in passes.samples(db, since=watch.clock()) if one.queue in served]


def samples(watch: Watch, *, since: float, queue: str | None = None) -> Sequence[Sample]:
    """How queues stood after a time (seconds since the epoch), oldest first; each one's last before it leads."""
    with watch.history() as db:
        return passes.samples(db, since=since, queue=queue)


def past(watch: Watch, *, since: float, limit: int) -> Sequence[PassRecord]:
    """The newest passes after a time, oldest of them first."""
    with watch.history() as db:
        return passes.passes(db, since=since, limit=limit)


def troubles(watch: Watch, *, since: float, limit: int) -> Sequence[Trouble]:
    """The newest errors after a time, oldest of them first."""
    with watch.history() as db:
        return passes.errors(db, since=since, limit=limit)


def totals(watch: Watch) -> Sequence[Total]:
    """Running totals over all passes."""
    with watch.history() as db:
        return passes.totals(db)


def happened(watch: Watch, *, after: int | None, limit: int) -> Sequence[tuple[int, Event]]:
    """Events with their numbers, oldest first: the first ones after a number; None: the newest."""
    with watch.state() as db:
        return events.newest(db, limit) if after is None else events.read(db, after=after, limit=limit)


def applied_revision(watch: Watch) -> str | None:
    """The revision that is in force."""
    with watch.state() as db:
        fleet = applied.load(db).fleet
    return None if fleet is None else fleet.revision


def changes(watch: Watch) -> Sequence[Event]:
    """What the applied revision changed when it was adopted, in order."""
    revision = applied_revision(watch)
    with watch.state() as db:
        return () if revision is None else events.changes(db, revision)


def alerts(watch: Watch) -> Sequence[Alert]:
    """What is wrong by the fleet's rules, pending alerts too."""
    with watch.state() as db:
        return alarms.load(db)


def runs(watch: Watch, *, limit: int) -> Sequence[SeenRun]:
    """Runs in progress, then the newest that ended, newest first; at most so many."""
    executor = executor_of(watch.settings, watch.folder)
    leases = Leases(watch.folder.running).read_all().leases.values()
    going = [
        SeenRun(run_id=lease.run_id, lease=lease, run=executor.run(lease.run_id))
        for lease in sorted(leases, key=lambda lease: (lease.started_at, lease.run_id), reverse=True)
    ]
    known = {one.run_id for one in going}
    with watch.state() as db:
        ended = [one for one in history.recent(db, limit) if one.run.run_id not in known]
    return [*going, *(SeenRun(run_id=one.run.run_id, run=one.run, result=one) for one in ended)][:limit]


def run(watch: Watch, run_id: str) -> SeenRun | None:
    """One run; None where no lease and no result names it."""
    leases = Leases(watch.folder.running).read_all().leases.values()
    lease = next((one for one in leases if one.run_id == run_id), None)
    with watch.state() as db:
        result = history.find(db, run_id)
    if lease is None and result is None:
        return None
    recorded = executor_of(watch.settings, watch.folder).run(run_id) if result is None else result.run
    return SeenRun(run_id=run_id, lease=lease, run=recorded, result=result)


def log(watch: Watch, run_id: str, *, lines: int) -> str | None:
    """The end of a known run's log, at most a MiB of it, also once it is packed; None for a run that is not known.

    Without this host's secrets: an agent may have printed the key that it was given.
    """
    if run(watch, run_id) is None:
        return None
    return without(_end_of_log(watch, run_id, lines=lines), watch.settings.secrets)


def _end_of_log(watch: Watch, run_id: str, *, lines: int) -> str:
    path = watch.folder.run_logs / f"{run_id}.log"
    if os.path.lexists(path) or not path.with_name(f"{path.name}.gz").is_file():
        return executor_of(watch.settings, watch.folder).tail(run_id, lines=lines)
    try:
        text = rotation.read_end(path, LONGEST).decode(errors="replace")
    except (OSError, EOFError, zlib.error):  # removed meanwhile, or damaged
        return ""
    return "\n".join(text.rstrip("\n").split("\n")[-lines:])


def pulse(watch: Watch) -> Pulse:
    """Whether a runner lives, and how often a pass is due."""
    with watch.state() as db:
        fleet = applied.load(db).fleet
    limits = BUILT_IN if fleet is None else fleet.limits
    own = watch.settings
    return Pulse(
        pid=holder(watch.folder),
        interval=limits.loop_interval if own.loop_interval is None else own.loop_interval,
        heartbeat=limits.heartbeat if own.heartbeat is None else own.heartbeat,
    )


def vitals(watch: Watch) -> Vitals:
    """All that metrics are made of."""
    return Vitals(
        status=status(watch),
        alerts=alerts(watch),
        totals=totals(watch),
        samples=latest(watch),
        pulse=pulse(watch),
        now=watch.clock(),
    )
