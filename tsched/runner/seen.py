"""One look at a host, which touches nothing: all that doctor and audit judge by."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tsched.executors.local import LocalExecutor
from tsched.model.fleet import Fleet
from tsched.model.history import PassRecord, Trouble
from tsched.model.lifecycle import Key, Lifecycle
from tsched.model.override import Override
from tsched.observe.status import NOTHING_SEEN, Report
from tsched.runner.execution import executor_of
from tsched.runner.folder import folder_of
from tsched.runner.needs import needs
from tsched.runner.revise import select
from tsched.schedule import health
from tsched.settings import Settings
from tsched.state import applied, events, overrides, passes, verdicts
from tsched.state.database import Database
from tsched.state.folder import StateFolder
from tsched.state.leases import Leases, LeaseScan

COMPARED = 7  # days before today whose errors are what is usual
LATELY = 20  # passes whose gaps say how often there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What the runner's own databases say."""

    fleet: Fleet | None = None
    lifecycles: Mapping[Key, Lifecycle] = field(default_factory=dict)
    report: Report = field(default_factory=lambda: NOTHING_SEEN)
    event: float = 0.0  # the newest one's time
    passes: Sequence[PassRecord] = ()
    troubles: Sequence[Trouble] = ()
    overrides: Sequence[Override] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a host, at one time (seconds since the epoch). `fleet`: the part that this host serves."""

    settings: Settings
    folder: StateFolder
    executor: LocalExecutor
    known: Remembered
    fleet: Fleet | None
    leases: LeaseScan
    now: float


def look(settings: Settings, *, now: float) -> Look:
    """Read what all checks need. Raises TschedError where the runner's own databases can't be read."""
    folder = folder_of(settings)
    known = remembered(folder, now=now)
    return Look(
        settings=settings,
        folder=folder,
        executor=executor_of(settings, folder),
        known=known,
        fleet=None if known.fleet is None else select(known.fleet, settings.pools),
        leases=Leases(folder.running).read_all(),
        now=now,
    )


def remembered(folder: StateFolder, *, now: float) -> Remembered:
    """Copy what the databases hold that checks ask for."""
    with (
        closing(Database.read_only(folder.db) or Database.empty()) as db,
        closing(passes.read_passes(folder.history_db)) as history,
    ):
        record = applied.load(db)
        return Remembered(
            fleet=record.fleet,
            lifecycles=record.lifecycles,
            report=verdicts.get_report(db, Report, NOTHING_SEEN),
            overrides=overrides.load(db),
            event=max((event.time for _, event in events.newest(db, 1)), default=0.0),
            passes=passes.passes(history, limit=LATELY),
            troubles=passes.errors(history, since=midnight(now) - COMPARED * health.DAY),
        )


def midnight(now: float) -> float:
    """When today began here."""
    local = datetime.fromtimestamp(now, UTC).astimezone()
    return local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def missing(seen: Look) -> Iterator[tuple[str, str]]:
    """What agents need from this host and would not find, with its mend."""
    if seen.fleet is not None:
        host = seen.settings
        for one in needs(seen.fleet, host.environ, host.pass_env, goose=host.goose_bin):
            yield one.message, one.mend
