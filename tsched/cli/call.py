"""What every command gets from its call: the settings of this host and the packages they point at."""

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tsched.model.errors import ConfigurationError

if TYPE_CHECKING:
    from tsched.gitops.commits import Commits
    from tsched.gitops.mirror import Mirror
    from tsched.model.fleet import Fleet
    from tsched.settings import Settings
    from tsched.state.database import Database
    from tsched.state.folder import StateFolder
    from tsched.tasks.embedded_operations import OperatedTasks
    from tsched.tasks.source import TaskSource


def settings_of(ctx: typer.Context, **flags: str | float | bool | None) -> "Settings":
    """This host's settings, with the global flags and the command's own (setting name → value; None: not given).

    Raises ConfigurationError for a bad value.
    """
    from tsched.settings import load

    given: dict[str, str] = dict(global_flags(ctx))
    given |= {name: _text(value) for name, value in flags.items() if value is not None}
    return load(given)


def global_flags(ctx: typer.Context) -> Mapping[str, str]:
    """The flags before the subcommand, by setting name."""
    obj: object = ctx.obj
    return {str(key): str(value) for key, value in obj.items()} if isinstance(obj, dict) else {}


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def who(environ: Mapping[str, str] = os.environ) -> str:
    """Who gives this command, as well as the environment says: for events and comments."""
    names = (environ.get(name) for name in ("SUDO_USER", "USER", "LOGNAME"))
    return next((name for name in names if name), f"uid {os.getuid()}")


def state_folder(settings: "Settings") -> "StateFolder":
    """The layout of the state folder; nothing is made."""
    from tsched.state.folder import StateFolder

    return StateFolder(settings.state, running_dir=settings.running_dir, logs_dir=settings.log_dir)


def wake_daemon(settings: "Settings") -> int | None:
    """Have the daemon of this state folder cycle at once. Its pid; None where there is none."""
    from tsched.state.wake import wake

    return wake(state_folder(settings))


@contextmanager
def read_state(settings: "Settings") -> "Iterator[Database]":
    """The runner's own database, to read without touching it; an empty one before the first pass."""
    from tsched.state.database import Database

    with closing(Database.read_only(state_folder(settings).db) or Database.empty()) as database:
        yield database


@contextmanager
def read_history(settings: "Settings") -> "Iterator[Database]":
    """The history of passes, to read without touching it; an empty one before the first pass."""
    from tsched.state.passes import read_passes

    with closing(read_passes(state_folder(settings).history_db)) as database:
        yield database


def since_of(text: str, now: float) -> float:
    """What `--since` names, seconds since the epoch. Raises ConfigurationError."""
    from tsched.model.units import since

    try:
        return since(text, now)
    except ValueError as error:
        raise ConfigurationError(f"--since: {error}") from None


def applied_fleet(settings: "Settings") -> "Fleet | None":
    """The fleet that is applied here, read without touching anything."""
    from tsched.state import applied

    with read_state(settings) as database:
        return applied.load(database).fleet


@contextmanager
def open_tasks(settings: "Settings") -> "Iterator[OperatedTasks]":
    """The embedded queue, made where it is missing.

    Raises ConfigurationError where the host's tasks live on a server.
    """
    from tsched.tasks.embedded_operations import OperatedTasks

    _require_embedded(settings)
    folder = state_folder(settings)
    folder.create()
    with closing(OperatedTasks(folder.tasks_db)) as tasks:
        yield tasks


@contextmanager
def task_source(settings: "Settings") -> "Iterator[TaskSource]":
    """Wherever this host's tasks live, to look at without touching it. Raises ConfigurationError."""
    from tsched.runner.sources import source_of

    with closing(source_of(settings, state_folder(settings), read_only=True)) as tasks:
        yield tasks


@contextmanager
def read_tasks(settings: "Settings") -> "Iterator[OperatedTasks]":
    """The embedded queue, to read without touching it; an empty one where it is missing."""
    from tsched.tasks.embedded_operations import OperatedTasks

    _require_embedded(settings)
    with closing(OperatedTasks(state_folder(settings).tasks_db, read_only=True)) as tasks:
        yield tasks


@contextmanager
def borrowed_mirror(settings: "Settings") -> "Iterator[Mirror]":
    """The fleet repo to read from, fetching into a temporary folder: nothing of the state folder is touched.

    Raises ConfigurationError where no fleet repo is set.
    """
    from tempfile import TemporaryDirectory

    from tsched.gitops.mirror import Mirror

    if settings.repo is None:
        raise ConfigurationError("no fleet repo is set: set TSCHED_REPO to its address or path")
    with (
        TemporaryDirectory(prefix="tsched-") as folder,
        closing(Mirror(state_folder(settings).mirror, settings.repo, settings.branch)) as mirror,
        closing(mirror.borrow(Path(folder))) as borrowed,
    ):
        yield borrowed


@contextmanager
def commits_of(settings: "Settings") -> "Iterator[Commits]":
    """Where revisions are looked up: the fleet repo, newly fetched, or without one the repository around here."""
    from tsched.gitops.commits import Commits

    if settings.repo is None:
        with closing(Commits.around(Path())) as commits:
            yield commits
    else:
        with borrowed_mirror(settings) as mirror:
            mirror.fetch(mirror.poll())
            yield mirror


def _require_embedded(settings: "Settings") -> None:
    if settings.tasks is not None:
        raise ConfigurationError(
            f"the tasks of this host live on a server ({settings.sources['tasks']}): list and change them there; "
            "`tsched task show ID` works here too"
        )
