"""The embedded queue as TinyTask 2.0 shows it: the same store, with TinyTask's operations, fields and words.

Our `parked` is shown as idle and assigned to `parked`, our `cancelled` as archived. Claim comments (claims.py) are
carried out as they are written, so that a runner on the store itself and runners over HTTP never take the same task.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tsched.model.errors import ConfigurationError
from tsched.sqlite import translated
from tsched.tasks.claims import PARKED, STORE, Claim, End, Left, Remark, parse, standing
from tsched.tasks.embedded import EmbeddedTasks
from tsched.tasks.tables import LONGEST_TEXT, LONGEST_TITLE, check_name, check_text

Json = dict[str, object]
STATUSES = ("idle", "working", "complete")
LAST = 2**52  # the id of a comment that is nowhere stored: after all others
DEEPEST = 3  # levels of subtasks

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
_FRESH = ("attempts = 0", "runs = 0", "not_before = 0")  # a person's or an agent's word gives a task all its attempts


class NotFoundError(ConfigurationError):
    """No such task, comment or link."""


class TakenError(ConfigurationError):
    """A claim that lost."""


class ServedTasks(EmbeddedTasks):
    """Each operation takes checked arguments (tools.py) and gives JSON. Raises ConfigurationError for bad ones."""

    # Tasks

    def create_task(self, given: Mapping[str, object]) -> Json:
        title = str(given["title"]).strip()
        if not title:
            raise ConfigurationError("Task title is required")
        parent = given.get("parent_task_id")
        with self._writing():
            queue = given.get("queue_name")
            if parent is not None:
                above = self._row(int(str(parent)), "Parent task not found: {}")
                if self._depth(int(str(parent))) >= DEEPEST:
                    raise ConfigurationError(f"Maximum nesting depth ({DEEPEST} levels) exceeded")
                queue = above["queue_name"] if queue is None else queue
            now = self._clock()
            number = self._db.execute(
                "INSERT INTO tasks (title, queue, parent, created_at, updated_at) VALUES (?, '', ?, ?, ?)",
                (title, parent, now, now),
            ).lastrowid
            assert number is not None
            rest = {key: given[key] for key in _SETTERS if key in given and key not in ("title", "queue_name")}
            self._change(number, {**rest, "title": title, **({"queue_name": queue} if queue else {})})
            self._db.execute("UPDATE tasks SET created_by = ? WHERE id = ?", (given.get("created_by") or "", number))
            self._follow(number)
            return self._row(number)

    def update_task(self, given: Mapping[str, object]) -> Json:
        number = int(str(given["id"]))
        with self._writing():
            before = self._row(number)
            parent = given.get("parent_task_id", before["parent_task_id"])
            if parent is not None and parent != before["parent_task_id"]:
                self._check_parent(number, int(str(parent)))
            changes = {key: value for key, value in given.items() if key != "id"}
            if changes:
                self._change(number, changes, before)
            if not changes.keys().isdisjoint(("status", "parent_task_id")):
                for one in {before["parent_task_id"], parent} - {None}:
                    self._sum_up(int(str(one)))
            return self._row(number)

    def get_task(self, given: Mapping[str, object]) -> Json:
        task = self._row(int(str(given["id"])))
        number = {"task_id": given["id"]}
        said = self.list_comments(number)
        return task | {"comments": [*said, *self._own_words(task, said)], "links": self.list_links(number)}

    def delete_task(self, given: Mapping[str, object]) -> Json:
        number = int(str(given["id"]))
        with self._writing():
            parent = self._row(number)["parent_task_id"]
            for change in (
                "DELETE FROM comments WHERE task_id = ?",
                "DELETE FROM links WHERE task_id = ?",
                "UPDATE tasks SET blocked_by = NULL WHERE blocked_by = ?",
                "UPDATE tasks SET parent = NULL WHERE parent = ?",
                "DELETE FROM tasks WHERE id = ?",
            ):
                self._db.execute(change, (number,))
            if parent is not None:
                self._sum_up(int(str(parent)))
        return {"success": True, "id": number}

    def archive_task(self, given: Mapping[str, object]) -> Json:
        number = int(str(given["id"]))
        with self._writing():
            self._row(number)
            now = self._clock()
            self._db.execute(
                "UPDATE tasks SET archived_at = ?, updated_at = ?, status = CASE WHEN status = 'complete' "
                "THEN status ELSE 'cancelled' END WHERE id = ?",
                (now, now, number),
            )
            self._follow(number)
            return self._row(number)

    def list_tasks(self, given: Mapping[str, object]) -> Sequence[Json]:
        """Highest priority first, then the oldest. `limit` 0 means no limit."""
        where, values = ["1"], []
        for key in ("assigned_to", "queue_name"):
            if key in given:
                where.append(f"{key} = ?")
                values.append(given[key])
        for key, word in (("status", "IN"), ("exclude_status", "NOT IN")):
            wanted = given.get(key)
            listed = [wanted] if isinstance(wanted, str) else wanted
            if isinstance(listed, list) and listed:
                where.append(f"status {word} ({','.join('?' * len(listed))})")
                values += listed
        if "parent_task_id" in given:
            where.append("parent_task_id IS ?")
            values.append(given["parent_task_id"])
        if given.get("exclude_subtasks"):
            where.append("parent_task_id IS NULL")
        if not given.get("include_archived"):
            where.append("archived_at IS NULL")
        page = (given.get("limit") or -1, given.get("offset") or 0)
        return self._rows(f"WHERE {' AND '.join(where)} {_ORDER} LIMIT ? OFFSET ?", *values, *page)

    # Subtasks

    def create_subtask(self, given: Mapping[str, object]) -> Json:
        return self.create_task(given)

    def get_subtasks(self, given: Mapping[str, object]) -> Sequence[Json]:
        listed = self._rows(f"WHERE parent_task_id = ? {_ORDER}", given["parent_task_id"])
        if not given.get("include_archived"):
            listed = [one for one in listed if one["archived_at"] is None]
        if given.get("recursive"):
            below = [row for one in listed for row in self.get_subtasks({**given, "parent_task_id": one["id"]})]
            listed = [*listed, *below]
        return listed

    def get_task_with_subtasks(self, given: Mapping[str, object]) -> Json:
        task = self._row(int(str(given["task_id"])))
        asked = {"parent_task_id": given["task_id"], "recursive": given.get("recursive", False)}
        below = self.get_subtasks(asked)
        return task | {"subtasks": below, "subtask_count": len(below)}

    def move_subtask(self, given: Mapping[str, object]) -> Json:
        return self.update_task({"id": given["subtask_id"], "parent_task_id": given.get("new_parent_id")})

    # Agents

    def get_my_queue(self, given: Mapping[str, object]) -> Sequence[Json]:
        return self.list_tasks({"assigned_to": given["agent_name"], "status": ["idle", "working"]})

    def signup_for_task(self, given: Mapping[str, object]) -> Json | None:
        """The first idle task of the agent that no run claimed, at once working; None where it has none."""
        with self._writing():
            free = "id IN (SELECT id FROM tasks WHERE claim_run IS NULL)"
            first = self._rows(
                f"WHERE assigned_to = ? AND status = 'idle' AND archived_at IS NULL AND {free} {_ORDER} LIMIT 1",
                given["agent_name"],
            )
            if not first:
                return None
            number = first[0]["id"]
            self.update_task({"id": number, "status": "working"})
            return self.get_task({"id": number})

    def move_task(self, given: Mapping[str, object]) -> Json:
        number, owner = int(str(given["task_id"])), given["current_agent"]
        with self._writing():
            task = self._row(number)
            if task["assigned_to"] != owner:
                holder = task["assigned_to"] or "no one"
                raise ConfigurationError(
                    f"Task {number} is not assigned to {owner} (currently assigned to: {holder})"
                )
            if task["status"] == "complete":
                allowed = "(only 'idle' or 'working' are allowed)"
                raise ConfigurationError(f"Task {number} with status 'complete' cannot be transferred {allowed}")
            self.update_task({"id": number, "assigned_to": given["new_agent"], "status": "idle"})
            remark = self.add_comment({"task_id": number, "content": given["comment"], "created_by": owner})
            return {"task": self._row(number), "comment": remark}

    # Queues

    def list_queues(self, given: Mapping[str, object]) -> Sequence[str]:
        rows = self._rows("WHERE queue_name IS NOT NULL AND archived_at IS NULL")
        return sorted({str(row["queue_name"]) for row in rows})

    def get_queue_stats(self, given: Mapping[str, object]) -> Json:
        rows = self.list_tasks({"queue_name": given["queue_name"]})
        owners = [str(row["assigned_to"]) for row in rows if row["assigned_to"] is not None]
        return {
            "queue_name": given["queue_name"],
            "total_tasks": len(rows),
            "by_status": {status: sum(row["status"] == status for row in rows) for status in STATUSES},
            "assigned": len(owners),
            "unassigned": len(rows) - len(owners),
            "agents": sorted(set(owners)),
        }

    def get_queue_tasks(self, given: Mapping[str, object]) -> Sequence[Json]:
        return self.list_tasks(given)

    def add_task_to_queue(self, given: Mapping[str, object]) -> Json:
        return self.update_task({"id": given["task_id"], "queue_name": given["queue_name"]})

    def move_task_to_queue(self, given: Mapping[str, object]) -> Json:
        return self.update_task({"id": given["task_id"], "queue_name": given["new_queue_name"]})

    def remove_task_from_queue(self, given: Mapping[str, object]) -> Json:
        return self.update_task({"id": given["task_id"], "queue_name": None})

    def clear_queue(self, given: Mapping[str, object]) -> Json:
        with self._writing():
            rows = self.list_tasks({"queue_name": given["queue_name"]})
            for row in rows:
                self.update_task({"id": row["id"], "queue_name": None})
        return {"success": True, "queue_name": given["queue_name"], "tasks_removed": len(rows)}

    # Comments and links

    def add_comment(self, given: Mapping[str, object]) -> Json:
        text = str(given["content"]).strip()
        if not text:
            raise ConfigurationError("Comment content is required")
        check_text("comment", text, LONGEST_TEXT)
        number = int(str(given["task_id"]))
        with self._writing():
            self._row(number)
            now = self._clock()
            added = self._db.execute(
                "INSERT INTO comments (task_id, author, text, created_at) VALUES (?, ?, ?, ?)",
                (number, given.get("created_by") or "", text, now),
            ).lastrowid
            self._heed(number, text)
            return self._comment_rows("id = ?", added)[0]

    def list_comments(self, given: Mapping[str, object]) -> Sequence[Json]:
        return self._comment_rows("task_id = ?", given["task_id"])

    def update_comment(self, given: Mapping[str, object]) -> Json:
        text = str(given["content"]).strip()
        if not text:
            raise ConfigurationError("Comment content cannot be empty")
        check_text("comment", text, LONGEST_TEXT)
        with self._writing():
            self._check_remark(given["id"])
            self._touch("comments", given["id"], "text = ?, updated_at = ?", text, self._clock())
            return self._comment_rows("id = ?", given["id"])[0]

    def delete_comment(self, given: Mapping[str, object]) -> Json:
        with self._writing():
            self._check_remark(given["id"])
            return self._delete("comments", given["id"])

    def add_link(self, given: Mapping[str, object]) -> Json:
        number = int(str(given["task_id"]))
        if not str(given["url"]).strip():
            raise ConfigurationError("Link URL is required")
        with self._writing():
            self._row(number)
            added = self._db.execute(
                "INSERT INTO links (task_id, url, description, created_by, created_at) VALUES (?, ?, ?, ?, ?)",
                (number, given["url"], given.get("description"), given.get("created_by"), self._clock()),
            ).lastrowid
            return self._link_rows("id = ?", added)[0]

    def list_links(self, given: Mapping[str, object]) -> Sequence[Json]:
        return self._link_rows("task_id = ?", given["task_id"])

    def update_link(self, given: Mapping[str, object]) -> Json:
        with self._writing():
            for key in ("url", "description"):
                if key in given:
                    self._touch("links", given["id"], f"{key} = ?", given[key])
            found = self._link_rows("id = ?", given["id"])
        if not found:
            raise NotFoundError(f"Link not found: {given['id']}")
        return found[0]

    def delete_link(self, given: Mapping[str, object]) -> Json:
        return self._delete("links", given["id"])

    # How it is done

    def _heed(self, number: int, text: str) -> None:
        """Carry out a claim or an end: the store's own claim then agrees with the comments."""
        word = parse(text)
        if isinstance(word, Claim):
            taken = self._db.execute(
                "UPDATE tasks SET claim_run = ?, claim_runner = ?, claim_agent = ?, claim_queue = queue "
                "WHERE id = ? AND status = 'idle' AND (claim_run IS NULL OR claim_runner = ?)",
                (word.run, word.runner, word.agent, number, word.runner),
            )
            if not taken.rowcount:
                raise TakenError(f"task {number} is not to be had: it is claimed already, or not idle")
        elif isinstance(word, End) and self._claimed_here(number, word.run):
            self._db.execute(
                "UPDATE tasks SET claim_run = NULL, claim_runner = NULL, claim_agent = NULL, claim_queue = NULL, "
                "attempts = ?, runs = ?, not_before = ? WHERE id = ? AND claim_run = ?",
                (word.attempts, word.runs, word.not_before, number, word.run),
            )

    def _claimed_here(self, number: int, run: str) -> bool:
        """Whether that run claimed by a comment: the claims of a runner on the store itself are its own alone."""
        start = f"tsched-claim {run} "
        words = "SELECT 1 FROM comments WHERE task_id = ? AND substr(text, 1, ?) = ? LIMIT 1"
        return self._db.execute(words, (number, len(start), start)).fetchone() is not None

    def _check_remark(self, number: object) -> None:
        row = self._db.execute("SELECT text FROM comments WHERE id = ?", (number,)).fetchone()
        if row is not None and parse(row[0]) is not None:
            raise ConfigurationError(f"comment {number} is a runner's claim, or the end of one: it stays as it is")

    def _own_words(self, task: Json, said: Sequence[Json]) -> Sequence[Json]:
        """What a runner on the store itself would have said in comments, for those who read nothing else."""
        row = self._db.execute(
            "SELECT claim_run, claim_runner, claim_agent, queue, attempts, runs, not_before, status "
            "FROM tasks WHERE id = ?",
            (task["id"],),
        ).fetchone()
        run, runner, agent, queue, attempts, runs, not_before, status = row
        seen = standing(Remark(id=int(str(one["id"])), text=str(one["content"])) for one in said)
        text = ""
        if run is not None and (seen.claim is None or seen.claim.run != run):
            text = Claim(run=run, runner=runner, agent=agent or "-", queue=queue, attempts=attempts, runs=runs).text()
        elif run is None and status == "idle":
            left = Left(
                status=status, assigned_to=str(task["assigned_to"]) if task["assigned_to"] else None, queue=queue
            )
            end = End(run=STORE, attempts=attempts, runs=runs, not_before=not_before, left=left)
            known = seen.end if seen.claim is None else None
            if replace(known, run=STORE) != end if known is not None else (attempts, runs, not_before) != (0, 0, 0):
                text = end.text()
        if not text:
            return []
        times = {"created_at": task["updated_at"], "updated_at": task["updated_at"]}
        return [{"id": LAST, "task_id": task["id"], "content": text, "created_by": "tsched", **times}]

    def _change(self, number: int, changes: Mapping[str, object], before: Mapping[str, object] | None = None) -> None:
        before = before or self._row(number)
        shown = {**before, **{key: value for key, value in changes.items() if key in _SETTERS}}
        _check(number, shown, changes)
        if changes.get("blocked_by_task_id") is not None:
            blocker = self._row(int(str(changes["blocked_by_task_id"])), "Blocking task not found: {}")
            if blocker["blocked_by_task_id"] == number:
                raise ConfigurationError("Cannot create circular blocking relationship")
        owner = shown["assigned_to"] or None
        stored = "parked" if (shown["status"], owner) == ("idle", PARKED) else shown["status"]
        if before["archived_at"] is not None and stored != "complete":
            stored = "cancelled"  # nobody's word but a person's `reopen` undoes that
        sets = {column: shown[key] or "" if column in _TEXTS else shown[key] for key, column in _SETTERS.items()}
        sets |= {"status": stored, "assigned_to": owner, "tags": json.dumps(shown["tags"] or [])}
        parts, values = [f"{column} = ?" for column in sets], list(sets.values())
        if owner != before["assigned_to"]:
            parts.append("previous_assigned_to = ?")
            values.append(before["assigned_to"])
        reopened = before["status"] == "complete" and shown["status"] != "complete"
        if owner != before["assigned_to"] or shown["queue_name"] != before["queue_name"] or reopened:
            parts += _FRESH
        parts.append("updated_at = ?")
        self._db.execute(f"UPDATE tasks SET {', '.join(parts)} WHERE id = ?", (*values, self._clock(), number))

    def _check_parent(self, number: int, parent: int) -> None:
        if parent == number:
            raise ConfigurationError("Task cannot be its own parent")
        self._row(parent, "Parent task not found: {}")
        below = self.get_subtasks({"parent_task_id": number, "recursive": True, "include_archived": True})
        if any(one["id"] == parent for one in below):
            raise ConfigurationError("Cannot create circular parent-child relationship")
        if self._depth(parent) >= DEEPEST:
            raise ConfigurationError(f"Maximum nesting depth ({DEEPEST} levels) exceeded")

    def _depth(self, number: int) -> int:
        parent = self._row(number)["parent_task_id"]
        return 0 if parent is None else 1 + self._depth(int(str(parent)))

    def _row(self, number: int, missing: str = "Task not found: {}") -> Json:
        found = self._rows("WHERE id = ?", number)
        if not found:
            raise NotFoundError(missing.format(number))
        return found[0]

    def _rows(self, where: str, *values: object) -> Sequence[Json]:
        with translated(self._path):
            return [_shown(row) for row in self._db.execute(_SHOWN + where, values)]

    def _comment_rows(self, where: str, *values: object) -> Sequence[Json]:
        with translated(self._path):
            rows = self._db.execute(
                "SELECT id, task_id, text, nullif(author, ''), created_at, coalesce(updated_at, created_at) "
                f"FROM comments WHERE {where} ORDER BY id",
                values,
            ).fetchall()
        names = ("id", "task_id", "content", "created_by")
        return [dict(zip(names, row, strict=False)) | _times(created_at=row[4], updated_at=row[5]) for row in rows]

    def _link_rows(self, where: str, *values: object) -> Sequence[Json]:
        with translated(self._path):
            rows = self._db.execute(
                f"SELECT id, task_id, url, description, created_by, created_at FROM links WHERE {where} ORDER BY id",
                values,
            ).fetchall()
        names = ("id", "task_id", "url", "description", "created_by")
        return [dict(zip(names, row, strict=False)) | _times(created_at=row[5]) for row in rows]

    def _touch(self, table: str, number: object, change: str, *values: object) -> None:
        done = self._db.execute(f"UPDATE {table} SET {change} WHERE id = ?", (*values, number))
        if not done.rowcount:
            raise NotFoundError(f"{table[:-1].capitalize()} not found: {number}")

    def _delete(self, table: str, number: object) -> Json:
        with self._writing():
            if not self._db.execute(f"DELETE FROM {table} WHERE id = ?", (number,)).rowcount:
                raise NotFoundError(f"{table[:-1].capitalize()} not found: {number}")
        return {"success": True, "id": number}


_ORDER = "ORDER BY priority DESC, created_at, id"
_SETTERS = {
    "title": "title", "description": "description", "status": "status", "assigned_to": "assigned_to",
    "priority": "priority", "tags": "tags", "parent_task_id": "parent", "queue_name": "queue",
    "blocked_by_task_id": "blocked_by",
}  # fmt: skip
_TEXTS = ("description", "queue")  # kept as "" where TinyTask says null


def _check(number: int, shown: Mapping[str, object], changes: Mapping[str, object]) -> None:
    title = str(shown["title"]).strip()
    if not title:
        raise ConfigurationError("Task title cannot be empty")
    check_text("title", title, LONGEST_TITLE)
    check_text("description", str(shown["description"] or ""), LONGEST_TEXT)
    if changes.get("queue_name"):
        check_name("queue", str(changes["queue_name"]))
    if changes.get("assigned_to"):
        check_name("agent", str(changes["assigned_to"]))
    if not -(2**31) <= int(str(shown["priority"])) < 2**31:
        raise ConfigurationError("priority is out of range: use a small whole number")
    if changes.get("blocked_by_task_id") == number:
        raise ConfigurationError("Task cannot be blocked by itself")


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
