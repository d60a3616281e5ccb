"""An entry of the operator's log as a line: text for people and the guide's greps, JSON for programs."""

import math
import time
from enum import IntEnum

from tsched.model import plain
from tsched.model.units import iso
from tsched.observe.text import one_line


class Level(IntEnum):
    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50


def format_line(moment: float, level: Level, message: str) -> str:
    """One entry, ended by a newline: local time (Z where local is UTC, else the offset), level, message.

    `moment` is seconds since the epoch.
    """
    return f"{head(moment, level)}{one_line(message)}\n"


def head(moment: float, level: Level) -> str:
    """What stands before an entry's message."""
    seconds, thousandths = divmod(math.floor(moment * 1000), 1000)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    zone = "Z" if not local.tm_gmtoff else f"{zone[:3]}:{zone[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{thousandths:03}{zone}|{level.name} - "


def format_json(moment: float, level: Level, message: str, **facts: object) -> str:
    """The same entry as a JSON object on a line: time (UTC), level, message, and what else is known."""
    entry = {"time": iso(moment), "level": level.name, "message": message, **facts}
    return f"{plain.as_json(entry)}\n"


def encoded(text: str) -> bytes:
    """As it is written; half a character, which a path may hold, as its number."""
    return text.encode("utf-8", "backslashreplace")
