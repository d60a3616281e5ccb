"""A TinyTask server by its address alone: which transport it speaks is found out at the first call."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tsched.model.errors import TransientError
from tsched.tasks.commented import CommentedTasks
from tsched.tasks.ledger import Ledger
from tsched.tasks.mcp_wire import McpWire, streams
from tsched.tasks.rest_wire import RestWire
from tsched.tasks.tinytask import TinyTask
from tsched.tasks.wire import Listing, TaskRow, Wire, base_of, shown

T = TypeVar("T")


def tinytask_at(address: str, *, ledger: Path, token: str | None = None, read_only: bool = False) -> CommentedTasks:
    """A client of the server at `tinytask+http://host:3000`, or at its MCP address. Nothing is asked of it yet.

    `read_only`: the ledger is left alone. Raises ConfigurationError for what is no address.
    """
    base, _ = base_of(address)
    return CommentedTasks(TinyTask(Detected(address, token=token)), Ledger(ledger, shown(base), read_only=read_only))


class Detected:
    """REST where it is offered, else MCP by streamable HTTP, else by server-sent events. See Wire."""

    def __init__(self, address: str, *, token: str | None = None) -> None:
        self._base, self._mcp = base_of(address)
        self._token = token
        self._found: Wire | None = None
        self._sure = False  # a call of it was answered: one odd answer while a server starts decides nothing

    def tasks(self, *, status: str, assigned_to: str | None = None) -> Listing:
        return self._ask(lambda wire: wire.tasks(status=status, assigned_to=assigned_to))

    def task(self, number: int) -> TaskRow | None:
        return self._ask(lambda wire: wire.task(number))

    def update(self, number: int, *, status: str | None = None, assigned_to: str | None = None) -> TaskRow:
        return self._ask(lambda wire: wire.update(number, status=status, assigned_to=assigned_to))

    def comment(self, number: int, *, author: str, text: str) -> None:
        self._ask(lambda wire: wire.comment(number, author=author, text=text))

    def close(self) -> None:
        if self._found is not None:
            self._found.close()

    def _ask(self, call: Callable[[Wire], T]) -> T:
        if self._found is None:
            self._found = self._detect()
        found = self._found
        try:
            answer = call(found)
        except TransientError:
            if not self._sure:
                found.close()
                self._found = None
            raise
        self._sure = True
        return answer

    def _detect(self) -> Wire:
        rest = RestWire(self._base, token=self._token)
        try:
            offered = rest.offered()
        except BaseException:
            rest.close()
            raise
        if offered:
            return rest
        rest.close()
        events = not streams(self._mcp, token=self._token)
        return McpWire(self._mcp, events=events, token=self._token)
