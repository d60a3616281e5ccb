"""`tsched events`: the history, one line or one JSON object an event."""

import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import read_state, settings_of, since_of, state_folder
from tsched.cli.output import JSON, SINCE, print_json
from tsched.model.errors import ConfigurationError

if TYPE_CHECKING:
    from tsched.model.event import Event

LOOK_AGAIN = 0.5  # seconds between two looks at the history while following


def events(
    ctx: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with each new event until interrupted.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, max=1_000_000, help="How many of the newest to begin with.")
    ] = 50,
    grep: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Only those whose line matches, wherever in history they are.")
    ] = None,
    since: Annotated[str | None, SINCE] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show what happened.

    Oldest first: when, at which revision, what, to what, why. JSON is one object a line.
    """
    from tsched.state import events as history

    settings = settings_of(ctx)
    path = state_folder(settings).db
    wanted = _matching(grep)
    start = 0.0 if since is None else since_of(since, time.time())
    seen = _stamp(path)
    with read_state(settings) as database:
        _print_all(history.newest(database, limit, since=start, wanted=wanted), as_json=as_json)
        last = max((number for number, _ in history.newest(database, 1)), default=0)
    while follow:
        time.sleep(LOOK_AGAIN)
        stamp = _stamp(path)
        if stamp != seen:  # reading a live database copies it, so only where something was written
            seen = stamp
            with read_state(settings) as database:
                while batch := history.read(database, after=last):
                    last = batch[-1][0]
                    _print_all([one for one in batch if wanted(one[1])], as_json=as_json)


def _stamp(path: Path) -> tuple[tuple[int, int], ...]:
    """What changes whenever the database or its write-ahead log does."""
    found = []
    for file in (path, path.with_name(path.name + "-wal")):
        try:
            stat = file.stat()
        except FileNotFoundError:
            continue
        found.append((stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def _matching(grep: str | None) -> "Callable[[Event], bool]":
    """Whether an event's line, as it is printed, matches. Raises ConfigurationError for what is no pattern."""
    if grep is None:
        return lambda event: True
    from tsched.observe.tables import event_line

    try:
        pattern = re.compile(grep)
    except re.error as error:
        raise ConfigurationError(f"--grep: {grep!r} is no regular expression: {error}") from None
    return lambda event: pattern.search(event_line(event)) is not None


def _print_all(found: Iterable[tuple[int, "Event"]], *, as_json: bool) -> None:
    for _, event in found:
        _print(event, as_json=as_json)


def _print(event: "Event", *, as_json: bool) -> None:
    from tsched.observe.objects import event_object
    from tsched.observe.tables import event_line

    if as_json:
        print_json(event_object(event), line=True)
    else:
        print(event_line(event), flush=True)
