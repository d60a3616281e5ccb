"""The embedded queue's rows as TinyTask 2.0 shows them: its fields and words, as JSON."""

import json
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from tsched.model.errors import ConfigurationError
from tsched.sqlite import translated

Json = dict[str, object]
STATUSES = ("idle", "working", "complete")
ORDER = "ORDER BY priority DESC, created_at, id"

_SHOWN = """
WITH shown AS (SELECT t.id, t.title, nullif(t.description, '') AS description,
  CASE WHEN t.status IN ('parked', 'cancelled') THEN 'idle' ELSE t.status END AS status,
  CASE WHEN t.status = 'parked' THEN 'parked' ELSE t.assigned_to END AS assigned_to, t.previous_assigned_to,
  nullif(t.created_by, '') AS created_by, t.priority, t.tags, t.parent AS parent_task_id,
  nullif(t.queue, '') AS queue_name, t.blocked_by AS blocked_by_task_id, t.created_at, t.updated_at,
  CASE WHEN t.status = 'cancelled' THEN coalesce(t.archived_at, t.updated_at) ELSE t.archived_at END AS archived_at,
  coalesce(b.status IN ('idle', 'working', 'parked'), 0) AS is_currently_blocked
FROM tasks t LEFT JOIN tasks b ON b.id = t.blocked_by)
SELECT * FROM shown
"""
_COLUMNS = (
    *("id", "title", "description", "status", "assigned_to", "previous_assigned_to", "created_by", "priority"),
    *("tags", "parent_task_id", "queue_name", "blocked_by_task_id", "created_at", "updated_at", "archived_at"),
    "is_currently_blocked",
)


class NotFoundError(ConfigurationError):
    """No such task, comment or link."""


class ShownRows:
    """Tasks, comments and links of the file at `path`, which is open as `db`. Raises as tsched.sqlite does."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path

    def task(self, number: int, missing: str = "Task not found: {}") -> Json:
        """One task. Raises NotFoundError, in the words of `missing`."""
        found = self.tasks("WHERE id = ?", number)
        if not found:
            raise NotFoundError(missing.format(number))
        return found[0]

    def tasks(self, where: str, *values: object) -> Sequence[Json]:
        """The tasks that a clause (WHERE, ORDER BY, LIMIT) in TinyTask's own names selects."""
        with translated(self._path):
            return [_shown(row) for row in self._db.execute(_SHOWN + where, values)]

    def comments(self, where: str, *values: object) -> Sequence[Json]:
        """The comments that fit, oldest first."""
        with translated(self._path):
            rows = self._db.execute(
                "SELECT id, task_id, text, nullif(author, ''), created_at, coalesce(updated_at, created_at) "
                f"FROM comments WHERE {where} ORDER BY id",
                values,
            ).fetchall()
        names = ("id", "task_id", "content", "created_by")
        return [dict(zip(names, row, strict=False)) | _times(created_at=row[4], updated_at=row[5]) for row in rows]

    def links(self, where: str, *values: object) -> Sequence[Json]:
        """The links that fit, oldest first."""
        with translated(self._path):
            rows = self._db.execute(
                f"SELECT id, task_id, url, description, created_by, created_at FROM links WHERE {where} ORDER BY id",
                values,
            ).fetchall()
        names = ("id", "task_id", "url", "description", "created_by")
        return [dict(zip(names, row, strict=False)) | _times(created_at=row[5]) for row in rows]


def _shown(row: tuple[object, ...]) -> Json:
    task = dict(zip(_COLUMNS, row, strict=True))
    task |= {"tags": json.loads(str(task["tags"])), "is_currently_blocked": bool(task["is_currently_blocked"])}
    return task | _times(**{key: task[key] for key in ("created_at", "updated_at", "archived_at")})


def _times(**moments: object) -> Json:
    """RFC 3339, UTC, whole seconds, as TinyTask 2.0 writes them."""
    return {
        key: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)) if isinstance(moment, int | float) else None
        for key, moment in moments.items()
    }
