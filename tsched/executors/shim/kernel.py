"""What the shim asks of the kernel: processes as /proc shows them, and the time since boot."""

import errno
import fcntl
import os
import time

from .bare import signal
from .files import read_text


def since_boot() -> float:
    """Seconds since boot, sleep included: no clock that somebody sets moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_boot_id() -> str:
    return read_text("/proc/sys/kernel/random/boot_id").strip()


def stat_of(pid: int) -> "tuple[int, int] | None":
    """Parent and start time (clock ticks since boot) of a process, None where it is gone."""
    try:
        fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), int(fields[19])


def tells_of_files(folder: str) -> bool:
    """Have the kernel send SIGIO whenever a file comes or is written in a folder, while we live. Whether it will."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(handle, fcntl.F_NOTIFY, fcntl.DN_CREATE | fcntl.DN_MODIFY | fcntl.DN_RENAME | fcntl.DN_MULTISHOT)
    except OSError:
        os.close(handle)
        return False
    return True


def descendants() -> "list[tuple[int, int]]":
    """Every descendant as (pid, start time), parents first. A subreaper has all orphans among them.

    Zombies too: one whose first thread alone has ended looks the same, and a signal does the others no harm.
    """
    children: dict[int, list[tuple[int, int]]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (stat := stat_of(int(name))) is not None:
            children.setdefault(stat[0], []).append((int(name), stat[1]))
    found = list(children.get(os.getpid(), ()))
    for pid, _ in found:  # grows while it is walked
        found += children.get(pid, ())
    return found


def send(pid: int, start: int, number: int) -> None:
    """Signal that very process, never one that has got its pid since."""
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            return
        handle = -1  # no pidfd here: the check below is as near as it gets
    try:
        stat = stat_of(pid)
        if stat is not None and stat[1] == start:
            if handle < 0:
                os.kill(pid, number)
            else:
                signal.pidfd_send_signal(handle, number)
    except OSError:
        pass  # it ended meanwhile
    finally:
        if handle >= 0:
            os.close(handle)
