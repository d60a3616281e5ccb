"""The status of this host's runner, read without touching anything. Light: the most frequent question of all."""

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from tsched.model.errors import TransientError
from tsched.model.task import QueueDepth
from tsched.observe import status as shown
from tsched.runner.folder import folder_of
from tsched.runner.sources import source_of
from tsched.settings import Settings
from tsched.state import applied, history, overrides, verdicts
from tsched.state.applied import Applied
from tsched.state.database import Database
from tsched.state.folder import StateFolder
from tsched.state.leases import Leases

if TYPE_CHECKING:
    from tsched.tasks.source import TaskSource

DAY = 24 * 3600.0  # seconds


def look(settings: Settings, *, now: float) -> shown.Status:
    """The status of this host's runner, read without touching anything. `now`: seconds since the epoch."""
    folder = folder_of(settings)
    with (
        closing(Database.read_only(folder.db) or Database.empty()) as db,
        closing(source_of(settings, folder, read_only=True)) as tasks,
    ):
        return status_of(db, applied.outline(db), folder, depths_of(tasks), now=now)


def status_of(
    db: Database, record: Applied, folder: StateFolder, depths: Sequence[QueueDepth], *, now: float
) -> shown.Status:
    """The status, from a database that is open already, the record in it, and what is known of the queues."""
    return shown.status(
        fleet=record.fleet,
        lifecycles=record.lifecycles,
        leases=Leases(folder.running).read_all().leases.values(),
        depths=depths,
        spent=history.spent(db, now - DAY),
        overrides=overrides.load(db),
        report=verdicts.get_report(db, shown.Report, shown.NOTHING_SEEN),
        generation=record.generation,
        now=now,
    )


def depths_of(tasks: "TaskSource") -> Sequence[QueueDepth]:
    """None are shown while the task server does not answer: the status must be had all the same."""
    try:
        return tasks.depths()
    except TransientError:
        return ()
