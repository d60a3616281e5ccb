"""One runner a state folder: a flock on the folder itself, which a dead holder cannot keep."""

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from tsched.failpoint import failpoint
from tsched.model.errors import FatalError
from tsched.model.units import iso
from tsched.state.folder import StateFolder

# How often the lock is asked for, and seconds between: `holder` in another process has it for an instant.
TRIES, PAUSE = 20, 0.01


class LockHeld(FatalError):  # noqa: N818  # it is a state of the world, not a fault
    """Another runner has the folder."""


class RunnerLock:
    """Held from `with` to its end. `tinyscheduler.lock` only shows the holder's pid; a loser never touches it.

    A folder of leases that is elsewhere is held too: a runner drops each lease there whose run is none of its own.
    """

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._descriptors: list[int] = []

    def __enter__(self) -> "RunnerLock":
        """Take the lock. Raises LockHeld, naming the holder, where another process has it."""
        try:
            if not self._take(self._folder.root):
                raise LockHeld(_held_by(self._folder))
            apart = self._folder.running.parent.resolve() != self._folder.root.resolve()
            if apart and self._folder.running.is_dir() and not self._take(self._folder.running):
                raise LockHeld(
                    f"another runner keeps its leases in {self._folder.running}: give this one a TSCHED_RUNNING_DIR "
                    "of its own"
                )
            self.refresh()
        except BaseException:
            self._let_go()
            raise
        return self

    def _take(self, folder: Path) -> bool:
        self._descriptors.append(_open(folder))
        return _taken(self._descriptors[-1])

    def _let_go(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failpoint("pid file to be removed")
        try:
            self._folder.lock_file.unlink(missing_ok=True)
        except OSError:
            pass  # it only shows a pid: on a disk that turned read-only it stays, and is known not to be the lock
        finally:
            self._let_go()

    def refresh(self) -> None:
        """Write the pid file anew where it does not show this process (an operator may have removed it)."""
        ours = f"{os.getpid()}\n"
        try:
            with open(self._folder.lock_file, "rb", buffering=0) as file:
                if file.read(len(ours) + 1) == ours.encode():
                    return
        except FileNotFoundError:
            pass
        temporary = self._folder.lock_file.with_name(f".{self._folder.lock_file.name}.tmp")
        temporary.write_text(ours, encoding="ascii")
        failpoint("written beside")
        temporary.rename(self._folder.lock_file)


def holder(folder: StateFolder) -> int | None:
    """The pid of the live runner that holds the folder, None where none does (or it is just starting)."""
    try:
        descriptor = _open(folder.root)
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


def _open(folder: Path) -> int:
    """Close-on-exec: a shim that outlives its runner must not keep the lock."""
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _taken(descriptor: int) -> bool:
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return True
    return False


def _shown(folder: StateFolder) -> int | None:
    try:
        return int(folder.lock_file.read_text(encoding="ascii", errors="replace"))
    except (OSError, ValueError):
        return None


def _held_by(folder: StateFolder) -> str:
    pid = _shown(folder)
    who = "another runner" if pid is None else f"the runner with pid {pid} ({known_of(pid)})"
    return f"{who} holds {folder.root}: stop it, or set TSCHED_STATE to another folder"


def known_of(pid: int) -> str:
    """A process's command line and start as /proc knows them, on one line."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
        booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        since = iso(int(booted.split()[1]) + ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, StopIteration):
        return "unknown command"
    command = "".join(letter if letter.isprintable() else "?" for letter in " ".join(words).strip())
    return f"{command[:200]}, since {since}"
