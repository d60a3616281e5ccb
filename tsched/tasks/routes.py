"""TinyTask's REST API as a table of routes, and the OpenAPI document that is made of it."""

import re

from tsched import __version__
from tsched.model.records import dataclass
from tsched.tasks.served_rows import Json
from tsched.tasks.tools import TOOLS

MOST = 2 * 1024 * 1024  # bytes of a request


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """A REST route: which operation it is, and which of its arguments stand in the path."""

    method: str
    path: str
    tool: str
    status: int = 200


_TASK, _QUEUE = "/tasks/{id:int}", "/queues/{queue_name}"
_OF_TASK = "/tasks/{task_id:int}"
ROUTES = (
    Rest(method="POST", path="/tasks", tool="create_task", status=201),
    Rest(method="GET", path="/tasks", tool="list_tasks"),
    Rest(method="GET", path=_TASK, tool="get_task"),
    Rest(method="PATCH", path=_TASK, tool="update_task"),
    Rest(method="DELETE", path=_TASK, tool="delete_task"),
    Rest(method="POST", path=f"{_TASK}/archive", tool="archive_task"),
    Rest(method="POST", path="/tasks/{parent_task_id:int}/subtasks", tool="create_subtask", status=201),
    Rest(method="GET", path="/tasks/{parent_task_id:int}/subtasks", tool="get_subtasks"),
    Rest(method="GET", path=f"{_OF_TASK}/hierarchy", tool="get_task_with_subtasks"),
    Rest(method="PATCH", path="/tasks/{subtask_id:int}/parent", tool="move_subtask"),
    Rest(method="POST", path=f"{_OF_TASK}/transfer", tool="move_task"),
    Rest(method="DELETE", path=f"{_OF_TASK}/queue", tool="remove_task_from_queue"),
    Rest(method="PATCH", path=f"{_OF_TASK}/queue", tool="move_task_to_queue"),
    Rest(method="POST", path=f"{_OF_TASK}/comments", tool="add_comment", status=201),
    Rest(method="GET", path=f"{_OF_TASK}/comments", tool="list_comments"),
    Rest(method="PATCH", path="/comments/{id:int}", tool="update_comment"),
    Rest(method="DELETE", path="/comments/{id:int}", tool="delete_comment"),
    Rest(method="POST", path=f"{_OF_TASK}/links", tool="add_link", status=201),
    Rest(method="GET", path=f"{_OF_TASK}/links", tool="list_links"),
    Rest(method="PATCH", path="/links/{id:int}", tool="update_link"),
    Rest(method="DELETE", path="/links/{id:int}", tool="delete_link"),
    Rest(method="GET", path="/agents/{agent_name}/queue", tool="get_my_queue"),
    Rest(method="POST", path="/agents/{agent_name}/signup", tool="signup_for_task"),
    Rest(method="GET", path="/queues", tool="list_queues"),
    Rest(method="GET", path=f"{_QUEUE}/stats", tool="get_queue_stats"),
    Rest(method="GET", path=f"{_QUEUE}/tasks", tool="get_queue_tasks"),
    Rest(method="POST", path=f"{_QUEUE}/tasks", tool="add_task_to_queue"),
    Rest(method="DELETE", path=f"{_QUEUE}/tasks", tool="clear_queue"),
)
PREFIXES = ("/api/v1", "/api")  # the second is the operations guide's


def openapi() -> Json:
    """The REST API as OpenAPI 3.1, from the very table that is served."""
    paths: dict[str, Json] = {}
    for route in ROUTES:
        tool = TOOLS[route.tool]
        inside = re.findall(r"\{(\w+)(?::int)?\}", route.path)
        path = "/api/v1" + route.path.replace(":int", "")
        rest = {name: one for name, one in tool.arguments.items() if name not in inside}
        parameters: list[Json] = [
            {"name": name, "in": "path", "required": True, "schema": tool.arguments[name].schema()} for name in inside
        ]
        operation: Json = {
            "operationId": tool.name, "summary": tool.what, "parameters": parameters,
            "responses": {
                str(route.status): {"description": "Done", "content": {"application/json": {"schema": {}}}},
                "4XX": {"description": "Refused: {\"error\": why}"},
            },
        }  # fmt: skip
        if route.method == "GET":
            parameters += [{"name": name, "in": "query", "schema": one.schema()} for name, one in rest.items()]
        elif rest:
            needed = [name for name, one in rest.items() if one.required]
            schema: Json = {"type": "object", "properties": {name: one.schema() for name, one in rest.items()}}
            schema |= {"required": needed} if needed else {}
            operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
        paths.setdefault(path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "tsched task server", "version": __version__},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }
