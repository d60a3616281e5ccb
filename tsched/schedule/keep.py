"""How long things are kept: which logs are compressed, which go, by their names and ages alone."""

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime, timedelta

from tsched.model.records import dataclass

DAY = 86_400.0  # seconds
PLAIN = timedelta(days=1)  # yesterday's log stays plain, as logrotate's delaycompress has it
_DAILY = re.compile(r"scheduler_(\d{8})\.log(\.gz)?")
_RUN = re.compile(r"([A-Za-z0-9_-]{1,64})\.log(\.gz)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chores:
    """Names of files: those to compress, and those to remove."""

    compress: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


def daily_logs(names: Iterable[str], *, today: date, keep_days: int) -> Chores:
    """What is due of `scheduler_YYYYMMDD.log[.gz]`. `today`: as the log's own days are counted. Others are left."""
    compress, remove = [], []
    for name in sorted(names):
        if (match := _DAILY.fullmatch(name)) is None or (day := _day(match[1])) is None:
            continue
        if day < today - timedelta(days=keep_days):
            remove.append(name)
        elif match[2] is None and day < today - PLAIN:
            compress.append(name)
    return Chores(compress=tuple(compress), remove=tuple(remove))


def _day(digits: str) -> date | None:
    try:
        return datetime.strptime(digits, "%Y%m%d").date()  # noqa: DTZ007  # a day, not a moment
    except ValueError:
        return None


def run_logs(written: Mapping[str, float], *, live: Collection[str], now: float, keep_days: int) -> Chores:
    """What is due of `<run_id>.log[.gz]`. `written`: when each was, seconds since the epoch.

    `live`: runs that are not wholly over, however old their log is: it is left alone.
    """
    compress, remove = [], []
    for name, moment in sorted(written.items()):
        if (match := _RUN.fullmatch(name)) is None or match[1] in live:
            continue
        if moment < now - keep_days * DAY:
            remove.append(name)
        elif match[2] is None and moment < now - DAY:
            compress.append(name)
    return Chores(compress=tuple(compress), remove=tuple(remove))
