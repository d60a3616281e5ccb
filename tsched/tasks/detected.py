"""A TinyTask server by its address alone: which transport it speaks is found out at the first call."""

from collections.abc import Sequence
from pathlib import Path

from tsched.tasks.commented import CommentedTasks
from tsched.tasks.ledger import Ledger
from tsched.tasks.mcp_wire import McpWire, streams
from tsched.tasks.tinytask import TinyTask
from tsched.tasks.wire import RestWire, TaskRow, Wire, base_of, shown


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

    def tasks(self, *, status: str, assigned_to: str | None = None) -> Sequence[TaskRow]:
        return self._wire().tasks(status=status, assigned_to=assigned_to)

    def task(self, number: int) -> TaskRow | None:
        return self._wire().task(number)

    def update(self, number: int, *, status: str | None = None, assigned_to: str | None = None) -> TaskRow:
        return self._wire().update(number, status=status, assigned_to=assigned_to)

    def comment(self, number: int, *, author: str, text: str) -> None:
        self._wire().comment(number, author=author, text=text)

    def close(self) -> None:
        if self._found is not None:
            self._found.close()

    def _wire(self) -> Wire:
        if self._found is None:
            rest = RestWire(self._base, token=self._token)
            try:
                offered = rest.offered()
            except BaseException:
                rest.close()
                raise
            if offered:
                self._found = rest
            else:
                rest.close()
                events = not streams(self._mcp, token=self._token)
                self._found = McpWire(self._mcp, events=events, token=self._token)
        return self._found
