"""What one pass has seen and done so far: the value that its steps hand on."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tsched.executors.executor import Liveness
from tsched.model.errors import ConfigurationError, KnownFault, TransientError, in_words
from tsched.model.event import Event
from tsched.model.history import Trouble
from tsched.model.run import Run, RunResult
from tsched.model.task import Task
from tsched.observe.log import PassLog
from tsched.observe.status import Report
from tsched.runner.host import Host
from tsched.runner.revise import Verdict
from tsched.schedule.breaker import Breaker
from tsched.schedule.override import Overrides
from tsched.schedule.standstill import Room
from tsched.state import events
from tsched.state.applied import Applied

BUDGET = 10.0  # seconds of a pass


def _values(runs: Mapping[str, Run]) -> Sequence[Run]:
    return tuple(runs.values())


class Step:
    """Adds the seconds from `with` to its end to a step's."""

    __slots__ = ("_began", "_name", "_steps")

    def __init__(self, steps: dict[str, float], name: str) -> None:
        self._steps, self._name = steps, name

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self._steps[self._name] = self._steps.get(self._name, 0.0) + time.monotonic() - self._began


@dataclass(kw_only=True, slots=True)
class Pass:
    """One pass. `now` is its one clock reading (seconds since the epoch); `events` wait for the next commit."""

    host: Host
    log: PassLog
    now: float
    applied: Applied
    last: Report
    breakers: Mapping[str, Breaker] = field(default_factory=dict)  # by the recipe's path: those with failures
    overrides: Overrides = ()  # in force when the pass began
    verdict: Verdict | None = None
    runs: dict[str, Run] = field(default_factory=dict)  # by run id: every run that is not wholly settled
    liveness: dict[str, Liveness] = field(default_factory=dict)
    surveyed: Mapping[str, Liveness] = field(default_factory=dict)  # both as the pass began, never changed: the same
    recorded: Mapping[str, Run] = field(default_factory=dict)  # objects as in the last pass where all is as it was
    leased: frozenset[str] | None = None  # tasks that a lease names; None: the leases were not looked at
    waiting: Sequence[Task] | None = None  # what the task server said of idle tasks; None: it has not been asked
    elsewhere: Sequence[Task] = ()  # tasks that other runners have claimed
    room: Room = field(default_factory=Room)
    started: dict[str, Run] = field(default_factory=dict)  # by task id
    added: bool = False  # a run to `runs`, whatever became of its start
    ended: list[RunResult] = field(default_factory=list)
    adopted: bool = False  # a revision became the applied one
    steps: dict[str, float] = field(default_factory=dict)  # seconds that each took
    troubles: list[Trouble] = field(default_factory=list)
    deadline: float = math.inf  # of what has ended, by the monotonic clock
    left: bool = False  # what has ended is more than one pass may take: the next one follows at once
    known: list[str] = field(default_factory=list)  # troubles that a person was told of already
    pending: list[Event] = field(default_factory=list)

    def every_run(self) -> Sequence[Run]:
        """The runs as they are now: the same object as in the last pass where they are the same."""
        if self.added or len(self.runs) < len(self.recorded):
            return tuple(self.runs.values())
        return self.host.kept(_values, self.recorded)

    def begin_settling(self) -> None:
        """From now on what has ended has its share of the pass."""
        self.deadline = time.monotonic() + BUDGET

    def late(self) -> bool:
        """Whether what has ended has had its share of the pass: new work, drains and the report wait for it."""
        if time.monotonic() > self.deadline:
            self.left = True
        return self.left

    def event(
        self, kind: str, subject: str, message: str, *, revision: str | None = None, **facts: str | int | float | None
    ) -> None:
        """Note one line of history; it is written with the next commit. By default of the applied revision."""
        if revision is None and self.applied.fleet is not None:
            revision = self.applied.fleet.revision
        self.pending.append(
            Event(time=self.now, kind=kind, subject=subject, message=message, revision=revision, fields=facts)
        )

    def error(self, kind: str, message: str) -> None:
        """An ERROR line of the log, counted in the pass. `kind`: see model.history.Trouble."""
        self.troubles.append(Trouble(time=self.now, kind=kind, message=message))
        self.log.error(message)

    def fault(self, kind: str, words: str, error: Exception) -> None:
        """The same of an error, given as `{}` in `words`; no line where it was said before, for status alone."""
        said = in_words(error)
        if isinstance(error, KnownFault) or any(said in one.message for one in self.troubles if one.kind == kind):
            self.known.append(words.replace("{}", said))
        else:
            self.error(kind, words.replace("{}", said))

    def step(self, name: str) -> "Step":
        """A part of the pass whose time is kept; one that is taken up again goes on counting."""
        return Step(self.steps, name)

    @contextmanager
    def commit(self) -> Iterator[None]:
        """One durable transaction over the runner's state, with the events noted until its end."""
        with self.host.db.transaction():
            yield
            events.append(self.host.db, self.pending)
        self.pending.clear()

    @contextmanager
    def guarded(self, what: str, *, kind: str) -> Iterator[None]:
        """A part that may fail by itself: the failure is logged, counted, and the rest of the pass goes on."""
        try:
            yield
        except (TransientError, ConfigurationError, OSError) as error:
            self.fault(kind, f"{what}: {{}}", error)
