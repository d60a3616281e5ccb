"""Text of a setting → its typed value. Each raises ValueError whose text is the mend."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tsched.model.address import fault
from tsched.model.units import format_duration, parse_duration, parse_size
from tsched.settings.variables import Origin, Source

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
OLD_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # TinyScheduler's, for agents of a control file
LOG_SIZE: Final = 64 << 20  # bytes
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRANCH = re.compile(r"(?!-|/|.*\.\.|.*//|.*@\{|.*\.lock$|.*[/.]$)[^\s~^:?*\[\\\x00-\x20\x7f]+")


def path(base: Path, text: str) -> Path:
    if "\0" in text:
        raise ValueError("a path holds no NUL character")
    return Path(os.path.normpath(base / Path(text).expanduser()))


def repo(base: Path, text: str) -> str:
    if text.startswith("-") or any(ord(character) < 33 for character in text):
        raise ValueError("write an address or a path, without spaces and not beginning with a dash")
    if (why := fault(text)) is not None:
        raise ValueError(why.partition(": ")[2])
    host = text.partition("/")[0]
    return text if "://" in text or ":" in host else str(path(base, text))


def branch(text: str) -> str:
    if not _BRANCH.fullmatch(text):
        raise ValueError("this can't be a branch's name: write one such as main")
    return text.removeprefix("refs/heads/")


_TASK_SERVERS = (r"tinytask\+https?://[^/\s]+\S*", r"github(\+https?)?://[^\s?#]+/[^\s?#/]+/?")


def tasks(text: str) -> str | None:
    if text == "embedded":
        return None
    address = f"tinytask+{text}" if text.startswith(("http://", "https://")) else text
    if not any(re.fullmatch(pattern, address) for pattern in _TASK_SERVERS):
        raise ValueError("write embedded, tinytask+http://host:3000 or github://owner/repo")
    return address.rstrip("/")


def web_address(text: str) -> str:
    if re.fullmatch(r"https?://[^/\s]+\S*", text) is None:
        raise ValueError("write an address such as http://127.0.0.1:3000/mcp")
    return text


def serve_address(text: str) -> str:
    if re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?", text) is None:
        raise ValueError("write an address such as https://runner.example.org:8300, without credentials")
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port past 65535, half a bracket
        usable = False
    if not usable:
        raise ValueError("its host or port can't be one: write an address such as https://runner.example.org:8300")
    return text.rstrip("/")


def on_complete(text: str) -> str:
    if text.lower() not in ("close", "review"):
        raise ValueError("write close, or review where a person shall look at the issue before it is closed")
    return text.lower()


def words(text: str, pattern: re.Pattern[str], what: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    wrong = next((word for word in words if not pattern.fullmatch(word)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} can't be one: write {what} separated by commas")
    return words


def switch(text: str) -> bool:
    match text.strip().lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
        case _:
            raise ValueError("write true or false")


def days(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text.strip()):
        raise ValueError("write a whole number of days, such as 30")
    return int(text)


def log_size(text: str) -> int:
    size = parse_size(text.strip())
    if size < 1 << 20:
        raise ValueError("write at least 1Mi")
    return size


def level(text: str) -> str:
    if text.upper() not in LEVELS:
        raise ValueError(f"write one of {', '.join(LEVELS)}")
    return text.upper()


def log_format(text: str) -> str:
    if text.lower() not in ("text", "json"):
        raise ValueError("write text or json")
    return text.lower()


def seconds(text: str, source: Source, least: float) -> float:
    """Variables ending in _SEC hold plain seconds, TSCHED_ ones a duration, flags either."""
    plain = source.name.endswith("_SEC")
    if plain or (source.origin is Origin.FLAG and re.fullmatch(r"[0-9.]+", text)):
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text.strip()):
            raise ValueError("write seconds as a number, such as 60")
        value = float(text)
    else:
        value = parse_duration(text.strip())
    if value < least:
        raise ValueError(f"write at least {format_duration(least)}")
    return value


def limits(text: str, pattern: re.Pattern[str] = NAME) -> Mapping[str, int]:
    """A JSON object, or `a:1,b:2`, or `a=1,b=2`. `pattern`: what an agent's name may be."""
    pairs: list[tuple[str, object]]
    if text.lstrip().startswith("{"):
        try:
            pairs = json.loads(text, object_pairs_hook=list)
        except json.JSONDecodeError as error:
            raise ValueError(f"this is no JSON ({error.msg} at character {error.pos + 1})") from None
    else:
        parts = [re.split(r"[:=]", part, maxsplit=1) for part in text.split(",") if part.strip()]
        if any(len(part) != 2 for part in parts):
            raise ValueError('write a limit for each agent, such as {"vaela": 2} or vaela=2')
        pairs = [(name.strip(), int(slots) if slots.strip().isdecimal() else slots) for name, slots in parts]
    for name, slots in pairs:
        if not pattern.fullmatch(name):
            raise ValueError(f"{name!r} can't be an agent's name: use letters, digits, _ and -")
        if type(slots) is not int or slots < 0:
            raise ValueError(f"the limit of {name} is {slots!r}: write a whole number, 0 or more")
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("an agent stands in it twice: write each once")
    return {name: slots for name, slots in pairs if isinstance(slots, int)}
