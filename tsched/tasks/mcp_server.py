"""TinyTask's MCP tools answered, by streamable HTTP without sessions."""

import asyncio
import json
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tsched import __version__
from tsched.model.errors import TschedError
from tsched.serving import as_json, compact, read_body
from tsched.tasks.routes import MOST
from tsched.tasks.served import ServedTasks
from tsched.tasks.served_rows import Json, NotFoundError
from tsched.tasks.tools import TOOLS

BATCH = 50  # messages in one request
LARGEST = 64 * 1024 * 1024  # bytes of the answers to one request
PROTOCOLS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
_BOTH_TYPES = "Not Acceptable: Client must accept both application/json and text/event-stream"


async def answer(request: Request, tasks: ServedTasks) -> Response:
    """One request: a message, or a batch of them. Each is answered as an event; without sessions."""
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
        said = _message(one, tasks)
        if said is not None:
            events.append(f"event: message\ndata: {compact(said)}\n\n")
            size += len(events[-1])
        if size > LARGEST:
            return as_json(_fault(None, -32600, f"The answer is larger than {LARGEST} bytes: ask for less"), 413)
        await asyncio.sleep(0)  # others are waiting
    if not events:
        return PlainTextResponse("", 202)
    return Response("".join(events), media_type="text/event-stream", headers={"cache-control": "no-cache"})


def _message(sent: object, tasks: ServedTasks) -> Json | None:
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
            result = _call(str(parameters.get("name")), parameters.get("arguments"), tasks)
        case _:
            return _fault(sent["id"], -32601, "Method not found")
    return {"result": result, "jsonrpc": "2.0", "id": sent["id"]}


def _call(name: str, arguments: object, tasks: ServedTasks) -> Json:
    tool = TOOLS.get(name)
    if tool is None:
        return _text(f"Unknown tool: {name}", failed=True)
    given = arguments if isinstance(arguments, dict) else {}
    try:
        return _text(tool.words(given, tool.call(tasks, given)))
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
