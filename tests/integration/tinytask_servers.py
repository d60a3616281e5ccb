"""TinyTask servers for tests: ours, as a process over the embedded store, and one that speaks 1.0.0's recorded wire.

The latter answers as tinytask-mcp 1.0.0 (0845a9b) did in mode sse when it was recorded: MCP over server-sent events,
no queues, no blocking, times as `YYYY-MM-DD HH:MM:SS`.
"""

import json
import os
import queue
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from tsched.model.task import Comment, Task
from tsched.tasks.claims import parse
from tsched.tasks.commented import CommentedTasks
from tsched.tasks.wire import TaskRow

Json = dict[str, object]


@contextmanager
def served(state: Path, *, token: str | None = None, host: str = "127.0.0.1") -> Iterator[str]:
    """`tsched tasks serve` over the embedded queue of that state folder. Gives its address."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(state), "TSCHED_STATE": str(state)}
    if token is not None:
        environ["TSCHED_TASKS_TOKEN"] = token
    with subprocess.Popen(
        [sys.executable, "-m", "tsched", "tasks", "serve", "--host", host, "--port", "0"],
        env=environ, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            address = next(word.rstrip(",.") for word in said.split() if word.startswith("http://"))
            yield address.removesuffix("/mcp")
        finally:
            process.terminate()
            code = process.wait(timeout=60)
    assert code == 0


def forget(store: Path) -> None:
    """Empty an embedded queue, as if it were new: the next task is task 1."""
    with closing(sqlite3.connect(store)) as db, db:
        for table in ("links", "comments", "tasks", "sqlite_sequence"):
            db.execute(f"DELETE FROM {table}")  # no foreign key is enforced unless a connection asks for it


@dataclass
class RestQueue:
    """A TinyTask server as people and agents use it, over its REST API."""

    base: str
    source: CommentedTasks
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=f"{self.base}/api/v1/")

    def close(self) -> None:
        self.http.close()

    def add(
        self, title: str, *, queue: str, assign: str | None = None, blocked_by: str | None = None, priority: int = 0
    ) -> Task:
        body: Json = {"title": title, "queue_name": queue, "created_by": "op", "priority": priority}
        if assign is not None:
            body["assigned_to"] = assign
        if blocked_by is not None:
            body["blocked_by_task_id"] = int(blocked_by)
        return self.task(str(self._json("POST", "tasks", body)["id"]))

    def task(self, task_id: str) -> Task:
        return self.source.get([task_id])[task_id]

    def assign(self, task_id: str, agent: str | None) -> Task:
        return self._change(task_id, assigned_to=agent)

    def move(self, task_id: str, queue: str) -> Task:
        return self._change(task_id, queue_name=queue, status="idle", assigned_to=None)

    def complete(self, task_id: str) -> Task:
        return self._change(task_id, status="complete")

    def cancel(self, task_id: str) -> Task:
        self._json("POST", f"tasks/{task_id}/archive", {})
        return self.task(task_id)

    def reopen(self, task_id: str) -> Task:
        return self._change(task_id, status="idle", assigned_to=None)

    def comments(self, task_id: str) -> Sequence[Comment]:
        rows = self._json("GET", f"tasks/{task_id}")["comments"]
        assert isinstance(rows, list)
        return [
            Comment(author=row["created_by"], text=row["content"].rpartition("\n[tsched:")[0], created_at=0)
            for row in rows
            if parse(row["content"]) is None
        ]

    def _change(self, task_id: str, **changes: object) -> Task:
        self._json("PATCH", f"tasks/{task_id}", changes)
        return self.task(task_id)

    def _json(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Json:
        answer = self.http.request(method, path, json=body)
        assert answer.is_success, answer.text
        found: Json = answer.json()
        return found


class OldServer:
    """tinytask-mcp 1.0.0 as recorded. `tasks` and `comments` are its store; `base` its address."""

    def __init__(self) -> None:
        self.tasks: dict[int, Json] = {}
        self.comments: list[Json] = []
        self.calls: list[str] = []
        self.down = False
        self._streams: dict[str, queue.Queue[str | None]] = {}
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True  # else a body waits for its headers' acknowledgement

            def do_GET(self) -> None:
                if outer.down:
                    self._plain(503, "Down")
                    return
                if self.path != "/mcp":
                    self._plain(404, "Not Found")
                    return
                session = str(uuid.uuid4())
                events: queue.Queue[str | None] = queue.Queue()
                outer._streams[session] = events
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                self._event("endpoint", f"/mcp?sessionId={session}")
                while (data := events.get()) is not None:
                    self._event("message", data)

            def do_POST(self) -> None:
                _, _, session = self.path.partition("?sessionId=")
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if outer.down:
                    self._plain(503, "Down")
                    return
                if session not in outer._streams:
                    self._plain(404, "Session not found")
                    return
                answer = outer.answer(body)
                self._plain(202, "Accepted")
                if answer is not None:
                    outer._streams[session].put(json.dumps(answer))

            def _event(self, kind: str, data: str) -> None:
                self.wfile.write(f"event: {kind}\ndata: {data}\n\n".encode())
                self.wfile.flush()

            def _plain(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:
                return

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def drop_sessions(self) -> None:
        """Forget every session and end its stream, as a restarted server does."""
        streams, self._streams = self._streams, {}
        for events in streams.values():
            events.put(None)

    def close(self) -> None:
        self.drop_sessions()
        self._http.shutdown()
        self._http.server_close()

    def add(self, title: str, *, assigned_to: str | None = None) -> int:
        """A new task, as a person's client makes it."""
        made = self._create_task({"title": title, **({"assigned_to": assigned_to} if assigned_to else {})})
        assert isinstance(made["id"], int)
        return made["id"]

    def answer(self, body: Json) -> Json | None:
        """One JSON-RPC request's answer; None for a notification."""
        if "id" not in body:
            return None
        if body["method"] == "initialize":
            info = {"name": "tinytask-mcp", "version": "1.0.0"}
            result: Json = {
                "protocolVersion": "2024-11-05", "capabilities": {"tools": {}, "resources": {}}, "serverInfo": info,
            }  # fmt: skip
            return {"result": result, "jsonrpc": "2.0", "id": body["id"]}
        if body["method"] == "tools/list":
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in self._tools()]
            return {"result": {"tools": tools}, "jsonrpc": "2.0", "id": body["id"]}
        parameters = body["params"]
        assert isinstance(parameters, dict)
        name, arguments = parameters["name"], parameters["arguments"]
        known = self._tools()
        self.calls.append(name)
        with self._lock:
            if name not in known:
                said, failed = f"Unknown tool: {name}", True
            else:
                try:
                    said, failed = json.dumps(known[name](arguments), indent=2), False
                except KeyError:
                    said, failed = f"Task not found: {arguments.get('id')}", True
        content: Json = {"content": [{"type": "text", "text": said}], **({"isError": True} if failed else {})}
        return {"result": content, "jsonrpc": "2.0", "id": body["id"]}

    def _tools(self) -> dict[str, Callable[[Json], Json]]:
        return {
            "create_task": self._create_task, "update_task": self._update_task, "get_task": self._get_task,
            "list_tasks": self._list_tasks, "add_comment": self._add_comment,
        }  # fmt: skip

    def _create_task(self, arguments: Json) -> Json:
        number = len(self.tasks) + 1
        moment = "2026-11-23 17:43:07"
        self.tasks[number] = {
            "id": number, "title": arguments["title"], "description": None, "status": "idle",
            "assigned_to": arguments.get("assigned_to"), "previous_assigned_to": None, "created_by": None,
            "priority": arguments.get("priority", 0), "tags": [], "created_at": moment, "updated_at": moment,
            "archived_at": None,
        }  # fmt: skip
        return self.tasks[number]

    def _update_task(self, arguments: Json) -> Json:
        assert isinstance(arguments["id"], int)
        task = self.tasks[arguments["id"]]
        for key, value in arguments.items():
            task[key] = (value or None) if key == "assigned_to" else value
        return task

    def _get_task(self, arguments: Json) -> Json:
        assert isinstance(arguments["id"], int)
        mine = [one for one in self.comments if one["task_id"] == arguments["id"]]
        return self.tasks[arguments["id"]] | {"comments": mine, "links": []}

    def _list_tasks(self, arguments: Json) -> Json:
        found = [
            task
            for task in self.tasks.values()
            if all(task[key] == arguments[key] for key in ("status", "assigned_to") if key in arguments)
        ]
        start, limit = arguments.get("offset", 0), arguments.get("limit", 100)
        assert isinstance(start, int) and isinstance(limit, int)
        page = found[start : start + limit] if limit else found[start:]
        return {"count": len(page), "tasks": page}

    def _add_comment(self, arguments: Json) -> Json:
        moment = "2026-11-23 17:43:07"
        comment = {"id": len(self.comments) + 1, "created_at": moment, "updated_at": moment, **arguments}
        self.comments.append(comment)
        return comment


@contextmanager
def old_server() -> Iterator[OldServer]:
    with closing(OldServer()) as server:
        yield server


def rows(number: int) -> list[TaskRow]:
    """So many tasks, as a listing gives them."""
    moment = "2026-11-23T17:43:07Z"
    return [
        TaskRow(id=one, title="t", status="idle", created_at=moment, updated_at=moment)
        for one in range(1, number + 1)
    ]
