"""Agents and pools as they are, beside what they did. Nothing is changed."""

from contextlib import closing
from dataclasses import dataclass

from tsched.model.run import RunResult
from tsched.observe.status import Status
from tsched.runner.folder import folder_of
from tsched.runner.sources import source_of
from tsched.runner.standing import DAY, depths_of, status_of
from tsched.settings import Settings
from tsched.state import applied, history
from tsched.state.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Agents and pools as they are, with the runs of the last 24 hours and each agent's last run ever."""

    status: Status
    results: tuple[RunResult, ...]
    last: tuple[RunResult, ...]


def activity(settings: Settings, *, now: float) -> Activity:
    """What `tsched agents` and `pools` show. `now`: seconds since the epoch."""
    folder = folder_of(settings)
    with (
        closing(Database.read_only(folder.db) or Database.empty()) as db,
        closing(source_of(settings, folder, read_only=True)) as tasks,
    ):
        return Activity(
            status=status_of(db, applied.outline(db), folder, depths_of(tasks), now=now),
            results=history.ended_since(db, now - DAY),
            last=history.last_of_agents(db),
        )
