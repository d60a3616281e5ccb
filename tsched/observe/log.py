"""The operator's log: a file a day, one line an entry, in the words and the order that the guide's greps rely on."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, TextIO

from tsched.model.errors import in_words
from tsched.model.units import iso
from tsched.observe import messages
from tsched.observe.daily import DailyFile
from tsched.observe.entries import Level, encoded, format_json, format_line, head
from tsched.observe.text import one_line

ROUTINE_LINES: Final = 20  # of a pass, before `Reconciliation completed`: the guide greps within 30 lines
MANY: Final = 2500  # lines of one write
FEW: Final = 500  # lines that are made anew rather than kept as they were written
URGENT_LINES: Final = 5  # warnings and errors, the same
_HEAD: Final = "\0"  # stands for an entry's head: in no message
_BETWEEN: Final = f"\n{_HEAD}"


def registry_lines(*, source: str, agents: Sequence[str], queues: Sequence[str]) -> Sequence[tuple[Level, str]]:
    """The registry lines of a fleet, as standing ones."""
    lines = (messages.loaded_registry(source), messages.registered(agents), messages.agent_types(queues))
    return tuple((Level.INFO, line) for line in lines)


class OperatorLog:
    """Writes `scheduler_YYYYMMDD.log` in a folder and echoes the same lines. Logging never stops its caller.

    folder: None writes no file (a dry run). level: the name of the lowest level written. echo: a stream, or None.
    as_json: whether the echo is JSON; the file is text in any case, for the guide's greps. clock: seconds since the
    epoch. While a pass is open, every line belongs to it.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        level: str = "INFO",
        echo: TextIO | None = None,
        as_json: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = None if folder is None else DailyFile(folder, self._first)
        self._level = Level[level]
        self._echo = echo
        self._as_json = as_json
        self._clock = clock
        self._standing: tuple[tuple[Level, str], ...] = ()
        self._pass: PassLog | None = None
        # Routine lines, how many of them were a pass's share, and the rest of them.
        self._rest: tuple[Sequence[str] | None, int, Sequence[str]] = (None, 0, ())
        # Very many entries as they were written last, less their heads.
        self._many: tuple[Sequence[str] | None, Sequence[bytes]] = (None, ())

    def debug(self, message: str) -> None:
        self.log(Level.DEBUG, message)

    def info(self, message: str) -> None:
        self.log(Level.INFO, message)

    def warning(self, message: str) -> None:
        self.log(Level.WARNING, message)

    def error(self, message: str) -> None:
        self.log(Level.ERROR, message)

    def log(self, level: Level, message: str) -> None:
        """Write one entry, or keep it until the end of the open pass where that has had its share of lines."""
        if self._pass is not None:
            self._pass.count(errors=int(level >= Level.ERROR))
        if level < self._level:
            return
        moment = self._clock()
        if self._pass is None or self._pass.admits(level):
            self._write(moment, level, message)
        else:
            self._pass.later.append(Entries(moment, level, (one_line(message),)))

    def routine(self, lines: Sequence[str]) -> None:
        """Many INFO entries of one moment; `lines`: messages without line ends, as `one_line` leaves them.

        Those past the pass's share are kept as they are, so that ten thousand cost two writes and no loop.
        """
        if self._level > Level.INFO or not lines:
            return
        moment = self._clock()
        now = len(lines) if self._pass is None else self._pass.share(len(lines))
        self._write_all([Entries(moment, Level.INFO, lines[:now])] if now else ())
        if self._pass is not None and now < len(lines):
            if self._rest[0] is not lines or self._rest[1] != now:
                self._rest = (lines, now, lines[now:])  # the same object again, as long as these are
            self._pass.later.append(Entries(moment, Level.INFO, self._rest[2]))

    def standing(self, lines: Sequence[tuple[Level, str]]) -> None:
        """What holds for now: a line is logged when it is new to this process, and first in each day's file then."""
        before = self._standing
        if tuple(lines) == before:
            return
        self._standing = tuple(one for one in lines if one in before)  # a new file is begun with these, not with all
        for level, line in lines:
            if (level, line) not in before:
                self.log(level, line)
        self._standing = tuple(lines)

    def close(self) -> None:
        """End the log. The file is never held open, so all there is to end is the echo."""
        self._echo = None

    @contextmanager
    def reconciliation_pass(self) -> "Iterator[PassLog]":
        """One pass as a unit: its completed line stands within the guide's 30 lines, whatever else was logged.

        A pass that ends by an exception says so instead of `completed`; the exception goes on to the caller.
        """
        began = time.monotonic()
        moment = self._clock()
        self.info(messages.STARTING)
        current = self._pass = PassLog(log=self, began=moment)
        try:
            yield current
        except Exception as error:
            words = messages.broken_off(time.monotonic() - began, in_words(error))
            current.later.insert(0, Entries(self._clock(), Level.ERROR, (one_line(words),)))
            raise
        else:
            if self._level <= Level.INFO:
                words = messages.completed(time.monotonic() - began, current.counters)
                done = Entries(self._clock(), Level.INFO, (words,), {"counters": current.counters})
                current.later.insert(0, done)
        finally:
            self._write_all(current.later)
            self._pass = None

    def _write(self, moment: float, level: Level, message: str) -> None:
        line = encoded(format_line(moment, level, message))
        self._emit(moment, lambda: (line,), lambda: self._json(moment, level, message))

    def _write_all(self, many: Sequence["Entries"]) -> None:
        """Many entries, the file opened once."""
        if many:
            self._emit(
                many[-1].moment,
                lambda: (part for entries in many for part in self._parts(entries)),
                lambda: "".join([
                    self._json(entries.moment, entries.level, one, **entries.facts)
                    for entries in many for one in entries.lines
                ]),
            )  # fmt: skip

    def _parts(self, entries: "Entries") -> Iterator[bytes]:
        """Entries as they are written. Very many that were written before, at another moment, only get new heads.

        In parts: a megabyte as one would be copied from one fresh piece of memory to the next.
        """
        begin, lines = head(entries.moment, entries.level).encode(), entries.lines
        known, parts = self._many
        if lines is not known:
            parts = [_headless(lines[start : start + MANY]) for start in range(0, len(lines), MANY)]
            if len(lines) > FEW:
                self._many = (lines, parts)
        for part in parts:
            yield part.replace(_HEAD.encode(), begin)

    def _json(self, moment: float, level: Level, message: str, **facts: object) -> str:
        began = {} if self._pass is None else {"pass": iso(self._pass.began)}
        return format_json(moment, level, message, **began, **facts)

    def _emit(self, moment: float, parts: Callable[[], Iterable[bytes]], as_json: Callable[[], str]) -> None:
        """Whole lines, into the file and to the echo."""
        if self._file is not None:
            day = moment if self._pass is None else self._pass.began  # a pass stays together over midnight
            self._file.write(day, moment, parts())
        if self._echo is not None:
            try:
                self._echo.write(as_json() if self._as_json else b"".join(parts()).decode())
                self._echo.flush()
            except (OSError, ValueError):  # the reader went away, or the stream is closed
                self._echo = None

    def _first(self, moment: float) -> str:
        """What a new file begins with."""
        return "".join(format_line(moment, *entry) for entry in self._standing if entry[0] >= self._level)


