"""What a change in TinyTask's words makes of a task's row: checked, and in the embedded queue's own terms."""

import json
from collections.abc import Mapping

from tsched.model.errors import ConfigurationError
from tsched.tasks.claims import PARKED
from tsched.tasks.embedded_tables import LONGEST_TEXT, LONGEST_TITLE, check_name, check_text
from tsched.tasks.served_rows import Json

_COLUMNS = {
    "title": "title", "description": "description", "status": "status", "assigned_to": "assigned_to",
    "priority": "priority", "tags": "tags", "parent_task_id": "parent", "queue_name": "queue",
    "blocked_by_task_id": "blocked_by",
}  # fmt: skip
_TEXTS = ("description", "queue")  # kept as "" where TinyTask says null
_FRESH = {"attempts": 0, "runs": 0, "not_before": 0}  # a person's or an agent's word gives a task all its attempts


def changed(number: int, before: Json, changes: Mapping[str, object]) -> Json:
    """The columns of a task that is shown as `before`, and their values once it is changed.

    Raises ConfigurationError for what it can't be. What else the changes say is passed over.
    """
    shown = {**before, **{key: value for key, value in changes.items() if key in _COLUMNS}}
    _check(number, shown, changes)
    owner = shown["assigned_to"] or None
    stored = "parked" if (shown["status"], owner) == ("idle", PARKED) else shown["status"]
    if before["archived_at"] is not None and stored != "complete":
        stored = "cancelled"  # nobody's word but a person's `reopen` undoes that
    sets = {column: shown[key] or "" if column in _TEXTS else shown[key] for key, column in _COLUMNS.items()}
    sets |= {"status": stored, "assigned_to": owner, "tags": json.dumps(shown["tags"] or [])}
    handed_over = owner != before["assigned_to"]
    if handed_over:
        sets["previous_assigned_to"] = before["assigned_to"]
    reopened = before["status"] == "complete" and shown["status"] != "complete"
    if handed_over or shown["queue_name"] != before["queue_name"] or reopened:
        sets |= _FRESH
    return sets


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
