"""The embedded queue as TinyTask 2.0 shows it: the same store, with TinyTask's operations, fields and words.

Our `parked` is shown as idle and assigned to `parked`, our `cancelled` as archived. Claim comments (claims.py) are
carried out as they are written, so that a runner on the store itself and runners over HTTP never take the same task.
"""

from collections.abc import Mapping, Sequence

from tsched.model.errors import ConfigurationError
from tsched.tasks.served_changes import changed
from tsched.tasks.served_claims import own_words
from tsched.tasks.served_notes import NotedTasks
from tsched.tasks.served_rows import ORDER, STATUSES, Json

DEEPEST = 3  # levels of subtasks


class ServedTasks(NotedTasks):
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
                above = self._shown.task(int(str(parent)), "Parent task not found: {}")
                if self._depth(int(str(parent))) >= DEEPEST:
                    raise ConfigurationError(f"Maximum nesting depth ({DEEPEST} levels) exceeded")
                queue = above["queue_name"] if queue is None else queue
            now = self._clock()
            number = self._db.execute(
                "INSERT INTO tasks (title, queue, parent, created_at, updated_at) VALUES (?, '', ?, ?, ?)",
                (title, parent, now, now),
            ).lastrowid
            assert number is not None
            self._change(number, {**given, "title": title, "queue_name": queue}, self._shown.task(number))
            self._db.execute("UPDATE tasks SET created_by = ? WHERE id = ?", (given.get("created_by") or "", number))
            self._follow(number)
            return self._shown.task(number)

    def update_task(self, given: Mapping[str, object]) -> Json:
        number = int(str(given["id"]))
        with self._writing():
            before = self._shown.task(number)
            parent = given.get("parent_task_id", before["parent_task_id"])
            if parent is not None and parent != before["parent_task_id"]:
                self._check_parent(number, int(str(parent)))
            changes = {key: value for key, value in given.items() if key != "id"}
            if changes:
                self._change(number, changes, before)
            if not changes.keys().isdisjoint(("status", "parent_task_id")):
                for one in {before["parent_task_id"], parent} - {None}:
                    self._sum_up(int(str(one)))
            return self._shown.task(number)

    def get_task(self, given: Mapping[str, object]) -> Json:
        task = self._shown.task(int(str(given["id"])))
        number = {"task_id": given["id"]}
        said = self.list_comments(number)
        return task | {"comments": [*said, *own_words(self._db, task, said)], "links": self.list_links(number)}

    def delete_task(self, given: Mapping[str, object]) -> Json:
        number = int(str(given["id"]))
        with self._writing():
            parent = self._shown.task(number)["parent_task_id"]
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
            self._shown.task(number)
            now = self._clock()
            self._db.execute(
                "UPDATE tasks SET archived_at = ?, updated_at = ?, status = CASE WHEN status = 'complete' "
                "THEN status ELSE 'cancelled' END WHERE id = ?",
                (now, now, number),
            )
            self._follow(number)
            return self._shown.task(number)

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
        return self._shown.tasks(f"WHERE {' AND '.join(where)} {ORDER} LIMIT ? OFFSET ?", *values, *page)

    # Subtasks

    def create_subtask(self, given: Mapping[str, object]) -> Json:
        return self.create_task(given)

    def get_subtasks(self, given: Mapping[str, object]) -> Sequence[Json]:
        listed = self._shown.tasks(f"WHERE parent_task_id = ? {ORDER}", given["parent_task_id"])
        if not given.get("include_archived"):
            listed = [one for one in listed if one["archived_at"] is None]
        if given.get("recursive"):
            below = [row for one in listed for row in self.get_subtasks({**given, "parent_task_id": one["id"]})]
            listed = [*listed, *below]
        return listed

    def get_task_with_subtasks(self, given: Mapping[str, object]) -> Json:
        task = self._shown.task(int(str(given["task_id"])))
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
            first = self._shown.tasks(
                f"WHERE assigned_to = ? AND status = 'idle' AND archived_at IS NULL AND {free} {ORDER} LIMIT 1",
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
            task = self._shown.task(number)
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
            return {"task": self._shown.task(number), "comment": remark}

    # Queues

    def list_queues(self, given: Mapping[str, object]) -> Sequence[str]:
        rows = self._shown.tasks("WHERE queue_name IS NOT NULL AND archived_at IS NULL")
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

    def _change(self, number: int, changes: Mapping[str, object], before: Json) -> None:
        sets = {**changed(number, before, changes), "updated_at": self._clock()}
        if changes.get("blocked_by_task_id") is not None:
            blocker = self._shown.task(int(str(changes["blocked_by_task_id"])), "Blocking task not found: {}")
            if blocker["blocked_by_task_id"] == number:
                raise ConfigurationError("Cannot create circular blocking relationship")
        parts = ", ".join(f"{column} = ?" for column in sets)
        self._db.execute(f"UPDATE tasks SET {parts} WHERE id = ?", (*sets.values(), number))

    def _check_parent(self, number: int, parent: int) -> None:
        if parent == number:
            raise ConfigurationError("Task cannot be its own parent")
        self._shown.task(parent, "Parent task not found: {}")
        below = self.get_subtasks({"parent_task_id": number, "recursive": True, "include_archived": True})
        if any(one["id"] == parent for one in below):
            raise ConfigurationError("Cannot create circular parent-child relationship")
        if self._depth(parent) >= DEEPEST:
            raise ConfigurationError(f"Maximum nesting depth ({DEEPEST} levels) exceeded")

    def _depth(self, number: int) -> int:
        parent = self._shown.task(number)["parent_task_id"]
        return 0 if parent is None else 1 + self._depth(int(str(parent)))