def _headless(lines: Sequence[str]) -> bytes:
    """Entries as they are written, but for their heads."""
    return encoded(f"{_HEAD}{_BETWEEN.join(lines)}\n")


class Entries(NamedTuple):
    """Entries of one moment (seconds since the epoch): messages without line ends; `facts` of each, for JSON."""

    moment: float
    level: Level
    lines: Sequence[str]
    facts: Mapping[str, object] = MappingProxyType({})


class PassLog:
    """What one pass has logged and counted so far. Its counters stand in the completed line."""

    def __init__(self, *, log: OperatorLog, began: float) -> None:
        self.began = began
        self.later: list[Entries] = []
        self._log = log
        self._counters = dict.fromkeys(messages.COUNTERS, 0)
        self._left = {"routine": ROUTINE_LINES, "urgent": URGENT_LINES}

    @property
    def counters(self) -> Mapping[str, int]:
        return self._counters

    def count(self, **counters: int) -> None:
        """Add to counters by name. ERROR lines count themselves as `errors`."""
        for name, number in counters.items():
            self._counters[name] = self._counters.get(name, 0) + number

    def share(self, wanted: int) -> int:
        """How many of so many routine lines may be written before the pass's end; takes their places."""
        found = min(wanted, max(0, self._left["routine"]))
        self._left["routine"] -= found
        return found

    def admits(self, level: Level) -> bool:
        """Whether a line of that level may still be written before the pass's end; takes its place if so."""
        kind = "urgent" if level >= Level.WARNING else "routine"
        self._left[kind] -= 1
        return self._left[kind] >= 0

    def debug(self, message: str) -> None:
        self._log.debug(message)

    def info(self, message: str) -> None:
        self._log.info(message)

    def routine(self, lines: Sequence[str]) -> None:
        self._log.routine(lines)

    def warning(self, message: str) -> None:
        self._log.warning(message)

    def error(self, message: str) -> None:
        self._log.error(message)
