"""A board's tasks with what their comments say: read anew some at a time, else as the ledger remembers."""

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tsched.model.errors import TransientError
from tsched.model.task import Task, TaskStatus
from tsched.tasks.board import Board, Seen
from tsched.tasks.claims import Standing, standing
from tsched.tasks.ledger import Ledger

LOOKS = 10  # claims of ours on tasks that no longer work, looked at in one pass
AT_ONCE = 8  # tasks looked at side by side
T = TypeVar("T")


class KnownTasks:
    """The tasks of a board whose comments were read; what they said is remembered. Raises as the board does."""

    def __init__(self, board: Board, ledger: Ledger) -> None:
        self._board = board
        self._ledger = ledger
        self._turn = random.randrange(1000)  # a process that makes one pass must not look at the same ones each time

    def of(self, task: Task) -> Task:
        """A task of a listing, with what is remembered of its comments."""
        return self._ledger.of(task.id).applied(task)

    def look(self, task_id: str) -> Task | None:
        """One task as it is now."""
        return self._learned(task_id, self._board.look(task_id))

    def look_all(self, task_ids: Sequence[str]) -> Mapping[str, Task]:
        """Those of these tasks that exist, as they are now."""
        return self._learned_all(task_ids, _side_by_side(self._board.look, task_ids))

    def look_in_turn(self, task_ids: Sequence[str]) -> Sequence[Task]:
        """Read some of these tasks anew, others the next time: their number must not decide what a pass costs."""
        wanted = self.in_turn(task_ids)
        found = _side_by_side(self._look_if_able, wanted)
        able = {task_id: here for task_id, here in zip(wanted, found, strict=True) if not isinstance(here, Exception)}
        return list(self._learned_all(list(able), list(able.values())).values())

    def in_turn(self, things: Sequence[T]) -> Sequence[T]:
        """At most LOOKS of them, others the next time."""
        start = self._turn % max(1, len(things))
        self._turn += LOOKS
        return [*things[start:], *things[:start]][:LOOKS]

    def _look_if_able(self, task_id: str) -> Seen | TransientError:
        """What the server can't say of one task holds up no other."""
        try:
            return self._board.look(task_id)
        except TransientError as error:
            return error

    def _learned_all(self, task_ids: Sequence[str], found: Sequence[Seen]) -> Mapping[str, Task]:
        seen = [self._learned(one, here) for one, here in zip(task_ids, found, strict=True)]
        return {task.id: task for task in seen if task is not None}

    def _learned(self, task_id: str, found: Seen) -> Task | None:
        """A task that was read with its comments; what they say is remembered."""
        if found is None:
            self._ledger.put(task_id, Standing())
            return None
        seen = standing(found[1])
        task = seen.applied(found[0])
        relevant = seen.claim is not None or task.status is TaskStatus.IDLE
        self._ledger.put(task_id, seen if relevant else Standing())
        return task


def _side_by_side(look: Callable[[str], T], task_ids: Sequence[str]) -> Sequence[T]:
    if len(task_ids) < 2:
        return [look(one) for one in task_ids]
    with ThreadPoolExecutor(min(AT_ONCE, len(task_ids))) as several:
        return list(several.map(look, task_ids))
