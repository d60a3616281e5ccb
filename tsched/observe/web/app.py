"""The application: routes, who may use them, and refusals in words."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from tsched import __version__, serving
from tsched.model.errors import ConfigurationError
from tsched.observe.metrics import exposition
from tsched.observe.objects import run_object
from tsched.observe.web import page
from tsched.observe.web.access import Access
from tsched.observe.web.api import LOOKS, PREFIX, REVISION, RUN, Alive, Asked, Look, Ready, Taken, Wished, read
from tsched.observe.web.guard import Endpoint, guarded
from tsched.observe.web.hooks import KINDS, MOST, Hook, passed_over, trial
from tsched.observe.web.nodes import Nodes, routes
from tsched.observe.web.openapi import openapi
from tsched.observe.web.questions import Answering, Questions, Wishes
from tsched.serving import RefusedError, as_json, finished, read_body, refusal

T = TypeVar("T")
FILES = {"page.css": "text/css", "page.js": "text/javascript", "page.svg": "image/svg+xml"}
_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class WebApp:
    """What the routes share. Questions and wishes are put in the one thread of `line`, one after the other.

    `others`: routes that need nothing of this.
    """

    questions: Questions
    wishes: Wishes
    access: Access
    line: ThreadPoolExecutor
    others: Sequence[Route] = ()

    def app(self) -> Starlette:
        """The application."""
        reading, writing = self.access.reading, self.access.writing
        routes = [
            Route("/", guarded(self._front, reading)),
            Route("/runs/{run_id}", guarded(self._of_run, reading)),
            *(Route(f"/{name}", guarded(_file(name, kind), reading)) for name, kind in FILES.items()),
            *(Route(PREFIX + one.path, guarded(self._look(one), reading)) for one in LOOKS),
            Route(f"{PREFIX}/sync", guarded(self._sync, writing), methods=["POST"]),
            Route(f"{PREFIX}/accept/{{revision}}", guarded(self._accept, writing), methods=["POST"]),
            *(Route(f"/hooks/{kind}", guarded(self._hook(hook)), methods=["POST"]) for kind, hook in KINDS.items()),
            *self.others,
            Route("/health", guarded(self._alive)),
            Route("/healthz", guarded(self._alive)),
            Route("/readyz", guarded(self._ready)),
            Route("/metrics", guarded(self._metrics, reading)),
            Route("/openapi.json", guarded(self._openapi, reading)),
        ]
        return Starlette(routes=routes, exception_handlers={404: _no_such, 405: _no_such})

    async def _ask(self, question: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.line, question)

    async def _front(self, request: Request) -> Response:
        asked = request.query_params.get("window", "")
        window = asked if asked in page.WINDOWS else page.WINDOWS[0]
        return _html(await self._ask(lambda: page.front(page.look(self.questions, window))))

    async def _of_run(self, request: Request) -> Response:
        run_id, ask = str(request.path_params["run_id"]), self.questions

        def draw() -> str | None:
            seen = ask.run(run_id) if RUN.fits(run_id) else None
            run = None if seen is None else run_object(seen)
            return None if run is None else page.of_run(run, ask.log(run_id, lines=page.LINES), ask.now())

        drawn = await self._ask(draw)
        return _html(page.no_run(ask.now()), 404) if drawn is None else _html(drawn)

    def _look(self, look: Look) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            asked = Asked(read(look.parameters, request), self.questions.now())
            found = await self._ask(lambda: look.answer(self.questions, asked))
            return PlainTextResponse(found) if isinstance(found, str) else as_json(found)

        return endpoint

    async def _sync(self, request: Request) -> Response:
        await self._ask(self.wishes.sync)
        return as_json(Wished(accepted=True, revision=None), 202)

    async def _accept(self, request: Request) -> Response:
        revision = str(read((REVISION,), request)["revision"])
        try:
            whole = await self._ask(lambda: self.wishes.accept(revision))
        except ConfigurationError as error:
            raise RefusedError(str(error), 409) from None
        await self._ask(self.wishes.sync)
        return as_json(Wished(accepted=True, revision=whole), 202)

    def _hook(self, hook: Hook) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            secret = self.access.secret
            if not secret:
                raise RefusedError("no hook is genuine: set TSCHED_WEBHOOK_SECRET here and at the forge", 401)
            if not hook.signed(request.headers, secret):
                raise RefusedError("the hook is not signed", 401)
            body = await read_body(request, MOST)
            delivery = hook.genuine(request.headers, body, secret, self.questions.now())
            if delivery is None:
                raise RefusedError("the hook's signature is wrong", 401)
            if trial(hook, request.headers):
                return as_json(Taken(result="pong", reason=None))
            why = passed_over(hook, request.headers, body, self.access.branch)
            if why is not None:
                return as_json(Taken(result="ignored", reason=why), 202)
            return as_json(await self._ask(lambda: self._take(delivery)), 202)

        return endpoint

    def _take(self, delivery: str) -> Taken:
        """It is known only once it has started something: one that failed may come again."""
        if self.wishes.known(delivery):
            return Taken(result="known", reason="this delivery has been here before: nothing is started for it")
        self.wishes.sync()
        self.wishes.remember(delivery)
        return Taken(result="started", reason=None)

    async def _alive(self, request: Request) -> Response:
        return as_json(Alive(status="healthy", version=__version__))

    async def _ready(self, request: Request) -> Response:
        reason = await self._ask(self.questions.late)
        return as_json(Ready(ready=reason is None, reason=reason), 200 if reason is None else 503)

    async def _metrics(self, request: Request) -> Response:
        seen = await self._ask(self.questions.vitals)
        text, kind = exposition(seen, request.headers.get("accept", ""))
        return Response(text, headers={"content-type": kind})

    async def _openapi(self, request: Request) -> Response:
        return as_json(openapi())


def _html(text: str, status: int = 200) -> Response:
    return HTMLResponse(text, status, headers={"content-security-policy": _PAGE})


def _file(name: str, kind: str) -> Endpoint:
    content = (page.FILES / name).read_bytes()

    async def endpoint(request: Request) -> Response:
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    return endpoint


async def _no_such(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    response = finished(refusal("there is no such page here" if status == 404 else "not by this method", status))
    response.headers.update(getattr(error, "headers", None) or {})
    return response


def serve(
    answering: Callable[[], AbstractContextManager[Answering]],
    access: Access,
    nodes: Nodes,
    *,
    port: int,
    say: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT; `answering` opens what answers. As serving.serve, `say` is told the address.

    Raises ConfigurationError where the address can't be had, or is open to others and no token is set.
    """
    serving.require_token(access.host, access.token, "TSCHED_SERVE_TOKEN")

    @contextmanager
    def opened() -> Iterator[Starlette]:
        with (
            answering() as one,
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="questions") as line,
            ThreadPoolExecutor(max_workers=4, thread_name_prefix="nodes") as lines,
        ):
            yield WebApp(one, one, access, line, routes(nodes, lines)).app()

    serving.serve(opened, host=access.host, port=port, say=say)
