"""How HTTP is served here: the address, who may ask, bodies with an end, refusals in one form."""

import asyncio
import hmac
import json
import logging
import signal
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tsched.model.errors import ConfigurationError, TransientError, TschedError

_LOG = logging.getLogger(__name__)
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ALWAYS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
SLOWEST = 30.0  # seconds that the body of a request may take


class RefusedError(TschedError):
    """A request that is not answered; `status` says why."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def forbid_strangers(request: Request, hosts: Collection[str]) -> None:
    """Refuse what a page of another site could send to a server that asks for no token. Raises RefusedError.

    Such a page can't have our Host, unless by DNS rebinding, and its browser names it as the Origin.
    """
    if request.url.hostname not in (*LOOPBACK, *hosts):
        raise RefusedError("this server answers under its own address only", 421)
    origin = request.headers.get("origin")
    crossing = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    if crossing or (origin is not None and urlsplit(origin).netloc != request.headers.get("host")):
        raise RefusedError("pages of other sites may not ask this server", 403)


def bears(request: Request, token: str) -> bool:
    """Whether the request shows the token as a bearer; how long that takes to find out tells nothing of it."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


async def read_body(request: Request, most: int) -> bytes:
    """The body. Raises RefusedError where it is larger than `most` bytes or too slow to come."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(SLOWEST):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise RefusedError(f"the body is larger than {most} bytes", 413)
                parts.append(part)
    except TimeoutError:
        raise RefusedError(f"the body did not come within {SLOWEST:.0f} seconds", 408) from None
    return b"".join(parts)


def json_object(body: bytes) -> dict[str, object]:
    """A body that holds a JSON object, or nothing. Raises RefusedError for any other."""
    if not body.strip():
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError("the body is no JSON", 400) from None
    if not isinstance(found, dict):
        raise RefusedError("the body is no JSON object", 400)
    return found


def as_json(value: object, status: int = 200) -> Response:
    """JSON in ASCII: half a character, which somebody's program stored, must not keep all else from being read."""
    return Response(compact(value), status, media_type="application/json")


def finished(response: Response) -> Response:
    """With the headers that all answers have, unless it has its own."""
    for name, value in _ALWAYS.items():
        response.headers.setdefault(name, value)
    return response


def refusal(text: str, status: int) -> Response:
    """Every refusal in one form: `{"error": why}`."""
    return as_json({"error": text}, status)


def failure(error: Exception, request: Request) -> Response:
    """The answer to a request that raised, never a traceback: of what nobody foresaw the log has it."""
    match error:
        case RefusedError():
            return refusal(str(error), error.status)
        case TschedError():
            return refusal(str(error), 503 if isinstance(error, TransientError) else 500)
        case ClientDisconnect():
            return refusal("the request ended early", 400)
    _LOG.error("%s %s failed", request.method, request.scope["path"], exc_info=error)
    return refusal(f"internal error: {type(error).__name__}", 500)


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def require_token(host: str, token: str | None, variable: str) -> None:
    """Raises ConfigurationError where the address is open to others and no token is set."""
    if token is None and host not in LOOPBACK:
        raise ConfigurationError(f"{host} can be reached by others: set {variable}, or leave --host at 127.0.0.1")


def serve(
    opened: Callable[[], AbstractContextManager[Starlette]], *, host: str, port: int, say: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT. `opened`: makes the application, in the thread that then serves it.

    `port` 0 takes a free one; `say` is told the address once it is open. Raises ConfigurationError where it can't be
    had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigurationError(f"can't listen on {host} port {port}: {reason}: choose another") from None
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listener.getsockname()[1]}"
    with listener:
        if asyncio.run(_serving(opened, listener, lambda: say(address))):
            raise KeyboardInterrupt


async def _serving(
    opened: Callable[[], AbstractContextManager[Starlette]], listener: socket.socket, ready: Callable[[], None]
) -> bool:
    """Whether it was Ctrl-C that ended it."""
    with opened() as app:
        config = uvicorn.Config(
            app, log_level="error", access_log=False, server_header=False, lifespan="off", timeout_graceful_shutdown=5
        )
        server = _Server(config)
        ready()
        await server.serve(sockets=[listener])
        return server.interrupted


class _Server(uvicorn.Server):
    """Ends well. uvicorn's own raises the signal again, and the process would end with all that it has open."""

    interrupted = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.interrupted = self.interrupted or sig == signal.SIGINT
        super().handle_exit(sig, frame)
