"""The embedded queue by hand: what people and agents do to its tasks."""

from collections.abc import Sequence

from tsched.model.errors import ConfigurationError
from tsched.model.task import Task, TaskStatus
from tsched.tasks.embedded import EmbeddedTasks
from tsched.tasks.embedded_tables import LONGEST_TEXT, LONGEST_TITLE, check_name, check_text


class OperatedTasks(EmbeddedTasks):
    """The embedded queue with the operations of its operator, and with an agent's word on its own task.

    Each raises ConfigurationError where there is no such task, or it is in no state for that.
    """

    def add(
        self, title: str, *, queue: str, description: str = "", priority: int = 0, blocked_by: str | None = None,
        assign: str | None = None, created_by: str = "",
    ) -> Task:  # fmt: skip
        """Put a task in a queue. Raises ConfigurationError for a bad name, text or blocker."""
        title = title.strip()
        check_text("title", title, LONGEST_TITLE)
        if not title:
            raise ConfigurationError("a task needs a title: say in a few words what is to be done")
        check_text("description", description, LONGEST_TEXT)
        check_text("author", created_by, LONGEST_TITLE)
        check_name("queue", queue)
        if assign is not None:
            check_name("agent", assign)
        if not -(2**31) <= priority < 2**31:
            raise ConfigurationError(f"priority {priority} is out of range: use a small whole number")
        with self._writing():
            blocker = None if blocked_by is None else int(self.task(blocked_by).id)
            now = self._clock()
            number = self._db.execute(
                "INSERT INTO tasks (title, description, queue, priority, blocked_by, assigned_to, created_by, "
                "created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (title, description, queue, priority, blocker, assign, created_by, now, now),
            ).lastrowid
            return self.task(str(number))

    def task(self, task_id: str) -> Task:
        """One task. Raises ConfigurationError where there is none of that id."""
        found = self._one(task_id)
        if found is None:
            raise ConfigurationError(f"no task {task_id!r}: `tsched task list` shows them")
        return found

    def list(
        self, *, queue: str | None = None, status: TaskStatus | None = None, assigned_to: str | None = None,
        limit: int | None = None,
    ) -> Sequence[Task]:  # fmt: skip
        """Tasks by id, newest last; the newest `limit` of them where it is given."""
        wanted = {"t.queue = ?": queue, "t.status = ?": status and str(status), "t.assigned_to = ?": assigned_to}
        chosen = {clause: value for clause, value in wanted.items() if value is not None}
        where = f"WHERE {' AND '.join(chosen)} " if chosen else ""
        rows = self._tasks(f"{where}ORDER BY t.id DESC LIMIT ?", *chosen.values(), -1 if limit is None else limit)
        return rows[::-1]

    def remark(self, task_id: str, *, author: str, text: str) -> None:
        """A person's comment. Raises ConfigurationError for an unknown task or an empty text."""
        if not text.strip():
            raise ConfigurationError("a comment needs a text")
        self.task(task_id)
        self._comment(task_id, author, text, None)

    def cancel(self, task_id: str) -> Task:
        """Cancel a task. Its run, if there is one, is stopped by the runner that claimed it."""
        return self._set(task_id, "status = 'cancelled'", allowed=("idle", "working", "parked", "cancelled"))

    def complete(self, task_id: str) -> Task:
        """The agent's or a person's own word: the task is done."""
        return self._set(task_id, "status = 'complete'", allowed=("idle", "working", "parked", "complete"))

    def reopen(self, task_id: str) -> Task:
        """Back to the queue, unassigned, its attempts reset."""
        return self._set(
            task_id,
            "status = 'idle', assigned_to = NULL, attempts = 0, runs = 0, not_before = 0, archived_at = NULL",
            allowed=("complete", "parked", "cancelled", "idle"),
        )  # fmt: skip

    def assign(self, task_id: str, agent: str | None) -> Task:
        """Give an open task to an agent, or to the queue (None). Its attempts are reset."""
        if agent is not None:
            check_name("agent", agent)
        return self._set(
            task_id, "assigned_to = ?, attempts = 0, runs = 0, not_before = 0", agent,
            allowed=("idle", "working", "parked"),
        )  # fmt: skip

    def move(self, task_id: str, queue: str) -> Task:
        """Hand an open task to another queue, unassigned and idle: the agent's own word where it is working."""
        check_name("queue", queue)
        change = "queue = ?, status = 'idle', assigned_to = NULL, attempts = 0, runs = 0, not_before = 0"
        return self._set(task_id, change, queue, allowed=("idle", "working", "parked"))

    def _set(self, task_id: str, change: str, *values: object, allowed: tuple[str, ...]) -> Task:
        with self._writing():
            before = self.task(task_id)
            if before.status not in allowed:
                raise ConfigurationError(f"task {task_id} is {before.status}: that can't be done to it")
            self._db.execute(
                f"UPDATE tasks SET {change}, updated_at = ? WHERE id = ?", (*values, self._clock(), int(task_id))
            )
            self._follow(task_id)
            return self.task(task_id)
