"""The runner's hands: every outside thing one cycle touches, opened once and passed around as one value."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from tsched.executors.executor import Executor
from tsched.model.history import Sample
from tsched.model.kept import Kept
from tsched.observe.log import OperatorLog
from tsched.runner.execution import executor_of
from tsched.runner.fleets import FleetSource, source_for
from tsched.runner.folder import folder_of
from tsched.runner.installed import check_source
from tsched.runner.patience import Patience
from tsched.runner.patient import PatientTasks
from tsched.runner.sources import source_of
from tsched.settings import Settings
from tsched.state.database import Database
from tsched.state.folder import StateFolder
from tsched.state.identity import runner_id
from tsched.state.leases import Leases
from tsched.state.passes import open_passes
from tsched.state.view import Mark
from tsched.tasks.source import TaskSource
from tsched.validate.fleet import FleetCache


@dataclass(kw_only=True, slots=True)
class Host:
    """What a cycle works with. `clock` gives seconds since the epoch."""

    settings: Settings
    folder: StateFolder
    db: Database
    source: FleetSource
    leases: Leases
    tasks: TaskSource
    executor: Executor
    log: OperatorLog
    runner_id: str
    history: Database
    sampled: dict[str, Sample] = field(default_factory=dict)  # by queue: what history.db was last told; a cache
    stood: tuple[object, float] = (None, 0.0)  # how all of them stood then, and since when that is known
    viewed: tuple[object, frozenset[str], Mark | None] | None = None  # the view as it was left: of what, and its mark
    clock: Callable[[], float] = time.time
    cache: FleetCache = field(default_factory=FleetCache)
    kept: Kept = field(default_factory=Kept)  # what passes need not find out anew
    remote: Patience = field(default_factory=Patience)  # with the fleet repo's
    server: Patience = field(default_factory=Patience)  # with the task server
    diary: Patience = field(default_factory=Patience)  # with history.db

    def wake(self) -> None:
        """Somebody wants a pass at once: it asks also who was to be left alone."""
        self.remote.wake()
        self.server.wake()

    def close(self) -> None:
        """Give everything back; runs go on."""
        self.executor.close()
        self.tasks.close()
        self.source.close()
        self.db.close()
        self.history.close()
        self.log.close()


def in_the_cycle(settings: Settings) -> Settings:
    """What a cycle goes by: without a fleet repo, limits and durations are the fleet's, read anew by its source."""
    return settings if settings.repo is not None else settings.without_figures()


def open_host(settings: Settings, *, echo: TextIO | None = None) -> Host:
    """Open all that a runner needs, making the state folder. Raises any branch of TschedError."""
    folder = folder_of(settings)
    check_source(settings)
    folder.create()
    executor = executor_of(settings, folder)
    executor.check()
    log = OperatorLog(folder.logs, level=settings.log_level, echo=echo, as_json=settings.log_format == "json")
    history, said = open_passes(folder.history_db)
    for note in (*settings.notes, *filter(None, (said,))):
        log.warning(note)
    db = Database.open(folder.db)
    server = Patience()
    tasks = source_of(settings, folder)
    return Host(
        settings=in_the_cycle(settings),
        folder=folder,
        db=db,
        source=source_for(settings, folder, db),
        leases=Leases(folder.running),
        tasks=tasks if settings.tasks is None else PatientTasks(tasks, server),
        executor=executor,
        log=log,
        runner_id=runner_id(folder, host=settings.hostname),
        history=history,
        server=server,
    )
