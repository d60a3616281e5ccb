"""A run's log as it is brought from its pod: whole, or without its middle where it is longer than a log may be."""

import os
from collections import deque
from pathlib import Path
from types import TracebackType


class Output:
    """The log's new content, put in its place where all of it has come. `most`: bytes of it.

    Raises OSError where the disk refuses.
    """

    def __init__(self, log: Path, most: int) -> None:
        self._log, self._temp = log, log.with_name(f".{log.name}.tmp")
        self._head, self._tail_room = most // 3, most // 2
        self._tail: deque[bytes] = deque()
        self._written = self._tail_size = self._left_out = 0
        self._most = most

    def __enter__(self) -> "Output":
        self._temp.unlink(missing_ok=True)
        handle = os.open(self._temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(handle, "wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._finish()
        if kind is None:
            self._temp.rename(self._log)
        else:
            self._temp.unlink(missing_ok=True)

    def take(self, data: bytes) -> None:
        """The next piece."""
        room = max(0, self._head - self._written)
        self._file.write(data[:room])
        self._written += len(data[:room])
        if rest := data[room:]:
            self._tail.append(rest)
            self._tail_size += len(rest)
        while self._tail_size > self._tail_room and len(self._tail) > 1:
            gone = len(self._tail.popleft())
            self._tail_size -= gone
            self._left_out += gone

    def _finish(self) -> None:
        if self._left_out:
            words = (
                f"[tsched: {self._left_out} bytes of output are left out here: a run's log has {self._most} at most]"
            )
            self._file.write(f"\n{words}\n".encode())
        for piece in self._tail:
            self._file.write(piece)
