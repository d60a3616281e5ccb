"""The embedded queue: a SQLite file in the state folder, used by many processes at once."""

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.task import Comment, QueueDepth, Settlement, Task, TaskStatus, Verdict
from tsched.sqlite import open_beside, open_database, open_in_memory, open_read_only, transaction, translated

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
LONGEST_TITLE = 500  # characters
LONGEST_TEXT = 1 << 20  # characters, of a description or comment

MIGRATIONS = (
    """
CREATE TABLE tasks (
  id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL, description TEXT NOT NULL DEFAULT '',
  queue TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'idle', assigned_to TEXT, priority INTEGER NOT NULL DEFAULT 0,
  blocked_by INTEGER REFERENCES tasks, created_by TEXT NOT NULL DEFAULT '', created_at REAL NOT NULL,
  updated_at REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, runs INTEGER NOT NULL DEFAULT 0,
  not_before REAL NOT NULL DEFAULT 0, claim_run TEXT, claim_runner TEXT, claim_agent TEXT, claim_queue TEXT);
CREATE INDEX tasks_open ON tasks (status, queue) WHERE status IN ('idle', 'working', 'parked');
CREATE INDEX tasks_claimed ON tasks (claim_runner) WHERE claim_runner IS NOT NULL;
CREATE INDEX tasks_blocking ON tasks (blocked_by) WHERE blocked_by IS NOT NULL;
CREATE TABLE comments (
  id INTEGER PRIMARY KEY AUTOINCREMENT, task_id INTEGER NOT NULL REFERENCES tasks, author TEXT NOT NULL,
  text TEXT NOT NULL, created_at REAL NOT NULL, tag TEXT, UNIQUE (task_id, tag))
""",
    # What TinyTask has besides, for those who come over HTTP (served.py).
    """
ALTER TABLE tasks ADD COLUMN previous_assigned_to TEXT;
ALTER TABLE tasks ADD COLUMN parent INTEGER REFERENCES tasks;
ALTER TABLE tasks ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
ALTER TABLE tasks ADD COLUMN archived_at REAL;
ALTER TABLE comments ADD COLUMN updated_at REAL;
CREATE INDEX tasks_children ON tasks (parent) WHERE parent IS NOT NULL;
CREATE INDEX comments_of_task ON comments (task_id);
CREATE TABLE links (
  id INTEGER PRIMARY KEY AUTOINCREMENT, task_id INTEGER NOT NULL REFERENCES tasks, url TEXT NOT NULL,
  description TEXT, created_by TEXT, created_at REAL NOT NULL)
""",
)

# A blocker counts until it is complete or cancelled: a cancelled one will never be done, and would block for ever.
_SELECT = """
SELECT t.id, t.title, t.queue, t.status, t.description, t.assigned_to, t.priority, t.created_at, t.updated_at,
  t.blocked_by, b.status IN ('idle', 'working', 'parked'), t.attempts, t.runs, t.not_before, t.claim_run,
  t.claim_runner, t.created_by, t.parent
FROM tasks t LEFT JOIN tasks b ON b.id = t.blocked_by
"""


