"""TinyTask's REST API answered: a request's query or body as an operation's arguments, its value as JSON."""

import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from tsched.model.errors import ConfigurationError
from tsched.serving import RefusedError, as_json, json_object, read_body, refusal
from tsched.tasks.routes import MOST, Rest
from tsched.tasks.served import ServedTasks
from tsched.tasks.served_rows import Json, NotFoundError
from tsched.tasks.tools import TOOLS, Tool


async def answer(request: Request, route: Rest, tasks: ServedTasks) -> Response:
    """The answer at a route. Raises RefusedError, and as the operation does."""
    tool = TOOLS[route.tool]
    given = _query(tool, request.query_params) if route.method == "GET" else await _body(request)
    if any(isinstance(one, int) and one >= 2**53 for one in request.path_params.values()):
        raise NotFoundError("not found: no id is that large")
    given = _plain(tool, given) | dict(request.path_params)
    if tool.name == "get_task_with_subtasks":
        given.setdefault("recursive", True)
    if tool.name == "move_subtask" and "new_parent_id" not in given:  # by MCP that is the top level
        raise RefusedError("new_parent_id is required (use null to make top-level)", 400)
    try:
        value = tool.call(tasks, given)
    except NotFoundError as error:
        raise NotFoundError(re.sub(r"^Task not found: (\d+)$", r"Task \1 not found", str(error))) from None
    if value is None:
        return refusal("No idle tasks available for signup", 404)
    return as_json(value, route.status)


async def _body(request: Request) -> Json:
    raw = await read_body(request, MOST)
    if not raw.strip():
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(f"the body is {kind or 'of no type'}: send it as application/json", 415)
    return json_object(raw)


def _query(tool: Tool, asked: Mapping[str, str]) -> Json:
    """A query string's values in their kinds. Unknown names are passed over, as TinyTask does."""
    given: Json = {}
    for name, text in asked.items():
        argument = tool.arguments.get(name)
        match argument.kind if argument is not None else None:
            case None:
                continue
            case "boolean" if text in ("true", "false"):
                given[name] = text == "true"
            case "boolean":
                raise ConfigurationError(f"{name} must be 'true' or 'false'")
            case "number" if name == "parent_task_id" and text == "null":
                given[name] = None
            case "number" if re.fullmatch(r"\d{1,15}", text) is None:
                raise ConfigurationError(f"{name} must be a non-negative integer")
            case "statuses":
                given[name] = [part.strip() for part in text.split(",") if part.strip()]
            case _:
                given[name] = text
    return given


def _plain(tool: Tool, given: Mapping[str, object]) -> Json:
    """REST's ways: unknown keys are passed over, and null takes an assignee, queue or description off."""
    known = {name: value for name, value in given.items() if name in tool.arguments}
    return {
        name: "" if value is None and tool.arguments[name].kind == "string" else value
        for name, value in known.items()
        if not (value is None and tool.arguments[name].kind == "strings")
    }
