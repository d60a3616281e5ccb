"""The protocol of a task server without a conditional claim: what claims by comment need of it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from tsched.model.task import Task, TaskStatus
from tsched.tasks.claims import Remark

Seen = tuple[Task, Sequence[Remark]] | None  # a task with its comments; None where there is no such task


class Board(Protocol):
    """A task server's client; CommentedTasks (commented.py) makes a TaskSource of it.

    Every call raises TransientError where the server can't be reached or answers nonsense. Tasks are given without
    what their comments say.
    """

    name: str
    unpark: str  # as TaskSource
    longest: int  # characters of an agent's name that it can hold

    def tasks(self, status: TaskStatus) -> Sequence[Task]:
        """Every open task of that status, IDLE or WORKING; PARKED ones may be among the idle."""
        ...

    def odd(self) -> Mapping[str, str]:
        """As TaskSource, of the newest listings."""
        ...

    def look(self, task_id: str) -> Seen:
        """One task, open or not, as it is now, with the comments of those who may claim."""
        ...

    def change(self, now: Task, wanted: Task) -> Task:
        """Make a task that was just read as `wanted` says in status and assignee, where it is not so already."""
        ...

    def comment(self, task_id: str, *, author: str, text: str) -> None:
        """Add a comment. Never repeated by itself: an unanswered one may be there."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...
