"""TinyTask's own operations, as the few that a runner needs, whatever the transport."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from typing import Annotated, Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

import msgspec
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.records import dataclass

PAGE = 500  # tasks asked for at once
ATTEMPTS = 3  # of what is safe to repeat
TIMEOUT = 20.0  # seconds for one call, answer included
LISTING = 10 * TIMEOUT  # seconds for all pages of a listing
LARGEST = 256 * 1024 * 1024  # bytes of one answer, a page of long descriptions, and of all pages of a listing
Number = Annotated[int, msgspec.Meta(ge=1, lt=2**62)]
T = TypeVar("T")


class NoteRow(msgspec.Struct, kw_only=True):
    """A comment as TinyTask gives it."""

    id: int
    content: str
    created_by: str | None = None
    created_at: str = ""


class TaskRow(msgspec.Struct, kw_only=True):
    """A task as TinyTask 1.0.0 and 2.0.0 give it; times as RFC 3339 or `YYYY-MM-DD HH:MM:SS`, UTC."""

    id: Number
    title: str
    status: str
    created_at: str
    updated_at: str
    description: str | None = None
    assigned_to: str | None = None
    created_by: str | None = None
    priority: int = 0
    queue_name: str | None = None
    blocked_by_task_id: int | None = None
    parent_task_id: int | None = None
    is_currently_blocked: bool = False
    archived_at: str | None = None
    comments: list[NoteRow] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Tasks of a listing, and what else was in it: why each can't be used, by what it calls itself."""

    rows: Sequence[TaskRow]
    odd: Mapping[str, str] = field(default_factory=dict)


class Wire(Protocol):
    """One transport. Every call raises TransientError where the server can't be reached or answers nonsense."""

    def tasks(self, *, status: str, assigned_to: str | None = None) -> Listing:
        """Every task of that status that is not archived, page by page, without comments."""
        ...

    def task(self, number: int) -> TaskRow | None:
        """One task with its comments, archived or not."""
        ...

    def update(self, number: int, *, status: str | None = None, assigned_to: str | None = None) -> TaskRow:
        """Change a task. None leaves a field alone; an empty `assigned_to` takes the assignee off.

        Gives the task as it is then, without comments.
        """
        ...

    def comment(self, number: int, *, author: str, text: str) -> None:
        """Add a comment. Never repeated by itself: an unanswered one may be there."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


class Lost(TransientError):  # noqa: N818  # named for what happened
    """No usable answer came: what is safe to repeat may be repeated."""


def repeated(sleep: Callable[[float], None]) -> Retrying:
    """Makes a call that is safe to repeat, again where it was Lost, with a random pause between.

    Not where the server names a time: a later pass asks then.
    """
    return Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=2),
        retry=retry_if_exception(lambda error: isinstance(error, Lost) and not error.after),
        sleep=sleep,
        reraise=True,
    )


def all_pages(page: Callable[[int, int], list[msgspec.Raw]], server: str) -> Listing:
    """Every task of a listing, asked for by (limit, offset). A server without offsets gives all by limit 0.

    A task that is none is left out of it, so that it holds up no other. Raises Lost where all are none, and where it
    has no end.
    """
    found: dict[int, TaskRow] = {}
    odd: dict[str, str] = {}
    offset = size = 0
    until = time.monotonic() + LISTING
    while True:
        raws = page(PAGE, offset)
        size += sum(memoryview(raw).nbytes for raw in raws)
        if size > LARGEST or time.monotonic() > until:
            raise Lost(f"{server} lists tasks without an end ({len(found)} up to now): archive what is done there")
        new = {row.id: row for row in _rows(raws, odd) if row.id not in found}
        found |= new
        offset += len(raws)
        if len(raws) >= PAGE and not new:
            raws, found = page(0, 0), {}
            found = {row.id: row for row in _rows(raws, odd)}
        elif len(raws) >= PAGE:
            continue
        if odd and not found:
            raise Lost(
                f"{server} answers what is no TinyTask answer ({next(iter(odd.values()))}): is the address right?"
            )
        return Listing(rows=list(found.values()), odd=odd)


def _rows(raws: Sequence[msgspec.Raw], odd: dict[str, str]) -> Iterator[TaskRow]:
    """The tasks among them; `odd` is told of the others."""
    for raw in raws:
        try:
            yield msgspec.json.decode(raw, type=TaskRow)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            odd[_name_of(raw)] = str(error)


def _name_of(raw: msgspec.Raw) -> str:
    """What such a thing calls itself, for a person."""
    try:
        fields = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "without an id"
    return repr(fields.get("id"))[:40] if isinstance(fields, dict) else "without an id"


def echoed(row: TaskRow, number: int, server: str) -> TaskRow:
    """The task that was asked for. Raises Lost where it is another."""
    if row.id != number:
        raise Lost(f"{server} answers with task {row.id} where task {number} was asked for: is a cache in between?")
    return row


def decoded(data: bytes | str, shape: type[T], server: str) -> T:
    """An answer in its shape. Raises Lost where it is something else."""
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Lost(f"{server} answers what is no TinyTask answer ({error}): is the address right?") from error


def epoch(text: str) -> float:
    """Seconds since the epoch of a TinyTask time; 0 where it is none."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def shown(address: str) -> str:
    """An address without user and password."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def reason_of(error: Exception) -> str:
    """What went wrong, in words, also where the library gives none."""
    return str(error) or type(error).__name__


def base_of(address: str) -> tuple[str, str]:
    """`tinytask+http://host:3000[/mcp]` as the server's base and its MCP address.

    Raises ConfigurationError where it is no such address.
    """
    plain = address.removeprefix("tinytask+")
    try:
        parts = urlsplit(plain)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise ConfigurationError(
            f"{re.sub('//.*@', '//', plain)!r} is no task server's address: write tinytask+http://host:3000, "
            "or its MCP address"
        )
    path = parts.path.rstrip("/")
    for tail in ("/mcp", "/sse"):
        if path.endswith(tail):
            base = urlunsplit((parts.scheme, parts.netloc, path.removesuffix(tail), "", ""))
            return base, base + tail
    base = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
    return base, f"{base}/mcp"
