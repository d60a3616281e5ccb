"""The embedded queue over HTTP: TinyTask 2.0's REST and MCP, the guide's older paths, and their OpenAPI document."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tsched import __version__, serving
from tsched.model.errors import ConfigurationError, TschedError
from tsched.model.records import dataclass
from tsched.serving import RefusedError, as_json, compact, read_body, refusal
from tsched.tasks.heeded import TakenError
from tsched.tasks.served import ServedTasks
from tsched.tasks.shown import Json, NotFoundError
from tsched.tasks.tools import TOOLS, InvalidError, Tool

MOST = 2 * 1024 * 1024  # bytes of a request
BATCH = 50  # MCP messages in one request
LARGEST = 64 * 1024 * 1024  # bytes of the answers to one request
OPEN = ("/health", "/healthz")  # asked without a token
PROTOCOLS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
_BOTH_TYPES = "Not Acceptable: Client must accept both application/json and text/event-stream"


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


class TaskServer:
    """What the routes share. `tasks` belongs to the event loop's thread. Without a token anybody here may ask."""

    def __init__(self, tasks: ServedTasks, *, token: str | None, hosts: Sequence[str]) -> None:
        self._tasks = tasks
        self._token = token
        self._hosts = hosts
        self._started = time.monotonic()

    def app(self) -> Starlette:
        """The application."""
        rest = [
            Route(prefix + one.path, self._guarded(self._rest(one)), methods=[one.method])
            for prefix in PREFIXES
            for one in ROUTES
        ]
        others = [
            Route("/mcp", self._guarded(self._mcp), methods=["POST"]),
            Route("/health", self._guarded(self._health)),
            Route("/healthz", self._guarded(self._health)),
            Route("/openapi.json", self._guarded(self._openapi)),
        ]
        missing = {404: _not_found, 405: _not_found}
        return Starlette(routes=[*rest, *others], exception_handlers=missing)

    def _guarded(self, inner: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Every refusal in one form: `{"error": …}` with its status, never a traceback."""

        async def answer(request: Request) -> Response:
            try:
                self._admit(request)
                return await inner(request)
            except NotFoundError as error:
                return refusal(str(error), 404)
            except TakenError as error:
                return refusal(str(error), 409)
            except InvalidError as error:
                return refusal("; ".join(_said(issue) for issue in error.issues), 400)
            except ConfigurationError as error:
                return refusal(str(error), 400)
            except Exception as error:
                return serving.failure(error, request)

        async def endpoint(request: Request) -> Response:
            return serving.finished(await answer(request))

        return endpoint

    def _admit(self, request: Request) -> None:
        """The token; or, where none is set, nothing that a page of another site could send."""
        if request.scope["path"] in OPEN:  # not the URL's: that is made of the Host header too
            return
        if self._token is None:
            serving.forbid_strangers(request, self._hosts)
        elif not serving.bears(request, self._token):
            raise RefusedError("a bearer token is needed: set TSCHED_TASKS_TOKEN as on the server", 401)

    def _rest(self, route: Rest) -> Callable[[Request], Awaitable[Response]]:
        tool = TOOLS[route.tool]

        async def answer(request: Request) -> Response:
            given = _query(tool, request.query_params) if route.method == "GET" else await _body(request)
            if any(isinstance(one, int) and one >= 2**53 for one in request.path_params.values()):
                raise NotFoundError("not found: no id is that large")
            given = _plain(tool, given) | dict(request.path_params)
            if tool.name == "get_task_with_subtasks":
                given.setdefault("recursive", True)
            if tool.name == "move_subtask" and "new_parent_id" not in given:  # by MCP that is the top level
                raise RefusedError("new_parent_id is required (use null to make top-level)", 400)
            try:
                value = tool.call(self._tasks, given)
            except NotFoundError as error:
                raise NotFoundError(re.sub(r"^Task not found: (\d+)$", r"Task \1 not found", str(error))) from None
            if value is None:
                return refusal("No idle tasks available for signup", 404)
            return as_json(value, route.status)

        return answer

    async def _health(self, request: Request) -> Response:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return as_json(
            {
                "status": "healthy", "transport": "streamable-http", "timestamp": now, "database": "connected",
                "uptime": time.monotonic() - self._started, "sessionCount": 0,
            }
        )  # fmt: skip

    async def _openapi(self, request: Request) -> Response:
        return as_json(openapi())

    # MCP by streamable HTTP, without sessions

    async def _mcp(self, request: Request) -> Response:
        accepted = request.headers.get("accept", "")
        if not ("application/json" in accepted and "text/event-stream" in accepted):
            return as_json(_fault(None, -32000, _BOTH_TYPES), 406)
        try:
            sent = json.loads(await read_body(request, MOST))
        except (ValueError, RecursionError):
            return as_json(_fault(None, -32700, "Parse error"), 400)
        batch = sent if isinstance(sent, list) else [sent]
        if len(batch) > BATCH:
            return as_json(_fault(None, -32600, f"A batch has at most {BATCH} messages"), 400)
        events, size = [], 0
        for one in batch:
            answer = self._message(one)
            if answer is not None:
                events.append(f"event: message\ndata: {compact(answer)}\n\n")
                size += len(events[-1])
            if size > LARGEST:
                return as_json(_fault(None, -32600, f"The answer is larger than {LARGEST} bytes: ask for less"), 413)
            await asyncio.sleep(0)  # others are waiting
        if not events:
            return PlainTextResponse("", 202)
        return Response("".join(events), media_type="text/event-stream", headers={"cache-control": "no-cache"})

    def _message(self, sent: object) -> Json | None:
        if not isinstance(sent, dict) or sent.get("jsonrpc") != "2.0" or not isinstance(sent.get("method"), str):
            return _fault(None, -32600, "Invalid Request")
        if "id" not in sent:
            return None
        given = sent.get("params")
        parameters = given if isinstance(given, dict) else {}
        match sent["method"]:
            case "initialize":
                result = _hello(parameters)
            case "ping":
                result = {}
            case "tools/list":
                listed = [{"name": t.name, "description": t.what, "inputSchema": t.schema()} for t in TOOLS.values()]
                result = {"tools": listed}
            case "resources/list" | "prompts/list":
                result = {str(sent["method"]).partition("/")[0]: []}
            case "tools/call":
                result = self._call(str(parameters.get("name")), parameters.get("arguments"))
            case _:
                return _fault(sent["id"], -32601, "Method not found")
        return {"result": result, "jsonrpc": "2.0", "id": sent["id"]}

    def _call(self, name: str, arguments: object) -> Json:
        tool = TOOLS.get(name)
        if tool is None:
            return _text(f"Unknown tool: {name}", failed=True)
        given = arguments if isinstance(arguments, dict) else {}
        try:
            return _text(tool.words(given, tool.call(self._tasks, given)))
        except NotFoundError as error:
            return _text(str(error), failed=True)
        except TschedError as error:
            return _text(f"Error calling tool {name}: {error}", failed=True)


def _hello(parameters: Mapping[str, object]) -> Json:
    asked = parameters.get("protocolVersion")
    return {
        "protocolVersion": asked if asked in PROTOCOLS else PROTOCOLS[-1],
        "capabilities": {"tools": {}, "resources": {}},
        "serverInfo": {"name": "tsched", "version": __version__},
    }


def _text(text: str, *, failed: bool = False) -> Json:
    return {"content": [{"type": "text", "text": text}], **({"isError": True} if failed else {})}


def _fault(number: object, code: int, message: str) -> Json:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": number}


async def _body(request: Request) -> Json:
    raw = await read_body(request, MOST)
    if not raw.strip():
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(f"the body is {kind or 'of no type'}: send it as application/json", 415)
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise RefusedError("the body is no JSON", 400) from None
    if not isinstance(body, dict):
        raise RefusedError("the body is no JSON object", 400)
    return body


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


def _said(issue: Mapping[str, object]) -> str:
    path = issue["path"]
    where = ".".join(str(one) for one in path) if isinstance(path, list) and path else "the request"
    return f"{where}: {issue['message']}"


async def _not_found(request: Request, error: Exception) -> Response:
    return serving.finished(refusal("Not found", getattr(error, "status_code", 404)))


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


def serve(
    open_tasks: Callable[[], ServedTasks], *, host: str, port: int, token: str | None, say: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT. `port` 0 takes a free one; `say` is told the address once it is open.

    Raises ConfigurationError where the address can't be had, or is open to others and no token is set.
    """
    serving.require_token(host, token, "TSCHED_TASKS_TOKEN")

    @contextmanager
    def opened() -> Iterator[Starlette]:
        with closing(open_tasks()) as tasks:
            yield TaskServer(tasks, token=token, hosts=(host,)).app()

    serving.serve(opened, host=host, port=port, say=say)
