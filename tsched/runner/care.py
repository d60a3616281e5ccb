"""Keeping house, by the runner once an hour, by `tsched gc` at once: old logs and history go."""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tsched.gitops.mirror import Mirror
from tsched.model.errors import TschedError
from tsched.runner.execution import executor_of
from tsched.runner.folder import folder_of
from tsched.runner.record import Pass
from tsched.schedule import keep
from tsched.settings import Settings
from tsched.state import database, events, history, passes, rotation
from tsched.state.database import Database
from tsched.state.folder import StateFolder

EVERY = 3600.0  # seconds
BUDGET = 1.0  # seconds of a pass, after which the rest is left to the next one
HEAVY = 32 * 1024 * 1024  # bytes of a log beyond which no pass stops to pack it: `tsched gc` does
LEFT = 3600.0  # seconds after which the temporary file of a write is one that a crash left


@dataclass(kw_only=True, slots=True)
class Kept:
    """What was done, or would be: names of files below the state folder, numbers of rows.

    `problems`: what could not be done, in words. `whole`: nothing that is due was left to a later call.
    """

    compressed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    runs: int = 0
    events: int = 0
    passes: int = 0
    workspaces: list[str] = field(default_factory=list)  # those that are kept: a person's to remove
    mirror: Mapping[str, int] | None = None  # what was loose or in several packs
    problems: list[str] = field(default_factory=list)
    whole: bool = True

    @contextmanager
    def part(self) -> Iterator[None]:
        """A part that may fail by itself."""
        try:
            yield
        except (TschedError, OSError) as error:
            self.problems.append(str(error))


def care(p: Pass) -> None:
    """Keep house where it is due. What fails is a warning: no pass ends for it. Passes are pruned by chronicle."""
    stamp = p.host.folder.logs / ".cared"
    if not _due(stamp, p.now):
        return
    with p.step("care"):
        keep_days = p.host.settings.keep_days
        done = Kept()
        with done.part():
            done = keep_house(p.host.folder, p.host.db, None, keep_days=keep_days, now=p.now, budget=BUDGET)
        with done.part():
            if done.whole:
                stamp.touch(mode=0o600)
                os.utime(stamp, (p.now, p.now))
        for problem in done.problems:
            p.log.warning(f"Keeping house: {problem}")


def _due(stamp: Path, now: float) -> bool:
    """Whether it was not done within the hour; a clock that was set back counts as if it was not."""
    try:
        return not 0.0 <= now - stamp.stat().st_mtime < EVERY
    except OSError:
        return True


def keep_house(
    folder: StateFolder,
    db: Database | None,
    passed: Database | None,
    *,
    keep_days: int,
    now: float,
    budget: float | None = None,
    dry_run: bool = False,
) -> Kept:
    """Do all that is due, or with `dry_run` only say it. `now`: seconds since the epoch. `budget`: seconds.

    Without a database its rows are left alone. Safe beside a runner: a day's log is touched only when its day is two
    days past, a run's when nothing else of the run is left, rows when no retry asks for them.
    """
    done = Kept()
    live = live_runs(folder)
    rotate_logs(folder, done, live=live, keep_days=keep_days, now=now, budget=budget, dry_run=dry_run)
    before = now - keep_days * keep.DAY
    with done.part():
        if db is not None:
            done.runs = history.prune(db, before=before, besides=live)
            done.events = events.prune(db, before=before)
    with done.part():
        if passed is not None:
            done.passes = passes.prune(passed, before=before)
    with done.part():
        _leftovers(folder, done, now=now, dry_run=dry_run)
    return done


def live_runs(folder: StateFolder) -> frozenset[str]:
    """Every run of which something is still there: it lives, its result waits, or its workspace is on its way out."""
    found: set[str] = set()
    for place in (folder.runs, folder.workspaces / ".leaving"):
        if place.is_dir():
            found.update(name.removeprefix(".new_").removeprefix(".gone_") for name in os.listdir(place))
    return frozenset(found)


def rotate_logs(
    folder: StateFolder, done: Kept, *, live: Collection[str], keep_days: int, now: float, budget: float | None,
    dry_run: bool,
) -> None:  # fmt: skip
    """The runner's own logs by the day in their names, those of runs by when they were last written to."""
    today = datetime.fromtimestamp(now, UTC).astimezone().date()
    due: list[tuple[Path, Callable[[Path], None], list[str]]] = []
    for place in (folder.logs, folder.run_logs):
        written = rotation.plain_files(place)
        chores = (
            keep.daily_logs(written, today=today, keep_days=keep_days)
            if place == folder.logs
            else keep.run_logs(written, live=live, now=now, keep_days=keep_days)
        )
        due += [(place / name, rotation.remove, done.removed) for name in chores.remove]
        packed = [place / name for name in chores.compress]
        due += [(path, rotation.compress, done.compressed) for path in packed if budget is None or _light(path)]
    if not due:
        return
    with rotation.alone(folder.logs) as alone:
        if not alone:
            done.problems.append("another process looks after the logs just now")
            return
        end = time.monotonic() + (budget if budget is not None else float("inf"))
        for path, do, names in due:
            if time.monotonic() > end:
                done.whole = False
                return
            with done.part():
                if not dry_run:
                    do(path)
                names.append(_shown(path, folder))


def _light(path: Path) -> bool:
    try:
        return path.stat(follow_symlinks=False).st_size <= HEAVY
    except OSError:  # gone meanwhile
        return False


def _leftovers(folder: StateFolder, done: Kept, *, now: float, dry_run: bool) -> None:
    """Temporary files of writes that a crash cut short. A write takes no hour, so no living one is touched."""
    for place in (folder.root, folder.logs, folder.run_logs):
        for name, written in rotation.plain_files(place).items():
            if name.startswith(".") and name.endswith(".tmp") and written < now - LEFT:
                if not dry_run:
                    rotation.remove(place / name)
                done.leftovers.append(_shown(place / name, folder))


def _shown(path: Path, folder: StateFolder) -> str:
    return str(path.relative_to(folder.root)) if path.is_relative_to(folder.root) else str(path)


def gc(settings: Settings, *, now: float, dry_run: bool) -> Kept:
    """Keep house at once, beside a runner or without one; the mirror too. `now`: seconds since the epoch.

    A dry run touches nothing: it drops rows of copies. Kept workspaces are only named. Raises TschedError where a
    database can't be read.
    """
    folder = folder_of(settings)
    with ExitStack() as open_:
        db = _opened(folder.db, database.MIGRATIONS, "FULL", dry_run=dry_run)
        passed = _opened(folder.history_db, passes.MIGRATIONS, "NORMAL", dry_run=dry_run)
        for one in (db, passed):
            if one is not None:
                open_.callback(one.close)
        done = keep_house(folder, db, passed, keep_days=settings.keep_days, now=now, dry_run=dry_run)
    done.workspaces = [one.folder.name for one in executor_of(settings, folder).kept()]
    if settings.repo is not None:
        with done.part(), closing(Mirror(folder.mirror, settings.repo, settings.branch)) as mirror:
            loose, packs = mirror.loose()
            if loose or packs > 1:
                done.mirror = {"loose_objects": loose, "packs": packs}
                if not dry_run:
                    mirror.repack()
    return done


def _opened(path: Path, migrations: Sequence[str], synchronous: str, *, dry_run: bool) -> Database | None:
    if dry_run:
        return Database.read_only(path, migrations=migrations)
    return Database.open(path, migrations=migrations, synchronous=synchronous) if path.exists() else None
