"""`tsched serve`: the web page's questions answered from the state folder, its wishes handed to the runner."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tsched.executors.nodes import Nodes
from tsched.model.alert import Alert
from tsched.model.event import Event
from tsched.model.history import PassRecord, Sample, Trouble
from tsched.model.run import SeenRun
from tsched.observe.status import Status
from tsched.observe.vitals import Vitals, late
from tsched.observe.web.access import Access
from tsched.observe.web.app import serve as serve_page
from tsched.runner import questions
from tsched.runner.accept import accept
from tsched.runner.folder import folder_of
from tsched.runner.waker import Waker
from tsched.settings import Settings
from tsched.state import deliveries

AUTHOR = "tsched serve"


class Answers:
    """observe.web's Questions and Wishes, for one state folder."""

    def __init__(self, settings: Settings, waker: Waker) -> None:
        self._settings = settings
        self._watch = questions.Watch(settings=settings)
        self._waker = waker
        self._changes: tuple[str | None, Sequence[Event]] = (None, ())  # of the applied revision; long to look up

    def now(self) -> float:
        return time.time()

    def status(self) -> Status:
        return questions.status(self._watch)

    def samples(self, *, since: float) -> Sequence[Sample]:
        return questions.samples(self._watch, since=since)

    def runs(self, *, limit: int) -> Sequence[SeenRun]:
        return questions.runs(self._watch, limit=limit)

    def run(self, run_id: str) -> SeenRun | None:
        return questions.run(self._watch, run_id)

    def log(self, run_id: str, *, lines: int) -> str | None:
        return questions.log(self._watch, run_id, lines=lines)

    def events(self, *, after: int | None, limit: int) -> Sequence[tuple[int, Event]]:
        return questions.happened(self._watch, after=after, limit=limit)

    def changes(self) -> Sequence[Event]:
        revision = questions.applied_revision(self._watch)
        if self._changes[0] != revision:
            self._changes = (revision, questions.changes(self._watch))
        return self._changes[1]

    def alerts(self) -> Sequence[Alert]:
        return questions.alerts(self._watch)

    def passes(self, *, since: float, limit: int) -> Sequence[PassRecord]:
        return questions.past(self._watch, since=since, limit=limit)

    def errors(self, *, since: float, limit: int) -> Sequence[Trouble]:
        return questions.troubles(self._watch, since=since, limit=limit)

    def vitals(self) -> Vitals:
        return questions.vitals(self._watch)

    def late(self) -> str | None:
        return late(self.status(), questions.pulse(self._watch), self.now())

    def sync(self) -> None:
        self._waker.want(AUTHOR)

    def accept(self, revision: str) -> str:
        return accept(self._settings, revision, author=AUTHOR)

    def known(self, delivery: str) -> bool:
        return deliveries.known(folder_of(self._settings).deliveries, delivery)

    def remember(self, delivery: str) -> None:
        deliveries.remember(folder_of(self._settings).deliveries, delivery)


def serve(settings: Settings, *, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `say` is told the address.

    Raises ConfigurationError where the address can't be had, or is open to others and no token is set.
    """

    @contextmanager
    def answering() -> Iterator[Answers]:
        with Waker(settings, _complain) as waker:
            yield Answers(settings, waker)

    access = Access(host=host, token=settings.serve_token, secret=settings.webhook_secret, branch=settings.branch)
    folder = folder_of(settings)
    nodes = Nodes(runs=folder.runs, running=folder.running, logs=folder.run_logs)
    serve_page(answering, access, nodes, port=port, say=say)


def _complain(text: str) -> None:
    print(f"tsched: {text}", file=sys.stderr, flush=True)
