"""The runner's door for nodes, served for real in a thread, over the folders of a place."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from starlette.applications import Starlette

from tsched.executors.nodes import Nodes
from tsched.observe.web.nodes import routes


class Door:
    """It may be shut, and opened again at the same address, over another state folder too."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = int(free.getsockname()[1])
        self.address = f"http://127.0.0.1:{self._port}"
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._lines = ThreadPoolExecutor(max_workers=2)

    def open(self) -> None:
        app = Starlette(routes=list(routes(self.nodes, self._lines)))
        self._server = server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=self._port, log_level="error", lifespan="off")
        )
        self._thread = thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)

    def shut(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
        self._server = None

    def close(self) -> None:
        self.shut()
        self._lines.shutdown()
