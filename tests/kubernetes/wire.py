"""A stretch of wire before an API server that can be cut, or lose what it carries. TLS goes through."""

import socket
import threading
from contextlib import suppress


class Wire:
    """`port`: what clients speak to. `mode`: what happens to connections that say something from now on.

    "": carried to and fro. "answer": what is asked arrives, the answer is lost with its connection. "request": it is
    held back, and the connection lost. "hang": it is held back, and nothing else happens.
    """

    def __init__(self, target: int) -> None:
        self._target, self.mode = target, ""
        self._held: list[tuple[socket.socket, bytes]] = []
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            _hang_up(one)

    def late(self) -> None:
        """What was held back goes on to the server, its answer to nobody."""
        for server, data in self._held:
            with suppress(OSError):
                server.sendall(data)
        self._held.clear()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open |= {client, server}
                for one in (self._ask, self._answer):
                    threading.Thread(target=one, args=(client, server), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if self.mode in ("request", "hang"):
                    self._held.append((server, data))
                    if self.mode == "request":  # its body may come by itself, a moment later
                        client.settimeout(0.3)
                else:
                    server.sendall(data)
        if any(one is server for one, _ in self._held):
            _hang_up(client)
        else:
            _hang_up(server)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                if self.mode == "answer":
                    break
                client.sendall(data)
        _hang_up(client)


def _hang_up(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
