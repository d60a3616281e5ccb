"""What the live views show, read in one go and without touching anything."""

from contextlib import closing

from tsched.observe.top import View
from tsched.runner.host import executor_of, folder_of
from tsched.runner.look import look
from tsched.settings import Settings
from tsched.state import events, passes
from tsched.state.database import Database

EVENTS = 200
DEPTHS = 3600.0  # seconds back: a queue that was served says how it stands once a minute


def view(settings: Settings, *, now: float) -> View:
    """The runner of this host as it stands. `now`: seconds since the epoch."""
    folder = folder_of(settings)
    status = look(settings, now=now)
    with closing(Database.read_only(folder.db) or Database.empty()) as db:
        newest = events.newest(db, EVENTS)
    with closing(passes.read_passes(folder.history_db)) as history:
        samples = {one.queue: one for one in passes.samples(history, since=now - DEPTHS)}
        last = passes.passes(history, limit=1)
    executor = executor_of(settings, folder)
    runs = {one["run_id"]: executor.run(one["run_id"]) for one in status["runs"]}
    return View(
        at=now,
        status=status,
        titles={run_id: run.title for run_id, run in runs.items() if run is not None},
        samples=samples,
        events=[event for _, event in newest],
        last=last[-1] if last else None,
    )
