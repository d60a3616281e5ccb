"""TinyTask's operations as a table: the arguments of each, checked, for MCP tools and REST alike."""

import json
import re
from collections.abc import Callable, Mapping, Sequence

from tsched.model.errors import ConfigurationError
from tsched.model.records import dataclass
from tsched.tasks.served import ServedTasks
from tsched.tasks.served_rows import STATUSES, Json

_BAD = re.compile("[\0\ud800-\udfff]")
Answer = Json | Sequence[Json] | Sequence[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument: `kind` is string, number, boolean, strings, status or statuses (one of them, or a list)."""

    kind: str
    required: bool = False
    nullable: bool = False

    def schema(self) -> Json:
        """JSON Schema of its values."""
        one: Json = {"type": "string", "enum": list(STATUSES)}
        many: Json = {"type": "array", "items": one}
        kinds: dict[str, Json] = {
            "string": {"type": "string"},
            "number": {"type": ["number", "null"] if self.nullable else "number"},
            "boolean": {"type": "boolean"},
            "strings": {"type": "array", "items": {"type": "string"}},
            "status": one,
            "statuses": {"anyOf": [one, many]},
        }
        return kinds[self.kind]


class InvalidError(ConfigurationError):
    """Arguments that do not fit, with every issue as TinyTask's own checker lists them."""

    def __init__(self, issues: Sequence[Json]) -> None:
        super().__init__(json.dumps(issues, indent=2))
        self.issues = issues


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One operation. `words` makes the MCP answer's text of its value."""

    name: str
    what: str
    arguments: Mapping[str, Argument]
    strict: bool = True
    words: Callable[[Mapping[str, object], Answer], str] = lambda given, value: pretty(value)

    def call(self, tasks: ServedTasks, given: Mapping[str, object]) -> Answer:
        """Check the arguments and do it. Raises InvalidError, or as ServedTasks does."""
        done: Callable[[Mapping[str, object]], Answer] = getattr(tasks, self.name)
        return done(checked(given, self.arguments, strict=self.strict))

    def schema(self) -> Json:
        """JSON Schema of the arguments."""
        required = [name for name, one in self.arguments.items() if one.required]
        properties = {name: one.schema() for name, one in self.arguments.items()}
        return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def pretty(value: object) -> str:
    """JSON as TinyTask prints it: two spaces, text as it is."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def checked(given: Mapping[str, object], arguments: Mapping[str, Argument], *, strict: bool = True) -> Json:
    """The arguments that are there, numbers coerced. Raises InvalidError with every issue."""
    issues: list[Json] = []
    values: Json = {}
    for name, argument in arguments.items():
        if name in given:
            value, issue = _fitted(name, given[name], argument)
            issues += [issue] if issue else []
            values[name] = value
        elif argument.required:
            received = {"expected": _EXPECTED[argument.kind], "received": "undefined"}
            issues.append({"code": "invalid_type", **received, "path": [name], "message": "Required"})
    unknown = [name for name in given if name not in arguments]
    if unknown and strict:
        listed = ", ".join(f"'{name}'" for name in unknown)
        words = f"Unrecognized key(s) in object: {listed}"
        issues.append({"code": "unrecognized_keys", "keys": unknown, "path": [], "message": words})
    if issues:
        raise InvalidError(issues)
    return values


_EXPECTED = {
    "string": "string", "number": "number", "boolean": "boolean", "strings": "array", "status": "string",
    "statuses": "string",
}  # fmt: skip


def _fitted(name: str, value: object, argument: Argument) -> tuple[object, Json | None]:
    kind = argument.kind
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and _BAD.search(text):
            words = "it holds half a character or a NUL: send whole Unicode text"
            return None, {"code": "custom", "path": [name], "message": words}
    if kind == "number":
        number = _number(value)
        if number is not None or (value is None and argument.nullable):
            return number, None
    elif kind == "boolean":
        if isinstance(value, bool):
            return value, None
    elif kind == "strings":
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return value, None
    elif kind == "statuses" and isinstance(value, list):
        wrong = next((one for one in value if one not in STATUSES), None)
        return value, None if wrong is None else _no_status(name, wrong)
    elif isinstance(value, str):
        return value, None if kind == "string" or value in STATUSES else _no_status(name, value)
    expected, received = _EXPECTED[kind], _kind_of(value)
    words = f"Expected {expected}, received {received}"
    issue: Json = {"code": "invalid_type", "expected": expected, "received": received, "path": [name]}
    return None, issue | {"message": words}


def _number(value: object) -> int | None:
    """A whole number, also where it is written as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if abs(number) < 2**53 and number == number // 1 else None


def _no_status(name: str, value: object) -> Json:
    options = " | ".join(f"'{one}'" for one in STATUSES)
    words = f"Invalid enum value. Expected {options}, received '{value}'"
    issue: Json = {"received": value, "code": "invalid_enum_value", "options": list(STATUSES)}
    return issue | {"path": [name], "message": words}


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return names[type(value)]


def _listing(given: Mapping[str, object], value: Answer) -> str:
    return pretty({"count": len(value or ()), "tasks": value})


def _queue_listing(given: Mapping[str, object], value: Answer) -> str:
    asked = {key: given[key] for key in ("assigned_to", "status", "exclude_status", "parent_task_id") if key in given}
    filters = asked | {"include_archived": bool(given.get("include_archived"))}
    filters |= {key: given[key] for key in ("limit", "offset") if key in given}
    return pretty({"queue_name": given["queue_name"], "count": len(value or ()), "filters": filters, "tasks": value})


def _signed_up(given: Mapping[str, object], value: Answer) -> str:
    if not isinstance(value, dict):
        return f"No idle tasks available in queue for agent: {given['agent_name']}"
    return f"Task #{value['id']} claimed and set to working status\n\n{pretty(value)}"


def _subtasks(given: Mapping[str, object], value: Answer) -> str:
    head = {"parent_task_id": given["parent_task_id"], "recursive": bool(given.get("recursive"))}
    return pretty({**head, "count": len(value or ()), "subtasks": value})


def _moved(given: Mapping[str, object], value: Answer) -> str:
    parent = given.get("new_parent_id")
    where = "top-level (no parent)" if parent is None else f"parent #{parent}"
    return f"Task #{given['subtask_id']} moved to {where}\n\n{pretty(value)}"


def _mine(given: Mapping[str, object], value: Answer) -> str:
    return pretty({"agent": given["agent_name"], "count": len(value or ()), "tasks": value})


def _queues(given: Mapping[str, object], value: Answer) -> str:
    return pretty({"count": len(value or ()), "queues": value})


_TEXT, _NEEDED = Argument(kind="string"), Argument(kind="string", required=True)
_COUNT, _ID = Argument(kind="number"), Argument(kind="number", required=True)
_FLAG, _TAGS = Argument(kind="boolean"), Argument(kind="strings")
_ONE_TASK = {"task_id": _ID}
_FILTERS = {
    "assigned_to": _TEXT, "status": Argument(kind="statuses"), "exclude_status": Argument(kind="statuses"),
    "parent_task_id": Argument(kind="number", nullable=True), "exclude_subtasks": _FLAG, "include_archived": _FLAG,
    "limit": _COUNT, "offset": _COUNT,
}  # fmt: skip
_NEW = {
    "title": _NEEDED, "description": _TEXT, "assigned_to": _TEXT, "created_by": _TEXT, "priority": _COUNT,
    "tags": _TAGS, "queue_name": _TEXT,
}  # fmt: skip
_RELATED = {"parent_task_id": _COUNT, "blocked_by_task_id": Argument(kind="number", nullable=True)}
_CHANGED = {
    "title": _TEXT, "description": _TEXT, "status": Argument(kind="status"), "assigned_to": _TEXT, "priority": _COUNT,
    "tags": _TAGS, "queue_name": _TEXT,
}  # fmt: skip

TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(name="create_task", what="Create a task", arguments=_NEW | _RELATED),
        Tool(name="update_task", what="Change a task", arguments={"id": _ID} | _CHANGED | _RELATED),
        Tool(name="get_task", what="A task with its comments and links", arguments={"id": _ID}),
        Tool(name="delete_task", what="Delete a task for good", arguments={"id": _ID}),
        Tool(name="archive_task", what="Archive a task; an open one is cancelled", arguments={"id": _ID}),
        Tool(name="list_tasks", what="List tasks", arguments=_FILTERS | {"queue_name": _TEXT}, words=_listing),
        Tool(name="get_my_queue", what="An agent's open tasks", arguments={"agent_name": _NEEDED}, words=_mine),
        Tool(
            name="signup_for_task", what="Take the first idle task assigned to an agent",
            arguments={"agent_name": _NEEDED}, words=_signed_up,
        ),
        Tool(
            name="move_task", what="Hand a task over to another agent, with a comment",
            arguments=_ONE_TASK | {"current_agent": _NEEDED, "new_agent": _NEEDED, "comment": _NEEDED},
        ),
        Tool(name="create_subtask", what="Create a subtask", arguments=_NEW | {"parent_task_id": _ID}),
        Tool(
            name="get_subtasks", what="A task's subtasks",
            arguments={"parent_task_id": _ID, "recursive": _FLAG, "include_archived": _FLAG}, words=_subtasks,
        ),
        Tool(
            name="get_task_with_subtasks", what="A task with its subtasks",
            arguments=_ONE_TASK | {"recursive": _FLAG},
        ),
        Tool(
            name="move_subtask", what="Give a subtask another parent, or none", words=_moved,
            arguments={"subtask_id": _ID, "new_parent_id": Argument(kind="number", nullable=True)},
        ),
        Tool(name="list_queues", what="The queues in use", arguments={}, words=_queues),
        Tool(name="get_queue_stats", what="Figures of a queue", arguments={"queue_name": _NEEDED}),
        Tool(name="get_queue_tasks", what="A queue's tasks", arguments={"queue_name": _NEEDED} | _FILTERS,
             words=_queue_listing),
        Tool(name="add_task_to_queue", what="Put a task into a queue", arguments=_ONE_TASK | {"queue_name": _NEEDED}),
        Tool(name="remove_task_from_queue", what="Take a task out of its queue", arguments=_ONE_TASK),
        Tool(name="move_task_to_queue", what="Put a task into another queue",
             arguments=_ONE_TASK | {"new_queue_name": _NEEDED}),
        Tool(name="clear_queue", what="Take all tasks out of a queue", arguments={"queue_name": _NEEDED}),
        Tool(name="add_comment", what="Comment on a task", strict=False,
             arguments=_ONE_TASK | {"content": _NEEDED, "created_by": _TEXT}),
        Tool(name="update_comment", what="Change a comment", strict=False, arguments={"id": _ID, "content": _NEEDED}),
        Tool(name="delete_comment", what="Delete a comment", strict=False, arguments={"id": _ID}),
        Tool(name="list_comments", what="A task's comments", strict=False, arguments=_ONE_TASK),
        Tool(name="add_link", what="Link something to a task", strict=False,
             arguments=_ONE_TASK | {"url": _NEEDED, "description": _TEXT, "created_by": _TEXT}),
        Tool(name="update_link", what="Change a link", strict=False,
             arguments={"id": _ID, "url": _TEXT, "description": _TEXT}),
        Tool(name="delete_link", what="Delete a link", strict=False, arguments={"id": _ID}),
        Tool(name="list_links", what="A task's links", strict=False, arguments=_ONE_TASK),
    )
}  # fmt: skip
