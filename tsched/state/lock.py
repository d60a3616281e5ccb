"""One runner a state folder: a flock on the folder itself, which a dead holder cannot keep."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from tsched.model.errors import FatalError
from tsched.state.folder import StateFolder


class LockHeld(FatalError):  # noqa: N818  # it is a state of the world, not a fault
    """Another runner has the folder."""


class RunnerLock:
    """Held from `with` to its end. `tinyscheduler.lock` only shows the holder's pid; a loser never touches it."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._descriptor = -1

    def __enter__(self) -> "RunnerLock":
        descriptor = os.open(self._folder.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise LockHeld(_held_by(self._folder)) from None
        self._descriptor = descriptor
        self.refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.lock_file.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1

    def refresh(self) -> None:
        """Write the pid file anew where it does not show this process (an operator may have removed it)."""
        ours = f"{os.getpid()}\n"
        try:
            if self._folder.lock_file.read_text(encoding="ascii", errors="replace") == ours:
                return
        except FileNotFoundError:
            pass
        temporary = self._folder.lock_file.with_name(f".{self._folder.lock_file.name}.tmp")
        temporary.write_text(ours, encoding="ascii")
        temporary.rename(self._folder.lock_file)


def holder(folder: StateFolder) -> int | None:
    """The pid of the live runner that holds the folder, None where none does (or it is just starting)."""
    try:
        descriptor = os.open(folder.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _shown(folder)
    else:
        return None
    finally:
        os.close(descriptor)


def _shown(folder: StateFolder) -> int | None:
    try:
        return int(folder.lock_file.read_text(encoding="ascii", errors="replace"))
    except (OSError, ValueError):
        return None


def _held_by(folder: StateFolder) -> str:
    pid = _shown(folder)
    if pid is None:
        return f"another runner holds {folder.root}: stop it first"
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        command = "unknown command"
    return (
        f"the runner with pid {pid} ({command}) holds {folder.root}: stop it, or set TSCHED_STATE to another folder"
    )
