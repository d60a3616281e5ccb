"""The embedded queue over HTTP: who may ask, TinyTask 2.0's REST and MCP, every refusal in one form."""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tsched import serving
from tsched.model.errors import ConfigurationError
from tsched.serving import RefusedError, as_json, refusal
from tsched.tasks import mcp_server, rest_server
from tsched.tasks.routes import PREFIXES, ROUTES, openapi
from tsched.tasks.served import ServedTasks
from tsched.tasks.served_claims import TakenError
from tsched.tasks.served_rows import NotFoundError
from tsched.tasks.tools import InvalidError

OPEN = ("/health", "/healthz")  # asked without a token
Endpoint = Callable[[Request], Awaitable[Response]]


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
            Route(prefix + one.path, self._guarded(partial(rest_server.answer, route=one, tasks=self._tasks)),
                  methods=[one.method])
            for prefix in PREFIXES
            for one in ROUTES
        ]  # fmt: skip
        others = [
            Route("/mcp", self._guarded(partial(mcp_server.answer, tasks=self._tasks)), methods=["POST"]),
            Route("/health", self._guarded(self._health)),
            Route("/healthz", self._guarded(self._health)),
            Route("/openapi.json", self._guarded(self._openapi)),
        ]
        missing = {404: _not_found, 405: _not_found}
        return Starlette(routes=[*rest, *others], exception_handlers=missing)

    def _guarded(self, inner: Endpoint) -> Endpoint:
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


def _said(issue: Mapping[str, object]) -> str:
    path = issue["path"]
    where = ".".join(str(one) for one in path) if isinstance(path, list) and path else "the request"
    return f"{where}: {issue['message']}"


async def _not_found(request: Request, error: Exception) -> Response:
    return serving.finished(refusal("Not found", getattr(error, "status_code", 404)))


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
