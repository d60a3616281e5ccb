"""The runner's door for nodes that share no folder with it: a run's own secret opens that run, and nothing else."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tsched.observe.web.guard import Endpoint, guarded
from tsched.serving import as_json, read_body

MOST = 1 << 20  # bytes of a request
WHOSE = "tsched-runner"  # header: the id of the runner that the run is of
T = TypeVar("T")
Put = Callable[[str, bytes], Mapping[str, object]]


class Nodes(Protocol):
    """What is done with a node's word. Called from several threads. Each raises RefusedError."""

    def admit(self, run_id: str, secret: str, *, runner_id: str, starting: bool) -> None:
        """Refuse whoever has not the run's ticket (to start it), or its token (afterwards)."""
        ...

    def begin(self, run_id: str, body: bytes) -> Mapping[str, object]:
        """Give the run to its node."""
        ...

    def hear(self, run_id: str, body: bytes) -> Mapping[str, object]:
        """Put down how the run is; what is wanted of it."""
        ...


def routes(nodes: Nodes, line: ThreadPoolExecutor) -> Sequence[Route]:
    """The two requests that a node may make. They are answered in threads of their own: no page holds them up."""
    both = (("start", nodes.begin, True), ("word", nodes.hear, False))
    return [
        Route(f"/nodes/{{run_id}}/{name}", guarded(_endpoint(nodes, line, put, starting)), methods=["POST"])
        for name, put, starting in both
    ]


def _endpoint(nodes: Nodes, line: ThreadPoolExecutor, put: Put, starting: bool) -> Endpoint:
    async def ask(question: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(line, question)

    async def answer(request: Request) -> Response:
        """No body is read of who may not speak."""
        run_id = str(request.path_params["run_id"])
        secret = request.headers.get("authorization", "").partition(" ")[2].strip()
        runner_id = request.headers.get(WHOSE, "")
        await ask(lambda: nodes.admit(run_id, secret, runner_id=runner_id, starting=starting))
        body = await read_body(request, MOST)
        return as_json(await ask(lambda: put(run_id, body)))

    return answer
