"""Whether an agent still gets on with its work."""

import os

from .files import read_text
from .kernel import descendants, since_boot
from .log import Log

TYPE_CHECKING = False  # typing itself would slow the start
if TYPE_CHECKING:
    from typing import Any

LOOK_EVERY = 60.0  # seconds between two looks at an agent's progress, or an eighth of `stall`
BUSY = 0.1  # of one processor: an agent that computes so much does something
INFINITE = float("inf")
MOST_FILES = 20_000  # of its folder that one look goes through


class Progress:
    """Whether the agent does anything: more output, other processes, computing, a change in its folder."""

    __slots__ = ("cpu", "every", "folder", "heard", "known", "limit", "log", "looked", "newest", "since")

    def __init__(self, spec: "dict[str, Any]", log: Log) -> None:
        self.limit: float = spec["stall"]  # seconds without any; 0: for ever
        self.every = min(LOOK_EVERY, self.limit / 8)
        self.log = log
        self.folder: str = spec["cwd"]
        self.since = self.looked = since_boot()
        self.heard = self.newest = 0
        self.known: list[tuple[int, int]] = []
        self.cpu = 0.0

    def due(self) -> float:
        """When it is time to look again, in seconds since boot."""
        return self.looked + self.every if self.limit else INFINITE

    def stalled(self) -> bool:
        """Look, where it is time. Whether nothing has moved for `stall`."""
        now = since_boot()
        if now < self.due():
            return False
        elapsed, self.looked = now - self.looked, now
        if self.moved(elapsed):
            self.since = now
        return now - self.since >= self.limit

    def moved(self, elapsed: float) -> bool:
        """The cheapest sign first. A sign that was not looked at is compared with its older state the next time."""
        before, self.heard = self.heard, self.log.heard
        if self.heard != before:
            return True
        others, self.known = self.known, descendants()
        used, self.cpu = self.cpu, sum(computed(pid) for pid, _ in self.known)
        if self.known != others or self.cpu - used >= BUSY * elapsed:
            return True
        touched, self.newest = self.newest, newest(self.folder)
        return self.newest != touched


def computed(pid: int) -> float:
    """Seconds of processor time that a process and its ended children have used."""
    try:
        fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / float(os.sysconf("SC_CLK_TCK"))


def newest(folder: str) -> int:
    """The newest change below a folder, in nanoseconds since the epoch; links are not followed."""
    latest, seen, folders = 0, 0, [folder]
    while folders and seen < MOST_FILES:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    seen += 1
                    latest = max(latest, entry.stat(follow_symlinks=False).st_mtime_ns)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError:
            continue  # it went away meanwhile
    return latest
