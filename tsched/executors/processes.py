"""Processes as /proc shows them: who they are, and how to end exactly those that were meant."""

import os
import signal
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A living process. Pid and start time (clock ticks since boot) name it; a pid alone may be given again."""

    pid: int
    start: int
    session: int


def boot_id() -> str:
    """The kernel's id of this boot."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def look(pid: int) -> Process | None:
    """The process of that pid; None where there is none, or only a zombie (which is dead)."""
    fields = _stat(pid)
    if not fields or (fields[0] in "ZX" and int(fields[17]) <= 1):  # more threads: the first alone has ended
        return None
    return Process(pid=pid, start=int(fields[19]), session=int(fields[3]))


def _stat(pid: int) -> list[str]:
    """What the kernel says of a process, from its state on; empty where there is none."""
    try:
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def alive(process: Process) -> bool:
    """Whether that very process still lives."""
    now = look(process.pid)
    return now is not None and now.start == process.start


def adopts() -> bool:
    """Whether orphans become children of this very process: it is a container's first."""
    return os.getpid() == 1


def collect(process: Process) -> bool:
    """Whether that very process is no more. Where it is a zombie that is left to us it is none after this.

    For orphans alone: of a child that somebody here has started the exit status would be lost.
    """
    fields = _stat(process.pid)
    if not fields or int(fields[19]) != process.start:
        return True
    return fields[0] == "Z" and int(fields[1]) == os.getpid() and os.waitpid(process.pid, os.WNOHANG)[0] > 0


def everything() -> Iterator[Process]:
    """All living processes but this one."""
    for name in os.listdir(PROC):
        if name.isdecimal() and int(name) != os.getpid() and (process := look(int(name))) is not None:
            yield process


def run_id_of(process: Process) -> str:
    """The TSCHED_RUN_ID in a process's environment, "" where there is none or it can't be seen."""
    try:
        environ = (PROC / str(process.pid) / "environ").read_bytes()
    except OSError:
        return ""
    key = b"TSCHED_RUN_ID="
    return next(
        (item[len(key) :].decode(errors="replace") for item in environ.split(b"\0") if item.startswith(key)), ""
    )


def attached(process: Process, *, folder: Path, output: str) -> bool:
    """Whether a process works below the folder or speaks into that pipe: it is of a run, its environment cleared."""
    base = PROC / str(process.pid)
    try:
        if (base / "cwd").readlink().is_relative_to(folder):
            return True
    except OSError:
        pass
    for descriptor in ("1", "2"):
        try:
            if (base / "fd" / descriptor).readlink() == Path(output):
                return True
        except OSError:
            continue
    return False


def places() -> frozenset[Path]:
    """The working directories of all processes that we may look at."""
    found = set()
    for name in os.listdir(PROC):
        try:
            if name.isdecimal():
                found.add(os.readlink(PROC / name / "cwd"))
        except OSError:
            continue  # it has ended, or is another user's
    return frozenset(map(Path, found))


def kill(process: Process) -> None:
    """SIGKILL that very process. One that has got its pid since is left alone."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        handle = -1  # gone already, or a sandbox without pidfd
    try:
        if alive(process):
            if handle >= 0:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            else:
                os.kill(process.pid, signal.SIGKILL)
    except OSError:
        pass
    finally:
        if handle >= 0:
            os.close(handle)


def wait_gone(processes: Collection[Process], *, seconds: float) -> bool:
    """Whether all of them have ended within the time."""
    until = time.monotonic() + seconds
    while any(alive(process) for process in processes):
        if time.monotonic() >= until:
            return False
        time.sleep(0.005)
    return True
