"""git's own smart HTTP server, by CGI: open, or for who knows the password; it can be told to be in trouble."""

import base64
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class GitServer(http.server.BaseHTTPRequestHandler):
    """Notes the arguments of every process while it is asked. `trouble`: the status of every answer, 0 for none."""

    root = ""
    credentials = ""  # user:password, "" where all may ask
    trouble = 0
    seen: "list[str]"

    def answer(self) -> None:
        self.seen.append(everybodys_arguments())
        if self.trouble:
            self.send_response(self.trouble)
            self.end_headers()
            self.wfile.write(str(self.headers).encode())  # as a hostile one might
            return
        if self.path.startswith("/away"):
            self.send_response(302)
            self.send_header("location", f"file://{self.root}/remote.git/info/refs?service=git-upload-pack")
            self.end_headers()
            return
        wanted = "Basic " + base64.b64encode(self.credentials.encode()).decode()
        if self.credentials and self.headers.get("authorization", "") != wanted:
            self.send_response(401)
            self.send_header("www-authenticate", 'Basic realm="x"')
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("content-length") or 0)
        environ = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": self.root, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
            "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(length),
            "REMOTE_USER": "bot",
            "CONTENT_TYPE": self.headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
        }  # fmt: skip
        body = self.rfile.read(length)
        out = subprocess.run(["git", "http-backend"], env=environ, input=body, capture_output=True, check=True).stdout
        head, _, content = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer  # noqa: N815  # names that http.server looks for

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def everybodys_arguments() -> str:
    """The command lines of all processes on this machine."""
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(lines)


@contextmanager
def served(root: Path, credentials: str = "") -> Iterator[tuple[str, type[GitServer]]]:
    """host:port and the server of the repositories below a folder."""
    handler = type("Here", (GitServer,), {"root": str(root), "seen": [], "credentials": credentials})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", handler
        finally:
            server.shutdown()
            thread.join()
