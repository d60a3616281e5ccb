"""Errors as kinds: messages that differ in numbers and names alone are one."""

import re
from collections.abc import Iterable

from tsched.model.history import Trouble
from tsched.model.records import dataclass

_VARYING = (
    (re.compile(r"\b[0-9a-f]{7,64}\b"), "…"),  # revisions, run ids
    (re.compile(r"'[^']*'|\"[^\"]*\""), "…"),
    (re.compile(r"\d+"), "N"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Errors alike. `example` is the newest; `first` and `last` are seconds since the epoch."""

    kind: str
    pattern: str
    number: int
    first: float
    last: float
    example: str


def pattern(message: str) -> str:
    """The message without what varies."""
    for what, instead in _VARYING:
        message = what.sub(instead, message)
    return message


def by_kind(troubles: Iterable[Trouble]) -> tuple[Kind, ...]:
    """Errors grouped by kind and pattern, the most frequent first. `troubles`: oldest first."""
    found: dict[tuple[str, str], Kind] = {}
    for one in troubles:
        key = (one.kind, pattern(one.message))
        old = found.get(key)
        found[key] = Kind(
            kind=one.kind,
            pattern=key[1],
            number=1 if old is None else old.number + 1,
            first=one.time if old is None else old.first,
            last=one.time,
            example=one.message,
        )
    return tuple(sorted(found.values(), key=lambda kind: (-kind.number, kind.kind, kind.pattern)))
