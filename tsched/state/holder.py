"""Who holds the state folder, as the kernel knows it, and how a holder that hangs is ended."""

import fcntl
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tsched.model.records import dataclass
from tsched.state.folder import StateFolder
from tsched.state.lock import RunnerLock, known_of

PROC = Path("/proc")
SETTLE = 5.0  # seconds that a killed process and its forks have to let go
_STATES = {"T": "stopped by a signal", "t": "stopped by a debugger", "D": "waiting for a disk or the kernel"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that holds the folder's lock. `what`: its command and since when; `doing`: what it does just now."""

    pid: int
    what: str
    doing: str


def held(folder: StateFolder) -> bool:
    """Whether any process holds the folder. A folder that is not there is free. Raises OSError for one unreadable."""
    try:
        descriptor = os.open(folder.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def find(folder: StateFolder) -> Holder | None:
    """The holder, by the lock itself: the file that names a pid may be gone, old, or another process's by now.

    None where nobody holds it, or a process that we may not look into: another user's, or on another machine.
    """
    for pid in _candidates(folder):
        if holds(pid, folder):
            return Holder(pid=pid, what=known_of(pid), doing=_doing(pid))
    return None


def clear(folder: StateFolder) -> bool:
    """Remove the file that a dead holder left. Whether there was one; raises LockHeld where somebody lives."""
    if not os.path.lexists(folder.lock_file):
        return False
    with RunnerLock(folder):  # as its holder, so that no runner that is just starting loses its own
        pass
    return True


def end(folder: StateFolder, holder: Holder, *, patience: float) -> bool:
    """End that holder: TERM, `patience` seconds, KILL. Whether the folder is free then. Its runs go on.

    Raises OSError where it may not be signalled.
    """
    try:
        handle = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        return not held(folder)
    try:
        if not holds(holder.pid, folder):  # looked at after the handle was taken: it may be a stranger by now
            return not held(folder)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            signal.pidfd_send_signal(handle, signal.SIGCONT)  # a stopped process could not act on TERM
            if not _gone(handle, patience):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        return _gone(handle, SETTLE) and _freed(folder)
    finally:
        os.close(handle)


def _freed(folder: StateFolder) -> bool:
    """A fork of it may have the lock for a moment longer."""
    until = time.monotonic() + SETTLE
    while held(folder):
        if time.monotonic() >= until:
            return False
        time.sleep(0.02)
    return True


def _gone(handle: int, seconds: float) -> bool:
    return bool(select.select([handle], [], [], seconds)[0])


def _candidates(folder: StateFolder) -> Iterator[int]:
    """Whom the file names, then everybody."""
    with suppress(OSError, ValueError):
        yield int(folder.lock_file.read_text(encoding="ascii", errors="replace"))
    yield from (int(name) for name in os.listdir(PROC) if name.isdecimal())


def holds(pid: int, folder: StateFolder) -> bool:
    """Whether a descriptor of that process is the state folder, with a lock on it."""
    try:
        root = folder.root.stat()
        return any(_locks(PROC / str(pid), name, root) for name in os.listdir(PROC / str(pid) / "fd"))
    except OSError:
        return False


def _locks(process: Path, descriptor: str, root: os.stat_result) -> bool:
    try:
        if not os.path.samestat((process / "fd" / descriptor).stat(), root):
            return False
        facts = (process / "fdinfo" / descriptor).read_text().splitlines()
    except OSError:
        return False  # closed meanwhile
    return any(line.startswith("lock:") and " FLOCK " in line and " WRITE " in line for line in facts)


def _doing(pid: int) -> str:
    """Its children's commands, such as a git that fetches; and whether it can move at all."""
    said = []
    with suppress(OSError, IndexError):
        letter = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        said += [_STATES[letter]] if letter in _STATES else []
    with suppress(OSError):
        children = (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()
        said += [f"running {known_of(int(child))}" for child in children if not _is_shim(child)]
    return "; ".join(said)


def _is_shim(pid: str) -> bool:
    """Shims are runs, which say nothing about their runner."""
    try:
        return b"shim.py" in (PROC / pid / "cmdline").read_bytes()
    except OSError:
        return True
