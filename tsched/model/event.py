"""Events: one line of history each. What happened, to what, at which revision, why."""

from collections.abc import Mapping
from dataclasses import field

from tsched.model.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`kind` is a dotted lower-case word such as `agent.draining`; `subject` such as `agent/vaela` or `task/7`.

    `time` is seconds since the epoch. `fields` are further facts, keys of their own in `tsched events --json`.
    """

    time: float
    kind: str
    subject: str
    message: str
    revision: str | None = None
    fields: Mapping[str, str | int | float | None] = field(default_factory=dict)