class EmbeddedTasks:
    """The default task source, and the operator's own operations on it. `clock` gives seconds since the epoch.

    `read_only`: as it is now, without touching anything. `beside`: to watch it, never in its writers' way.
    """

    name = "embedded"
    unpark = "run `tsched task reopen {id}`"

    def __init__(
        self, path: Path, *, read_only: bool = False, beside: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._path = path
        self._answers: dict[str, tuple[object, Sequence[Task]]] = {}  # what a pass asks, while nobody has written
        if read_only or beside:
            opened = open_beside if beside else open_read_only
            self._db = opened(path, migrations=MIGRATIONS) or open_in_memory(migrations=MIGRATIONS)
        else:
            self._db = open_database(path, migrations=MIGRATIONS)
        self._failed: TransientError | None = None  # the newest write that did

    def close(self) -> None:
        self._db.close()

    # What the runner asks (see source.py for each promise)

    def waiting(self, *, queues: Collection[str], agents: Collection[str]) -> Sequence[Task]:
        def ask() -> Sequence[Task]:
            known, named = set(queues), set(agents)
            rows = self._tasks("WHERE t.status = 'idle' AND t.claim_run IS NULL")
            return [task for task in rows if task.queue in known or task.assigned_to in named]

        return self._again("waiting", ask, list(queues), list(agents))

    def held(self, runner_id: str) -> Sequence[Task]:
        return self._again("held", lambda: self._tasks("WHERE t.claim_runner = ?", runner_id), runner_id)

    def adrift(self) -> Sequence[Task]:
        idle_below = "NOT EXISTS (SELECT 1 FROM tasks c WHERE c.parent = t.id AND c.status = 'working')"
        where = f"WHERE t.status = 'working' AND t.claim_run IS NULL AND {idle_below}"
        return self._again("adrift", lambda: self._tasks(where))

    def others(self, runner_id: str) -> Sequence[Task]:
        return self._again("others", lambda: self._tasks("WHERE t.claim_runner <> ?", runner_id), runner_id)

    def claims(self) -> Sequence[Task]:
        return self._tasks("WHERE t.claim_runner IS NOT NULL")

    def odd(self) -> Mapping[str, str]:
        return {}

    def get(self, ids: Collection[str]) -> Mapping[str, Task]:
        wanted = [int(one) for one in ids if _is_id(one)]
        found: dict[str, Task] = {}
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            found.update((task.id, task) for task in self._tasks(f"WHERE t.id IN ({marks})", *part))
        return found

    def claim(self, task: Task, *, agent: str, run_id: str, runner_id: str) -> Task | None:
        with self._writing():
            self._db.execute(
                "UPDATE tasks SET status = 'working', assigned_to = ?, claim_run = ?, claim_runner = ?, "
                "claim_agent = ?, claim_queue = queue, updated_at = ? WHERE id = ? AND status = 'idle' "
                "AND claim_run IS NULL AND assigned_to IS ? AND queue = ? AND NOT EXISTS (SELECT 1 FROM tasks b "
                "WHERE b.id = tasks.blocked_by AND b.status IN ('idle', 'working', 'parked') AND ?)",
                (agent, run_id, runner_id, agent, self._clock(), int(task.id), task.assigned_to, task.queue,
                 not task.blocked),
            )  # fmt: skip
            self._follow(task.id)
            now = self._one(task.id)
        return now if now is not None and now.claim_run == run_id else None

    def settle(self, task_id: str, run_id: str, settlement: Settlement) -> bool:
        if not _is_id(task_id):
            return False
        with self._writing():
            row = self._db.execute(
                "SELECT status = 'working' AND assigned_to IS claim_agent FROM tasks WHERE id = ? AND claim_run = ?",
                (int(task_id), run_id),
            ).fetchone()
            if row is None:
                return False
            verdict = settlement.verdict if row[0] else Verdict.STAND
            self._db.execute(
                f"UPDATE tasks SET claim_run = NULL, claim_runner = NULL, claim_agent = NULL, claim_queue = NULL, "
                f"runs = runs + 1, attempts = attempts + ?, updated_at = ?{_LEFT[verdict]} WHERE id = ?",
                (int(settlement.charged), self._clock(), *_values(verdict, settlement), int(task_id)),
            )
            self._follow(task_id)
        return True

    def comment(self, task_id: str, *, author: str, text: str, tag: str) -> None:
        self._comment(task_id, author, text, tag)

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._writing():
            self._failed = None
            yield
            if self._failed is not None:  # half of what it meant to write may be there: none of it shall stand
                raise self._failed

    def hand_back(self, *, agent: str, queue: str) -> int:
        with self._writing():
            return self._db.execute(
                "UPDATE tasks SET assigned_to = NULL, updated_at = ? "
                "WHERE assigned_to = ? AND queue = ? AND status = 'idle' AND claim_run IS NULL",
                (self._clock(), agent, queue),
            ).rowcount

    def depths(self) -> Sequence[QueueDepth]:
        with translated(self._path):
            rows = self._db.execute(
                "SELECT t.queue, sum(t.status = 'idle'), "
                "sum(t.status = 'idle' AND coalesce(b.status IN ('idle', 'working', 'parked'), 0)), "
                "sum(t.status = 'working') FROM tasks t LEFT JOIN tasks b ON b.id = t.blocked_by "
                "WHERE t.status IN ('idle', 'working', 'parked') GROUP BY t.queue ORDER BY t.queue"
            ).fetchall()
        return [QueueDepth(name=name, idle=idle, blocked=blocked, working=busy) for name, idle, blocked, busy in rows]

    # What people and agents ask

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

    def comments(self, task_id: str) -> Sequence[Comment]:
        """A task's comments, oldest first."""
        if self._one(task_id) is None:
            return []
        with translated(self._path):
            rows = self._db.execute(
                "SELECT author, text, created_at, tag FROM comments WHERE task_id = ? ORDER BY id",
                (int(task_id),),
            ).fetchall()
        return [Comment(author=author, text=text, created_at=at, tag=tag) for author, text, at, tag in rows]

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

    def _follow(self, task_id: object) -> None:
        """A parent is complete once all its subtasks are, and works while one does, unless a run claimed it."""
        row = self._db.execute("SELECT parent FROM tasks WHERE id = ?", (int(str(task_id)),)).fetchone()
        if row is not None and row[0] is not None:
            self._sum_up(row[0])

    def _sum_up(self, parent: int) -> None:
        below = {
            status
            for (status,) in self._db.execute(
                "SELECT DISTINCT status FROM tasks "
                "WHERE parent = ? AND archived_at IS NULL AND status <> 'cancelled'",
                (parent,),
            )
        }
        if not below:
            return
        status = "complete" if below == {"complete"} else "working" if "working" in below else "idle"
        self._db.execute(
            "UPDATE tasks SET status = ?, updated_at = ? WHERE id = ? AND claim_run IS NULL AND status <> ? "
            "AND status IN ('idle', 'working', 'complete') AND archived_at IS NULL",
            (status, self._clock(), parent, status),
        )
        self._follow(parent)

    def _comment(self, task_id: str, author: str, text: str, tag: str | None) -> None:
        check_text("comment", text, LONGEST_TEXT)
        check_text("author", author, LONGEST_TITLE)
        if not _is_id(task_id):
            return
        with self._writing():
            self._db.execute(
                "INSERT OR IGNORE INTO comments (task_id, author, text, created_at, tag) "
                "SELECT id, ?, ?, ?, ? FROM tasks WHERE id = ?",
                (author, text, self._clock(), tag, int(task_id)),
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with translated(self._path), transaction(self._db):
                yield
        except TransientError as error:
            self._failed = error
            raise

    def _one(self, task_id: str) -> Task | None:
        if not _is_id(task_id):
            return None
        return next(iter(self._tasks("WHERE t.id = ?", int(task_id))), None)

    def _again(self, question: str, ask: Callable[[], Sequence[Task]], *about: object) -> Sequence[Task]:
        """The answer, the same object for as long as nobody has written to the file and the same is asked."""
        with translated(self._path):
            others = self._db.execute("PRAGMA data_version").fetchone()[0]
        asked = (others, self._db.total_changes, about)
        before = self._answers.get(question)
        if before is not None and before[0] == asked:
            return before[1]
        answer = ask()
        if not self._db.in_transaction:  # what it says now may still be undone
            self._answers[question] = (asked, answer)
        return answer

    def _tasks(self, where: str, *values: object) -> Sequence[Task]:
        with translated(self._path):
            return [_task(row) for row in self._db.execute(_SELECT + where, values)]


_LEFT = {
    Verdict.COMPLETE: ", status = 'complete'",
    Verdict.RETRY: ", status = 'idle', assigned_to = ?, not_before = ?",
    Verdict.PARK: ", status = 'parked', assigned_to = ?",
    Verdict.STAND: "",
}


def _values(verdict: Verdict, settlement: Settlement) -> tuple[object, ...]:
    match verdict:
        case Verdict.RETRY:
            return (settlement.assigned_to, settlement.not_before)
        case Verdict.PARK:
            return (settlement.assigned_to,)
        case Verdict.COMPLETE | Verdict.STAND:
            return ()


def _task(row: tuple[Any, ...]) -> Task:
    (
        number, title, queue, status, description, assigned, priority, created, updated, blocker, blocked, attempts,
        runs, not_before, claim_run, claim_runner, created_by, parent,
    ) = row  # fmt: skip
    return Task(
        id=str(number), title=title, queue=queue, status=TaskStatus(status), description=description,
        assigned_to=assigned, priority=priority, created_at=created, updated_at=updated,
        blocked_by=None if blocker is None else str(blocker), blocked=bool(blocked), attempts=attempts, runs=runs,
        not_before=not_before, claim_run=claim_run, claim_runner=claim_runner, created_by=created_by,
        parent=None if parent is None else str(parent),
    )  # fmt: skip


def _is_id(text: str) -> bool:
    return text.isdecimal() and len(text) <= 18  # SQLite's whole numbers end at 19 digits


def check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is no {what} name: use lower-case letters, digits, _ and -, beginning with a letter or digit"
        )


def check_text(what: str, text: str, longest: int) -> None:
    if "\0" in text:
        raise ConfigurationError(f"the {what} holds a NUL character: take it out")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigurationError(f"the {what} is not valid Unicode text: write it as UTF-8")
    if len(text) > longest:
        raise ConfigurationError(
            f"the {what} has {len(text)} characters, more than {longest}: put the rest in a file"
        )
