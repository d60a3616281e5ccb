"""A model server for agents under test: the APIs of three makers, and a small script instead of a model.

Asked with tools, it calls the first that its script names and that the agent offers; asked again, the next; then it
says its last word. `python -m tests.agents.model_server PORT` runs one by itself.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PIECE = 10  # characters of text sent at once
Tools = Mapping[str, Mapping[str, Any]]  # by name: the JSON Schema of its arguments


@dataclass(frozen=True)
class Call:
    """A tool call of the script: the first offered tool whose name ends with one of `names`."""

    names: Sequence[str]
    arguments: Callable[[Mapping[str, Any]], Mapping[str, object]]  # from the schema of the tool's arguments


@dataclass
class Script:
    """What the model does, in order, and its last word.

    `status` refuses requests with that HTTP status (0: hangs up), `hang` never answers them; both once the
    conversation holds `after` results of tools.
    """

    calls: Sequence[Call] = ()
    answer: str = "Done."
    status: int = 200
    hang: bool = False
    after: int = 0
    requests: list[Mapping[str, Any]] = field(default_factory=list)  # each body that was asked
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Step:
    """What to answer now: a call of a tool by its offered name, or words."""

    tool: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)
    text: str = ""


def step(script: Script, tools: Tools, done: int) -> Step:
    """The script's next step; `done` is how many tool results the conversation has."""
    for call in script.calls[done:]:
        for name in call.names:
            for offered, schema in tools.items():
                if offered == name or offered.endswith(("__" + name, "_" + name)):
                    return Step(tool=offered, arguments=call.arguments(schema))
    return Step(text=script.answer)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._send(json.dumps({"object": "list", "data": [{"id": "tester", "object": "model"}]}), "application/json")

    def do_HEAD(self) -> None:
        self._send("", "text/plain")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        script = self.server.script
        with script.lock:
            script.requests.append(body)
        failing = results(body) >= script.after
        if script.hang and failing:
            script.released.wait()
            self.close_connection = True
            return
        if script.status == 0 and failing:
            self.close_connection = True
            return
        if script.status != 200 and failing:
            error = {"error": {"type": "authentication_error", "message": "no such key", "code": "invalid_api_key"}}
            self._send(json.dumps(error), "application/json", script.status)
            return
        path = self.path.partition("?")[0]
        for end, reply in (
            ("/chat/completions", chat_completions),
            ("/responses", responses),
            ("/count_tokens", None),
            ("/messages", messages),
        ):
            if path.endswith(end):
                if reply is None:
                    self._send('{"input_tokens": 5}', "application/json")
                elif body.get("stream"):
                    self._send("".join(events(reply(script, body))), "text/event-stream")
                else:
                    self._send(json.dumps(whole(path, script, body)), "application/json")
                return
        self._send("{}", "application/json", 404)

    def _send(self, text: str, kind: str, status: int = 200) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def results(body: Mapping[str, Any]) -> int:
    """How many results of tools a conversation holds, in any maker's form."""
    found = 0
    for one in (*body.get("messages", ()), *(body["input"] if isinstance(body.get("input"), list) else ())):
        content = one.get("content")
        parts = content if isinstance(content, list) else ()
        found += one.get("role") == "tool" or str(one.get("type", "")).endswith("_output")
        found += sum(part.get("type") == "tool_result" for part in parts)
    return found


Event = tuple[str, object]  # the event's name ("": none) and its data


def events(all_: Iterator[Event]) -> Iterator[str]:
    for name, data in all_:
        head = f"event: {name}\n" if name else ""
        yield f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n"


# OpenAI: chat completions (goose, opencode)


