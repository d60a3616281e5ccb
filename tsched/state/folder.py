"""The layout of the state folder, and the one way to make it."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tsched.failpoint import failpoint
from tsched.model.errors import ConfigurationError


@dataclass(frozen=True)
class StateFolder:
    """Paths below the state folder `root`, which need not exist yet."""

    root: Path
    running_dir: Path | None = None  # elsewhere by host setting
    logs_dir: Path | None = None

    @cached_property
    def running(self) -> Path:
        return self.running_dir or self.root / "running"

    @cached_property
    def logs(self) -> Path:
        return self.logs_dir or self.root / "logs"

    @cached_property
    def db(self) -> Path:
        return self.root / "tsched.db"

    @cached_property
    def history_db(self) -> Path:
        return self.root / "history.db"

    @cached_property
    def tasks_db(self) -> Path:
        return self.root / "tasks.db"

    @cached_property
    def ledger(self) -> Path:
        return self.root / "ledger.db"

    @cached_property
    def deliveries(self) -> Path:
        return self.root / "deliveries"

    @cached_property
    def runs(self) -> Path:
        return self.root / "runs"

    @cached_property
    def run_logs(self) -> Path:
        return self.logs / "runs"

    @cached_property
    def mirror(self) -> Path:
        return self.root / "mirror.git"

    @cached_property
    def workspaces(self) -> Path:
        return self.root / "workspaces"

    @cached_property
    def lock_file(self) -> Path:
        return self.root / "tinyscheduler.lock"

    @cached_property
    def control_file(self) -> Path:
        return self.root / "agent-control.json"

    @cached_property
    def applied_recipes(self) -> Path:
        return self.root / "applied/recipes"

    def create(self) -> None:
        """Make what is missing, for its owner alone. Raises ConfigurationError where that can't be."""
        for folder in (self.root, self.running, self.runs, self.logs, self.run_logs, self.workspaces):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(
                    f"can't make the folder {folder}: {error.strerror}. Mend it, or set TSCHED_STATE to another place"
                ) from None
        if not os.access(self.root, os.W_OK):
            raise ConfigurationError(
                f"the state folder {self.root} may not be written: mend that, or set TSCHED_STATE"
            )
        seen = self.root.stat()
        if (why := shared(self.root, mode=seen.st_mode, owner=seen.st_uid, user=os.geteuid())) is not None:
            raise ConfigurationError(why)


def shared(root: Path, *, mode: int, owner: int, user: int) -> str | None:
    """Why nobody but `user` should write to a state folder, with the mend, where others can; None where none can.

    A folder of another user is left to `tsched doctor` for root: containers mount such folders.
    """
    danger = "who can write there decides what runs"
    if owner not in (user, 0) and user != 0:
        return f"the state folder {root} belongs to another user (uid {owner}); {danger}: `chown {user} {root}`"
    if mode & 0o022:
        return f"the state folder {root} can be written by others; {danger}: `chmod go-w {root}`"
    return None


def write_durably(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace a file so that a crash leaves the old or the new content: temp file, fsync, rename, folder fsync.

    Raises OSError, and then the old content stands and no temp file is left.
    """
    failpoint("to be written")
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # a crash's left-over may be read-only, as `mode` says
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        failpoint("written beside")
        temporary.rename(path)
        failpoint("renamed")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
