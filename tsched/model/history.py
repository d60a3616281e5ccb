"""What is kept of each pass: how long its steps took, what it counted, how queues stood, what went wrong."""

from collections.abc import Mapping
from dataclasses import field

from tsched.model.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRecord:
    """One pass. `time`: its start, seconds since the epoch. `steps`: seconds of each step that ran, in order.

    `counters` are those of the log's completed line. `broken`: why it was broken off, "" where it came to its end.
    """

    time: float
    seconds: float
    revision: str | None
    generation: int
    ready: int = 0  # see schedule.standstill.Room: these three
    free: int = 0
    running: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)
    broken: str = ""
    id: int = 0  # in the order of the passes; 0: not stored yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How a queue stood at a time (seconds since the epoch).

    `idle` counts the blocked ones too. `oldest`: since when the longest waiting ready task waits (seconds since the
    epoch), None where none is ready.
    """

    time: float
    queue: str
    idle: int
    blocked: int
    working: int
    oldest: float | None = None

    def same(self, other: "Sample") -> bool:
        """Whether nothing but the time differs."""
        return (self.idle, self.blocked, self.working, self.oldest) == (
            other.idle, other.blocked, other.working, other.oldest,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An ERROR line of the log. `kind`: remote, revision, task-server, start, drain, override, workspace,
    executor, alert or internal.
    """

    time: float
    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """A sum over all of a runner's passes, since its history began; it never goes down. `labels`: name → value."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
