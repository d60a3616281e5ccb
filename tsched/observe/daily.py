"""The log's file of each day: whole lines appended, those that the disk refuses counted and told of later."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tsched.observe import messages
from tsched.observe.entries import Level, encoded, format_line


class DailyFile:
    """`scheduler_YYYYMMDD.log` in a folder, opened for each write: one rotated away or removed needs no care then.

    `first`: the lines that a new file begins with, by the moment that they bear.
    """

    def __init__(self, folder: Path, first: Callable[[float], str]) -> None:
        self._folder = folder
        self._first = first
        self._lost = 0  # lines that the disk refused
        self._torn = False  # the last write was cut short, so the next one has to begin a line of its own

    def write(self, day: float, moment: float, parts: Iterable[bytes]) -> None:
        """Append whole lines; the disk stops nobody. `day`: a moment of the file's day; `moment`: now."""
        left = iter(parts)
        try:
            self._append(day, moment, left)
        except OSError:
            self._lost += sum(part.count(b"\n") for part in left)

    def _append(self, day: float, moment: float, parts: Iterable[bytes]) -> None:
        path = f"{self._folder}/{_name(day)}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, flags, 0o600)
        try:
            if os.fstat(descriptor).st_size == 0:
                self._put(descriptor, encoded(self._first(moment)))
            if self._lost:
                missing = format_line(moment, Level.WARNING, messages.lines_lost(self._lost))
                self._put(descriptor, encoded(missing))
                self._lost = 0
            for part in parts:
                self._put(descriptor, part, counted=True)
        finally:
            os.close(descriptor)

    def _put(self, descriptor: int, data: bytes, *, counted: bool = False) -> None:
        """`counted`: lines that the disk refuses are lost."""
        if not data:
            return
        begin = b"\n" if self._torn else b""
        data = begin + data if begin else data
        whole = len(begin)
        try:
            written = os.write(descriptor, data)
            self._torn = written < len(data)
            whole = max(whole, written)
            if self._torn:
                raise OSError("the disk took a part of the lines")
        except OSError:
            self._lost += data.count(b"\n", whole) if counted else 0
            raise


def _name(day: float) -> str:
    """The file of a moment's day."""
    return time.strftime("scheduler_%Y%m%d.log", time.localtime(day))


def last_line(folder: Path) -> str:
    """The newest entry of the logs in a folder: what a runner was last heard to do. "" where there is none."""
    days = sorted(folder.glob("scheduler_*.log"))
    if not days:
        return ""
    with days[-1].open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return lines[-1] if lines else ""
