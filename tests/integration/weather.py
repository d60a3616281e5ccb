"""A proxy before a task server: it counts requests, and is the weather between a runner and its server."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

Fault = Callable[[str, str], bytes | None]  # the raw answer to a method and path; None: the server's own


class Weather:
    """A proxy before the real server. `fault` may answer for it; `amend` may change its answers; `before` is told."""

    def __init__(self, behind: str) -> None:
        outer = self
        self.fault: Fault = lambda method, path: None
        self.amend: Callable[[str, bytes], bytes] = lambda path, body: body
        self.before: Callable[[str, str, bytes], None] = lambda method, path, body: None
        self.requests = 0
        self.http = httpx.Client(base_url=f"{behind}/api/v1/")

        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True  # else a body waits for its headers' acknowledgement

            def _any(self) -> None:
                outer.requests += 1
                sent = self.rfile.read(int(self.headers.get("content-length", 0)))
                raw = outer.fault(self.command, self.path)
                if raw is not None:
                    self.close_connection = True
                    self.wfile.write(raw)
                    return
                outer.before(self.command, self.path, sent)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                found = outer.http.request(self.command, behind + self.path, content=sent, headers=headers)
                body = outer.amend(self.path, found.content) if self.command == "GET" else found.content
                self.send_response(found.status_code)
                self.send_header("content-type", found.headers["content-type"])
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

            do_GET = do_POST = do_PATCH = _any  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.http.close()

    def add(self, title: str, queue: str) -> int:
        made = self.http.post("tasks", json={"title": title, "queue_name": queue, "created_by": "op"}).json()
        return int(made["id"])

    def task(self, number: int) -> dict[str, object]:
        found: dict[str, object] = self.http.get(f"tasks/{number}").json()
        return found

    def words(self, number: int) -> list[str]:
        notes = self.task(number)["comments"]
        assert isinstance(notes, list)
        return [str(note["content"]) for note in notes]
