"""The embedded queue's file: its tables, which texts they take, and how a row is a task."""

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

from tsched.model.errors import ConfigurationError
from tsched.model.task import Task, TaskStatus

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


def tasks_in(db: sqlite3.Connection, where: str, values: Sequence[object]) -> Sequence[Task]:
    """The tasks that fit: `t` is a task in `where`, `b` the one that blocks it."""
    return [_task(row) for row in db.execute(_SELECT + where, values)]


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


def is_id(text: str) -> bool:
    """Whether a task could have that id."""
    return text.isdecimal() and len(text) <= 18  # SQLite's whole numbers end at 19 digits


def check_name(what: str, name: str) -> None:
    """Raises ConfigurationError for what can't name a queue or an agent."""
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is no {what} name: use lower-case letters, digits, _ and -, beginning with a letter or digit"
        )


def check_text(what: str, text: str, longest: int) -> None:
    """Raises ConfigurationError for what is no text, or has more than `longest` characters."""
    if "\0" in text:
        raise ConfigurationError(f"the {what} holds a NUL character: take it out")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigurationError(f"the {what} is not valid Unicode text: write it as UTF-8")
    if len(text) > longest:
        raise ConfigurationError(
            f"the {what} has {len(text)} characters, more than {longest}: put the rest in a file"
        )
