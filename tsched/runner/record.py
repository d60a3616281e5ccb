"""What one pass has seen and done so far: the value that its steps hand on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tsched.executors.executor import Liveness
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.event import Event
from tsched.model.run import Run
from tsched.model.task import QueueDepth
from tsched.observe.log import PassLog
from tsched.observe.status import Report
from tsched.runner.host import Host
from tsched.runner.revise import Verdict
from tsched.schedule.breaker import Breaker
from tsched.state import events
from tsched.state.applied import Applied


@dataclass(kw_only=True, slots=True)
class Pass:
    """One pass. `now` is its one clock reading (seconds since the epoch); `events` wait for the next commit."""

    host: Host
    log: PassLog
    now: float
    applied: Applied
    last: Report
    breakers: Mapping[str, Breaker] = field(default_factory=dict)  # by the recipe's path: those with failures
    verdict: Verdict | None = None
    runs: Mapping[str, Run] = field(default_factory=dict)  # by run id: every run that is not wholly settled
    liveness: Mapping[str, Liveness] = field(default_factory=dict)
    depths: tuple[QueueDepth, ...] = ()
    errors: list[str] = field(default_factory=list)
    pending: list[Event] = field(default_factory=list)

    def event(
        self, kind: str, subject: str, message: str, *, revision: str | None = None, **facts: str | int | float | None
    ) -> None:
        """Note one line of history; it is written with the next commit. By default of the applied revision."""
        if revision is None and self.applied.fleet is not None:
            revision = self.applied.fleet.revision
        self.pending.append(
            Event(time=self.now, kind=kind, subject=subject, message=message, revision=revision, fields=facts)
        )

    def error(self, message: str) -> None:
        """An ERROR line of the log, counted in the pass."""
        self.errors.append(message)
        self.log.error(message)

    @contextmanager
    def commit(self) -> Iterator[None]:
        """One durable transaction over the runner's state, with the events noted until its end."""
        with self.host.db.transaction():
            yield
            events.append(self.host.db, self.pending)
        self.pending.clear()

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """A part that may fail by itself: the failure is logged, counted, and the rest of the pass goes on."""
        try:
            yield
        except (TransientError, ConfigurationError, OSError) as error:
            self.error(f"{what}: {error}")