def chat_completions(script: Script, body: Mapping[str, Any]) -> Iterator[Event]:
    tools = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in body.get("tools") or ()}
    now = step(script, tools, results(body))

    name = f"chat{len(script.requests)}"

    def chunk(delta: Mapping[str, object], finish: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return "", {
            "id": name, "object": "chat.completion.chunk", "created": 1, "model": "tester", "choices": [choice],
        }  # fmt: skip

    if now.tool:
        function = {"name": now.tool, "arguments": json.dumps(now.arguments)}
        call = {"index": 0, "id": f"call_{len(body['messages'])}", "type": "function", "function": function}
        yield chunk({"role": "assistant", "content": None, "tool_calls": [call]})
        yield chunk({}, "tool_calls")
    else:
        for start in range(0, len(now.text), PIECE):
            yield chunk({"role": "assistant", "content": now.text[start : start + PIECE]})
        yield chunk({}, "stop")
    usage = {"prompt_tokens": 40, "completion_tokens": 2, "total_tokens": 42}
    yield "", {
        "id": name, "object": "chat.completion.chunk", "created": 1, "model": "tester", "choices": [], "usage": usage,
    }  # fmt: skip
    yield "", "[DONE]"


# OpenAI: responses (codex)


def responses(script: Script, body: Mapping[str, Any]) -> Iterator[Event]:
    tools: dict[str, Mapping[str, Any]] = {}
    spaces: dict[str, str] = {}
    for tool in body.get("tools") or ():
        if tool.get("type") == "namespace":
            for inner in tool.get("tools", ()):
                tools[inner["name"]] = inner.get("parameters", {})
                spaces[inner["name"]] = tool["name"]
        elif tool.get("type") in ("function", "custom"):
            tools[tool["name"]] = tool.get("parameters", {})
    done = results(body)
    now = step(script, tools, done)
    item: dict[str, object]
    if now.tool:
        item = {
            "type": "function_call", "id": f"fc_{done}", "call_id": f"call_{done}", "name": now.tool,
            "arguments": json.dumps(now.arguments), "status": "completed",
        }  # fmt: skip
        if now.tool in spaces:
            item["namespace"] = spaces[now.tool]
    else:
        item = {
            "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": now.text, "annotations": []}],
        }  # fmt: skip
    usage = {
        "input_tokens": 40, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 42,
    }  # fmt: skip
    base = {"id": "resp_1", "object": "response", "created_at": 1, "model": "tester", "parallel_tool_calls": False}
    yield (
        "response.created",
        {"type": "response.created", "response": {**base, "status": "in_progress", "output": []}},
    )
    yield "response.output_item.added", {"type": "response.output_item.added", "output_index": 0, "item": item}
    yield "response.output_item.done", {"type": "response.output_item.done", "output_index": 0, "item": item}
    ended = {**base, "status": "completed", "output": [item], "usage": usage}
    yield "response.completed", {"type": "response.completed", "response": ended}


# Anthropic: messages (claude)


def messages(script: Script, body: Mapping[str, Any]) -> Iterator[Event]:
    tools = {tool["name"]: tool.get("input_schema", {}) for tool in body.get("tools") or ()}
    done = results(body)
    now = step(script, tools, done)
    message: Mapping[str, object] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "tester", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": 40, "output_tokens": 1},
    }  # fmt: skip
    yield "message_start", {"type": "message_start", "message": message}
    block: Mapping[str, object]
    delta: Mapping[str, object]
    if now.tool:
        block = {"type": "tool_use", "id": f"toolu_{done}", "name": now.tool, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(now.arguments)}
    else:
        block = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": now.text}
    yield "content_block_start", {"type": "content_block_start", "index": 0, "content_block": block}
    yield "content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}
    yield "content_block_stop", {"type": "content_block_stop", "index": 0}
    end = {"stop_reason": "tool_use" if now.tool else "end_turn", "stop_sequence": None}
    yield "message_delta", {"type": "message_delta", "delta": end, "usage": {"input_tokens": 40, "output_tokens": 2}}
    yield "message_stop", {"type": "message_stop"}


def whole(path: str, script: Script, body: Mapping[str, Any]) -> Mapping[str, object]:
    """The same without streaming, as some agents ask for small things (a title)."""
    if path.endswith("/messages"):
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "tester",
            "content": [{"type": "text", "text": script.answer}], "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 40, "output_tokens": 2},
        }  # fmt: skip
    message = {"role": "assistant", "content": script.answer}
    return {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "tester",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 2, "total_tokens": 42},
    }  # fmt: skip


class Server(ThreadingHTTPServer):
    """Keeps its script."""

    daemon_threads = True

    def __init__(self, script: Script, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.script = script
        self.base = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An agent that is killed while it waits is the test; words of that would be taken for a command's own."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(script: Script) -> Iterator[Server]:
    """A model server until the block ends."""
    server = Server(script)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        script.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    Server(Script(), int(sys.argv[1])).serve_forever()
