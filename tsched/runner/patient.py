"""A task server that is left alone for a while where it does not answer: each pass goes on without it at once."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from tsched.model.errors import KnownFault, KnownOutage, TransientError
from tsched.model.task import Comment, QueueDepth, Settlement, Task
from tsched.runner.patience import Patience
from tsched.schedule.outage import REMIND
from tsched.tasks.source import TaskSource

T = TypeVar("T")
MOST_FAILURES = 3  # of calls about single tasks, in a row: then it is the server and not the tasks


class PatientTasks:
    """See TaskSource. What concerns the whole server and fails is an outage; while it lasts, KnownOutage is raised.

    One task that the server can't speak of is that task's matter.
    """

    def __init__(self, source: TaskSource, patience: Patience) -> None:
        self.name = source.name
        self.unpark = source.unpark
        self._source = source
        self._patience = patience
        self._failures = 0
        self._told: dict[str, tuple[str, float]] = {}  # by what was asked of single tasks: the words, and when
        self._whole = True  # whether the newest outage was found by what concerns the whole server

    def waiting(self, *, queues: Collection[str], agents: Collection[str]) -> Sequence[Task]:
        return self._ask(lambda: self._source.waiting(queues=queues, agents=agents), whole=True)

    def held(self, runner_id: str) -> Sequence[Task]:
        return self._ask(lambda: self._source.held(runner_id), whole=True)

    def adrift(self) -> Sequence[Task]:
        return self._ask(self._source.adrift)

    def others(self, runner_id: str) -> Sequence[Task]:
        return self._source.others(runner_id)

    def claims(self) -> Sequence[Task]:
        return self._ask(self._source.claims)

    def odd(self) -> Mapping[str, str]:
        return self._source.odd()

    def get(self, ids: Collection[str]) -> Mapping[str, Task]:
        return self._ask(lambda: self._source.get(ids), about=" ".join(["get", *sorted(ids)]))

    def claim(self, task: Task, *, agent: str, run_id: str, runner_id: str) -> Task | None:
        return self._ask(
            lambda: self._source.claim(task, agent=agent, run_id=run_id, runner_id=runner_id),
            about=f"claim {task.id}",
        )

    def settle(self, task_id: str, run_id: str, settlement: Settlement) -> bool:
        return self._ask(lambda: self._source.settle(task_id, run_id, settlement), about=f"settle {task_id}")

    def comment(self, task_id: str, *, author: str, text: str, tag: str) -> None:
        self._ask(
            lambda: self._source.comment(task_id, author=author, text=text, tag=tag), about=f"comment {task_id}"
        )

    def comments(self, task_id: str) -> Sequence[Comment]:
        return self._ask(lambda: self._source.comments(task_id), about=f"comments {task_id}")

    def together(self) -> AbstractContextManager[None]:
        return self._source.together()

    def hand_back(self, *, agent: str, queue: str) -> int:
        return self._ask(lambda: self._source.hand_back(agent=agent, queue=queue))

    def depths(self) -> Sequence[QueueDepth]:
        return self._ask(self._source.depths, whole=True)

    def close(self) -> None:
        self._source.close()

    def _ask(self, call: Callable[[], T], *, whole: bool = False, about: str = "") -> T:
        """Raises as the call does; KnownOutage without asking, where it is too early to ask again.

        `about`: what is asked of which tasks; what fails there as it did before is a KnownFault.
        """
        outage = self._patience.resting()
        if outage is not None:
            raise KnownOutage(outage.words)
        began = self._patience.now()
        try:
            answer = call()
        except TransientError as error:
            self._failures += not whole
            if whole or error.after or self._failures >= MOST_FAILURES:
                self._note(error, began, whole=whole)
            elif about and not self._news(about, str(error)):
                raise KnownFault(str(error)) from error
            raise
        self._told.pop(about, None)
        if not whole:
            self._failures = 0
        if whole == self._whole:  # a server that only gives lists is not well yet
            self._patience.answered()
        return answer

    def _news(self, about: str, words: str) -> bool:
        """Note that the server can't speak of some task. Whether a person has to be told: at first, then hourly."""
        now = self._patience.now()
        self._told = {one: told for one, told in self._told.items() if now - told[1] < REMIND}
        news = self._told.get(about, ("", 0.0))[0] != words
        if news:
            self._told[about] = (words, now)
        return news

    def _note(self, error: TransientError, began: float, *, whole: bool) -> None:
        """Raises KnownOutage where a person knows already."""
        self._whole = whole
        if not self._patience.failed(str(error), began=began, after=error.after):
            raise KnownOutage(str(error)) from error
