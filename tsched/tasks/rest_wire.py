"""TinyTask's operations by its REST API, `/api/v1`."""

import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx
import msgspec

from tsched.model.errors import TransientError
from tsched.rest.call import Answer, fetched, wait_asked
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

CONNECTIONS = 8
LONGEST_WAIT = 3600.0  # seconds that a server may make us wait
_NO_TASK = re.compile(r'"error"\s*:\s*"Task (\d+ )?not found', re.IGNORECASE)
T = TypeVar("T")


class RestWire:
    """TinyTask 2.0's `/api/v1` over one pool of connections. `base` is the server's address without a path."""

    def __init__(
        self,
        base: str,
        *,
        token: str | None = None,
        timeout: float = TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._base = base
        self._shown = shown(base)
        self._sleep = sleep
        self._timeout = timeout
        self.requests = 0
        self._client = httpx.Client(
            base_url=f"{base}/api/v1/",
            headers={"User-Agent": "tsched", **({"Authorization": f"Bearer {token}"} if token else {})},
            timeout=timeout,
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        )

    def close(self) -> None:
        self._client.close()

    def offered(self) -> bool:
        """Whether the server speaks this REST API at all."""
        answer = self._repeated("GET", "queues")
        if answer.status in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED):
            return False
        self._judge(answer, "queues")
        return str(answer.headers.get("content-type", "")).startswith("application/json")

    def tasks(self, *, status: str, assigned_to: str | None = None) -> Listing:
        wanted = {"status": status, **({"assigned_to": assigned_to} if assigned_to is not None else {})}

        def page(limit: int, offset: int) -> list[msgspec.Raw]:
            place = {"limit": str(limit)} | ({"offset": str(offset)} if offset else {})
            return self._read(list[msgspec.Raw], self._repeated("GET", "tasks", params=wanted | place), "tasks")

        return all_pages(page, self._shown)

    def task(self, number: int) -> TaskRow | None:
        path = f"tasks/{number}"
        answer = self._repeated("GET", path)
        if answer.status == httpx.codes.NOT_FOUND:
            if _NO_TASK.search(_text(answer)):
                return None
            raise Lost(f"{self._shown} answers 404 to {path}, and not as TinyTask does: is a proxy in between?")
        return echoed(self._read(TaskRow, answer, path), number, self._shown)

    def update(self, number: int, *, status: str | None = None, assigned_to: str | None = None) -> TaskRow:
        body: dict[str, str | None] = {}
        if status is not None:
            body["status"] = status
        if assigned_to is not None:
            body["assigned_to"] = assigned_to or None
        path = f"tasks/{number}"
        answer = self._repeated("PATCH", path, json=body)
        return echoed(self._read(TaskRow, answer, path), number, self._shown)

    def comment(self, number: int, *, author: str, text: str) -> None:
        path = f"tasks/{number}/comments"
        self._judge(self._once("POST", path, json={"content": text, "created_by": author}), path)

    def _repeated(self, method: str, path: str, **parts: Any) -> Answer:
        """A call that may be made twice without harm."""
        return repeated(self._sleep)(self._once, method, path, **parts)

    def _once(self, method: str, path: str, **parts: Any) -> Answer:
        self.requests += 1
        try:
            answer = fetched(self._client, method, path, timeout=self._timeout, most=LARGEST, **parts)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Lost(f"{self._shown} does not answer ({reason_of(error)})") from error
        if answer.status >= 500 or answer.status == httpx.codes.TOO_MANY_REQUESTS:
            wait, _ = wait_asked(answer.headers)
            after = min(wait or 0.0, LONGEST_WAIT)
            words = f" and asks us to wait {after:.0f} s" if after else ""
            raise Lost(f"{self._shown} answers {answer.status} to {method} {path}{words}", after=after)
        return answer

    def _judge(self, answer: Answer, path: str) -> None:
        if answer.status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise TransientError(
                f"{self._shown} refuses us ({answer.status}): set TSCHED_TASKS_TOKEN to a token it takes"
            )
        if httpx.codes.is_redirect(answer.status):
            target = shown(str(answer.headers.get("location", "")))[:200] or "nowhere"
            raise TransientError(
                f"{self._shown} sends on to {target} ({answer.status}): set TSCHED_TASKS to the server's own address"
            )
        if not httpx.codes.is_success(answer.status):
            said = _text(answer)[:200].replace("\n", " ")
            raise TransientError(f"{self._shown} answers {answer.status} to /api/v1/{path}: {said}")

    def _read(self, shape: type[T], answer: Answer, path: str) -> T:
        self._judge(answer, path)
        return decoded(answer.content, shape, self._shown)


def _text(answer: Answer) -> str:
    return answer.content.decode(errors="replace")
