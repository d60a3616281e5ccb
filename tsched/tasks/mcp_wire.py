"""TinyTask's operations as MCP tools, by streamable HTTP (2.0.0) or by server-sent events (1.0.0)."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import TypeVar

import httpx
import msgspec

from tsched.failpoint import failpoint
from tsched.model.errors import TransientError
from tsched.tasks.wire import (
    LARGEST,
    TIMEOUT,
    Listing,
    Lost,
    TaskRow,
    all_pages,
    decoded,
    echoed,
    reason_of,
    repeated,
    shown,
)

TOO_LARGE = "the answer is too large"
T = TypeVar("T")
Arguments = Mapping[str, str | int]
logging.getLogger("mcp").addHandler(logging.NullHandler())  # else its tracebacks go to standard error


class Listed(msgspec.Struct):
    """What list_tasks answers."""

    tasks: list[msgspec.Raw]


class McpWire:
    """One MCP session, opened at the first call and again after a failure. `address` is the MCP address.

    `events`: the old transport, by server-sent events. Safe calls are repeated, each in a new session.
    """

    def __init__(
        self, address: str, *, events: bool, token: str | None = None, timeout: float = TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._address = address
        self._events = events
        self._shown = shown(address)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout = timeout
        self._sleep = sleep
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: _Session | None = None
        self._lock = threading.Lock()
        self.requests = 0

    def tasks(self, *, status: str, assigned_to: str | None = None) -> Listing:
        wanted = {"status": status, **({"assigned_to": assigned_to} if assigned_to is not None else {})}

        def page(limit: int, offset: int) -> list[msgspec.Raw]:
            place = {"limit": limit} | ({"offset": offset} if offset else {})
            text = self._tool("list_tasks", {**wanted, **place}, safe=True)
            return decoded(text, Listed, self._shown).tasks

        return all_pages(page, self._shown)

    def task(self, number: int) -> TaskRow | None:
        try:
            text = self._tool("get_task", {"id": number}, safe=True)
        except _ToolError as error:
            if "not found" in str(error):
                return None
            raise
        return echoed(decoded(text, TaskRow, self._shown), number, self._shown)

    def update(self, number: int, *, status: str | None = None, assigned_to: str | None = None) -> TaskRow:
        changes: dict[str, str | int] = {"id": number}
        if status is not None:
            changes["status"] = status
        if assigned_to is not None:
            changes["assigned_to"] = assigned_to
        row = decoded(self._tool("update_task", changes, safe=True), TaskRow, self._shown)
        return echoed(row, number, self._shown)

    def comment(self, number: int, *, author: str, text: str) -> None:
        self._tool("add_comment", {"task_id": number, "content": text, "created_by": author}, safe=False)

    def close(self) -> None:
        with self._lock:
            self._drop()
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._loop = None

    # How it is done: the session lives in a thread of its own, since the library is asynchronous

    def _tool(self, name: str, arguments: Arguments, *, safe: bool) -> str:
        with self._lock:
            return repeated(self._sleep)(self._once, name, arguments) if safe else self._once(name, arguments)

    def _once(self, name: str, arguments: Arguments) -> str:
        try:
            return self._ask(name, arguments)
        except _ToolError:
            raise
        except Exception as error:  # the library lets any error of its transports out
            self._drop()
            raise Lost(f"{self._shown} does not answer ({reason_of(_first(error))})") from error

    def _ask(self, name: str, arguments: Arguments) -> str:
        self.requests += 1
        if self._session is None:
            self._session = self._await(_Session.open(self._address, self._events, self._headers, self._timeout))
        failpoint(f"{name} to be called")
        text, failed = self._await(self._session.call(name, arguments))
        failpoint(f"{name} answered")
        if failed:
            said = text[:300].replace("\n", " ")
            raise _ToolError(f"{self._shown} refuses {name}: {said}")
        return text

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with suppress(Exception):  # it is broken: nothing of it matters
                self._await(session.close())

    def _await(self, work: Coroutine[object, object, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_serve, args=(self._loop,), name="mcp", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(self._timeout * 2)


class _ToolError(TransientError):
    """The server's own word that it can't do that."""


class _Session:
    """A session and the task that keeps its transport open: both must be entered and left in one task."""

    def __init__(self, address: str, events: bool, headers: Mapping[str, str], timeout: float) -> None:
        self._how = (address, events, headers, timeout)
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._ended = "the connection ended"
        self._keeper = asyncio.create_task(self._keep())

    @classmethod
    async def open(cls, address: str, events: bool, headers: Mapping[str, str], timeout: float) -> "_Session":
        one = cls(address, events, headers, timeout)
        try:
            await asyncio.wait_for(one._ready, timeout)
        except BaseException:
            one._keeper.cancel()
            raise
        return one

    async def call(self, name: str, arguments: Arguments) -> tuple[str, bool]:
        """The answer's text, and whether it is an error."""
        work = asyncio.ensure_future(self._session.call_tool(name, dict(arguments)))
        await asyncio.wait({work, self._keeper}, timeout=self._how[3], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            raise Lost(self._ended if self._keeper.done() else f"no answer within {self._how[3]:g} s")
        result = work.result()
        text = "".join(part.text for part in result.content if part.type == "text")
        return text, bool(result.isError)

    def _client(
        self, headers: dict[str, str] | None = None, timeout: httpx.Timeout | None = None,
        auth: httpx.Auth | None = None,
    ) -> httpx.AsyncClient:  # fmt: skip
        """A client whose answers are bounded: too large a one ends the session, for the library would wait on."""

        def full() -> None:
            self._ended = TOO_LARGE
            self._over.set()

        async def bound(response: httpx.Response) -> None:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            response.stream = _Bounded(response.stream, LARGEST, full)

        plain = {**(headers or {}), "Accept-Encoding": "identity"}  # a packed answer's size says nothing
        return httpx.AsyncClient(headers=plain, timeout=timeout, auth=auth, event_hooks={"response": [bound]})

    async def close(self) -> None:
        self._over.set()
        with suppress(Exception, asyncio.CancelledError):
            await asyncio.wait_for(self._keeper, 5)

    async def _keep(self) -> None:
        from mcp import ClientSession
        from mcp.client.sse import sse_client
        from mcp.client.streamable_http import streamable_http_client

        address, events, headers, timeout = self._how
        try:
            async with AsyncExitStack() as stack:
                if events:
                    reader, writer = await stack.enter_async_context(
                        sse_client(address, headers=dict(headers), timeout=timeout, httpx_client_factory=self._client)
                    )
                else:
                    client = await stack.enter_async_context(self._client(dict(headers), httpx.Timeout(timeout)))
                    reader, writer, _ = await stack.enter_async_context(
                        streamable_http_client(address, http_client=client)
                    )
                self._session = await stack.enter_async_context(
                    ClientSession(reader, writer, read_timeout_seconds=timedelta(seconds=timeout))
                )
                await self._session.initialize()
                self._ready.set_result(None)
                await self._over.wait()
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(Lost(reason_of(_first(error))))
            elif isinstance(error, asyncio.CancelledError):
                raise


class _Bounded(httpx.AsyncByteStream):
    """An answer that ends where it grows too large: the library reads each as a whole. `full` is called then."""

    def __init__(self, inner: httpx.AsyncByteStream, most: int, full: Callable[[], None]) -> None:
        self._inner = inner
        self._left = most
        self._full = full

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            self._left -= len(chunk)
            if self._left < 0:
                self._full()
                raise httpx.ReadError(TOO_LARGE)
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def streams(address: str, *, token: str | None, timeout: float = TIMEOUT) -> bool:
    """Whether the address speaks streamable HTTP; else it is taken for server-sent events. Raises Lost."""
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "tsched", "version": "1"},
    }
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello})
    try:
        # Its status alone is waited for: an answer by server-sent events need not end.
        with httpx.stream("POST", address, content=body, headers=headers, timeout=timeout) as answer:
            pass
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise TransientError(
                f"{shown(address)} refuses us ({answer.status_code}): set TSCHED_TASKS_TOKEN to a token it takes"
            )
        return answer.is_success
    except httpx.HTTPError as error:
        raise Lost(f"{shown(address)} does not answer ({reason_of(error)})") from error


def _first(error: BaseException) -> Exception:
    """The cause within what task groups wrap around it."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error if isinstance(error, Exception) else Lost(reason_of(Exception(type(error).__name__)))


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.close()
