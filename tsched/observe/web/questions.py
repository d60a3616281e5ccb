"""What the web page asks of the runner, and what it may wish. runner/serve.py answers."""

from collections.abc import Sequence
from typing import Protocol

from tsched.model.alert import Alert
from tsched.model.event import Event
from tsched.model.history import PassRecord, Sample, Trouble
from tsched.model.run import SeenRun
from tsched.observe.status import Status
from tsched.observe.vitals import Vitals


class Questions(Protocol):
    """Asked from one thread. Times are seconds since the epoch. Every call raises TransientError, FatalError."""

    def now(self) -> float:
        """The clock that everything here goes by."""
        ...

    def status(self) -> Status:
        """What `tsched status --json` prints."""
        ...

    def samples(self, *, since: float) -> Sequence[Sample]:
        """How queues stood, oldest first."""
        ...

    def runs(self, *, limit: int) -> Sequence[SeenRun]:
        """Runs in progress, then the newest that ended, newest first."""
        ...

    def run(self, run_id: str) -> SeenRun | None:
        """One run; None where it is not known."""
        ...

    def log(self, run_id: str, *, lines: int) -> str | None:
        """The end of a run's log, at most a MiB; None where the run is not known."""
        ...

    def events(self, *, after: int | None, limit: int) -> Sequence[tuple[int, Event]]:
        """Events with their numbers, oldest first: those after a number; None: the newest."""
        ...

    def changes(self) -> Sequence[Event]:
        """What the applied revision changed."""
        ...

    def alerts(self) -> Sequence[Alert]:
        """What is wrong by the fleet's rules."""
        ...

    def passes(self, *, since: float, limit: int) -> Sequence[PassRecord]:
        """The newest passes, oldest of them first."""
        ...

    def errors(self, *, since: float, limit: int) -> Sequence[Trouble]:
        """The newest errors, oldest of them first."""
        ...

    def vitals(self) -> Vitals:
        """What metrics are made of."""
        ...

    def late(self) -> str | None:
        """Why the runner is not ready; None where its last pass is as young as it should be."""
        ...


class Wishes(Protocol):
    """What may be asked for besides looking. Called from the same thread as the questions."""

    def sync(self) -> None:
        """Have a pass run as soon as possible. Returns at once; wishes that come meanwhile are one more pass."""
        ...

    def accept(self, revision: str) -> str:
        """Agree to the held revision, given in full or by its beginning. Returns it in full.

        Raises ConfigurationError where it is not the held one, or is held for what nobody can agree to.
        """
        ...

    def known(self, delivery: str) -> bool:
        """Whether a delivery of a hook was remembered."""
        ...

    def remember(self, delivery: str) -> None:
        """Know a delivery from now on, also after a restart; the oldest of many are forgotten."""
        ...


class Answering(Questions, Wishes, Protocol):
    """Both."""
