"""The protocol every task server is driven through. The contract suite in tests/integration holds for each."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from tsched.model.task import Comment, QueueDepth, Settlement, Task


class TaskSource(Protocol):
    """A task server's client. Each call raises TransientError where the server can't be reached or answers nonsense.

    Every write of a run's result is conditional on that run's claim, so a repeated or late write changes nothing.
    """

    name: str
    unpark: str  # how a person puts a parked task back, as a command in the imperative; {id} is the task's

    def waiting(self, *, queues: Collection[str], agents: Collection[str]) -> Sequence[Task]:
        """Idle tasks in these queues, or assigned to these agents in any queue; blocked and backing off ones too."""
        ...

    def held(self, runner_id: str) -> Sequence[Task]:
        """Each task that carries a claim of this runner, whatever its status."""
        ...

    def adrift(self) -> Sequence[Task]:
        """Working tasks that carry nobody's claim, as of the newest `held`: a person or an agent has them so."""
        ...

    def others(self, runner_id: str) -> Sequence[Task]:
        """Tasks that carry another runner's claim, as far as `held` and `adrift` have shown; nothing is asked."""
        ...

    def claims(self) -> Sequence[Task]:
        """Each open task that carries anybody's claim. May ask for every open task: for a person, not for a pass."""
        ...

    def odd(self) -> Mapping[str, str]:
        """What the newest listings held that is no task, and why, by what it calls itself: nobody works on it."""
        ...

    def get(self, ids: Collection[str]) -> Mapping[str, Task]:
        """The tasks of these ids that exist."""
        ...

    def claim(self, task: Task, *, agent: str, run_id: str, runner_id: str) -> Task | None:
        """Take the task for a run: working, assigned to the agent, the claim recorded, in one atomic step.

        None where the task is no longer what `task` says in status, assignee or queue, is blocked now, or carries
        a claim. Asking again for a claim that this run_id already holds returns the task.
        """
        ...

    def settle(self, task_id: str, run_id: str, settlement: Settlement) -> bool:
        """Leave the task as the settlement says and let the claim go. False where this run holds no claim on it.

        Only the claim goes where the task is no longer working (the agent's or a person's word stands).
        """
        ...

    def comment(self, task_id: str, *, author: str, text: str, tag: str) -> None:
        """Add a comment once: a second one with the same tag on the same task is not written."""
        ...

    def comments(self, task_id: str) -> Sequence[Comment]:
        """A task's comments, oldest first; none where there is no such task."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """Writes inside may become durable at its end only, all or none: for many at once. Raises as they do."""
        ...

    def hand_back(self, *, agent: str, queue: str) -> int:
        """Take the agent off its idle tasks in that queue. Returns how many there were."""
        ...

    def depths(self) -> Sequence[QueueDepth]:
        """Every queue that holds an open task, by name."""
        ...

    def close(self) -> None:
        """Give back connections and files. Calling it twice is fine."""
        ...
