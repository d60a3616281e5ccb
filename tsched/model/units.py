"""Durations, percentages and times as people write them."""

import re
from datetime import UTC, datetime

LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
_DURATION = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_SIZE = re.compile(r"([1-9][0-9]*)(Ki|Mi|Gi|Ti)B?")
_SHIFTS = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `90s`, `2h` or `250ms`.

    Raises ValueError where the text is not `^[0-9]+(ms|s|m|h|d)$`.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write a whole number and ms, s, m, h or d, such as 90s")
    return int(match[1]) * _SECONDS[match[2]]


def format_duration(seconds: float) -> str:
    """The shortest exact way to write a duration that `parse_duration` reads back (to the millisecond)."""
    millis = round(seconds * 1000)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if millis and millis % size == 0:
            return f"{millis // size}{unit}"
    return f"{millis}ms" if millis else "0s"


def size(number: float) -> str:
    """Bytes as people say them, such as `1.5 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def parse_size(text: str) -> int:
    """Bytes of a size such as `512Mi` or `4Gi` (`MiB` is as good). Raises ValueError where it is none."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no size: write a whole number and Ki, Mi, Gi or Ti, such as 512Mi")
    return int(match[1]) << _SHIFTS[match[2]]


def format_size(number: int) -> str:
    """The shortest exact way to write a size that `parse_size` reads back; bytes where there is none."""
    for unit, shift in reversed(_SHIFTS.items()):
        if number and number % (1 << shift) == 0:
            return f"{number >> shift}{unit}"
    return str(number)


def iso(epoch: float) -> str:
    """A UTC time stamp with milliseconds, `2026-01-20T10:15:02.123Z`, of seconds since the epoch.

    A time past the year 9999 (a drain's far deadline) is shown as its last moment.
    """
    moment = datetime.fromtimestamp(min(round(epoch * 1000) / 1000, LAST), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def from_iso(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time stamp. Raises ValueError where it is none or has no offset."""
    moment = datetime.fromisoformat(text.upper())  # RFC 3339 lets t and z be small
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset: end it in Z, such as 2026-01-20T10:15:00Z")
    return moment.timestamp()


def since(text: str, now: float) -> float:
    """The time (seconds since the epoch) that `1h` (so long before `now`) or an RFC 3339 time stamp names.

    Raises ValueError, whose text is the mend, also for a time that is yet to come.
    """
    try:
        return now - parse_duration(text)
    except (ValueError, OverflowError):
        pass
    try:
        found = from_iso(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time: write how long ago, such as 1h, or 2026-01-20T10:15:00Z") from None
    if found > now:
        raise ValueError(f"{text} is yet to come: write a time that is past")
    return found


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 agent`, `2 agents`: for words shown to a person (log lines of the operator's contract are always plural)."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def about(seconds: float) -> str:
    """A measured time to two or three figures, for a person to read: `450ms`, `12s`, `3.5m`, `2.1h`, `1.5d`."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0)):
        if abs(seconds) >= size:
            amount = seconds / size
            return f"{amount:.0f}{unit}" if abs(amount) >= 9.95 else f"{amount:.1f}".removesuffix(".0") + unit
    return f"{seconds * 1000:.0f}ms" if round(seconds * 1000) else "0s"
