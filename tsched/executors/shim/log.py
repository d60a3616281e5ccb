"""The run's log: all that its processes say, within bounds."""

import fcntl
import os

from .files import complain

TYPE_CHECKING = False  # typing itself would slow the start
if TYPE_CHECKING:
    from typing import Any

CHUNK = 1 << 16  # bytes: of output read at once
AT_ONCE = 1 << 22  # bytes: of output taken in before anything else is looked at


class Log:
    """The run's log, written here alone: what the children say comes through a pipe, so no flood passes `most` bytes.

    Of a flood an eighth of that is kept of its beginning and a quarter or more of its end; a line between says so.
    """

    __slots__ = (
        "beginning",
        "file",
        "heard",
        "left_out",
        "lost",
        "most",
        "path",
        "sink",
        "size",
        "source",
        "speaker",
    )

    def __init__(self, spec: "dict[str, Any]") -> None:
        self.path: str = spec["log"]
        self.most: int = spec.get("log_max", 1 << 26)  # a run of an older version has none
        self.speaker: int = (spec.get("user") or {}).get("uid", -1)  # may open /dev/stderr anew
        self.file = self.source = self.sink = -1
        self.size = self.heard = 0  # bytes: of the file; of all that was ever said
        self.beginning = self.left_out = self.lost = 0

    def open(self) -> None:
        """Once, before the first child. Raises OSError."""
        if self.file >= 0:
            return
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.size = os.lseek(self.file, 0, os.SEEK_END)
        self.source, self.sink = os.pipe()
        if self.speaker >= 0:
            os.fchown(self.sink, self.speaker, -1)
        fcntl.fcntl(self.source, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self.source, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)

    def drain(self) -> int:
        """Take in what has come. Returns how much that was, in bytes."""
        taken = 0
        while self.source >= 0 and taken < AT_ONCE:
            try:
                data = os.read(self.source, CHUNK)
            except BlockingIOError:
                break
            taken += len(data)
            self.write(data)
        self.heard += taken
        return taken

    def empty(self) -> None:
        """Take in all that is there by now, and no more: a stranger who got hold of the pipe may go on for ever."""
        there = fcntl.fcntl(self.source, fcntl.F_GETPIPE_SZ)
        while there > 0 and (taken := self.drain()):
            there -= taken

    def write(self, data: bytes) -> None:
        """At the end. What a full disk does not take is left out: it is no reason to end a run."""
        if self.lost:
            words = f"\n[tsched: {self.lost} bytes of output could not be written: the disk was full]\n"
            data = words.encode() + data
        if self.size + len(data) > self.most:
            self.make_room()
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self.file, view, self.size)
                self.size += written
                view = view[written:]
            self.lost = 0
        except OSError:
            self.lost += len(view)

    def make_room(self) -> None:
        """Leave out the middle. Both sides begin and end with whole lines, where lines are not endless."""
        head = self.most // 8
        if not self.beginning:
            before = os.pread(self.file, CHUNK, head - CHUNK)
            self.beginning = head - CHUNK + before.rfind(b"\n") + 1 if b"\n" in before else head
        start = self.size - self.most // 4
        start += os.pread(self.file, CHUNK, start).find(b"\n") + 1
        self.left_out += start - self.beginning
        words = f"[tsched: {self.left_out} bytes of output are left out here: a run's log has {self.most} at most]\n"
        try:
            end = self.beginning + os.pwrite(self.file, words.encode(), self.beginning)
            while start < self.size:
                data = os.pread(self.file, CHUNK, start)
                os.pwrite(self.file, data, end)
                start, end = start + len(data), end + len(data)
            os.ftruncate(self.file, end)
            self.size = end
        except OSError as error:  # the file can't grow by it, so this is no full disk
            complain(f"the log could not be shortened: {error}")

    def last(self, since: int) -> bytes:
        """What was said last, after so many bytes had been `heard`; 4 KiB at most."""
        most = min(4096, self.heard - since, self.size)
        return os.pread(self.file, most, self.size - most)
