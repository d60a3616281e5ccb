"""git's own smart HTTP server, by CGI: open, or for who knows the password; it can be told to be in trouble."""

import base64
import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class GitServer(http.server.BaseHTTPRequestHandler):
    """Notes the arguments of every process while it is asked, and who asks with which credentials.

    `trouble`: the status of every answer, 0 for none. `/away`: sends on to this machine's files, `/to/ADDRESS` there.
    """

    protocol_version = "HTTP/1.1"  # as every git server's
    root = ""
    credentials = ""  # user:password, "" where all may ask
    trouble = 0
    seen: "list[str]"
    asked: "list[tuple[str, str]]"

    def answer(self) -> None:
        self.seen.append(everybodys_arguments())
        self.asked.append((self.headers.get("user-agent", ""), self.headers.get("authorization", "")))
        if self.trouble:
            self.send_response(self.trouble)
            self.send_header("content-length", str(len(str(self.headers).encode())))
            self.end_headers()
            self.wfile.write(str(self.headers).encode())  # as a hostile one might
            return
        if self.path.startswith("/away"):
            self.send_response(302)
            self.send_header("location", f"file://{self.root}/remote.git/info/refs?service=git-upload-pack")
            self.send_header("content-length", "0")
            self.end_headers()
            return
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("location", self.path.removeprefix("/to/"))
            self.send_header("content-length", "0")
            self.end_headers()
            return
        wanted = "Basic " + base64.b64encode(self.credentials.encode()).decode()
        if self.credentials and self.headers.get("authorization", "") != wanted:
            self.send_response(401)
            self.send_header("www-authenticate", 'Basic realm="x"')
            self.send_header("content-length", "0")
            self.end_headers()
            return
        if self.path.startswith("http://"):  # as a proxy is asked
            self.path = "/" + self.path.split("/", 3)[3]
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
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
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
    handler = type("Here", (GitServer,), {"root": str(root), "seen": [], "asked": [], "credentials": credentials})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", handler
        finally:
            server.shutdown()
            thread.join()


class Half:
    """A line to a server over which so many bytes of each answer come, and then no more, though it stays open."""

    def __init__(self, host: str, most: int) -> None:
        self._port = int(host.rpartition(":")[2])
        self.most = most
        self._ends: list[socket.socket] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._socket, *self._ends):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._socket.accept()
                there = socket.create_connection(("127.0.0.1", self._port))
                self._ends += [here, there]
                for source, target, most in ((here, there, 1 << 30), (there, here, self.most)):
                    threading.Thread(target=self._pass_on, args=(source, target, most), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, most: int) -> None:
        with suppress(OSError):
            while most > 0 and (data := source.recv(min(most, 65536))):
                target.sendall(data)
                most -= len(data)
            if most > 0:
                target.shutdown(socket.SHUT_WR)


@contextmanager
def served_apart(root: Path) -> Iterator[str]:
    """host:port of a server that is a process of its own: what it costs is not ours."""
    command = [sys.executable, "-m", "tests.integration.git_server", str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


if __name__ == "__main__":
    with served(Path(sys.argv[1])) as (here, _):
        print(here, flush=True)
        sys.stdin.read()
