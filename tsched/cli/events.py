"""`tsched events`: the history, one line or one JSON object an event."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import read_state, settings_of, state_folder
from tsched.cli.output import JSON, print_json

if TYPE_CHECKING:
    from tsched.model.event import Event

LOOK_AGAIN = 0.5  # seconds between two looks at the history while following


def events(
    ctx: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with each new event until interrupted.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="How many of the newest to begin with.")] = 50,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show what happened.

    Oldest first: when, at which revision, what, to what, why. JSON is one object a line.
    """
    from tsched.state import events as history

    settings = settings_of(ctx)
    path = state_folder(settings).db
    seen = _stamp(path)
    with read_state(settings) as database:
        last = _print_all(history.newest(database, limit), as_json=as_json)
        if limit == 0:
            last = max((number for number, _ in history.newest(database, 1)), default=0)
    while follow:
        time.sleep(LOOK_AGAIN)
        stamp = _stamp(path)
        if stamp != seen:  # reading a live database copies it, so only where something was written
            seen = stamp
            with read_state(settings) as database:
                while batch := history.read(database, after=last):
                    last = _print_all(batch, as_json=as_json)


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


def _print_all(found: Iterable[tuple[int, "Event"]], *, as_json: bool) -> int:
    """Print events; the number of the last one, 0 where there was none."""
    last = 0
    for number, event in found:
        last = number
        _print(event, as_json=as_json)
    return last


def _print(event: "Event", *, as_json: bool) -> None:
    from tsched.model.units import iso
    from tsched.observe.tables import event_line

    if not as_json:
        print(event_line(event), flush=True)
        return
    fixed = {
        "time": iso(event.time),
        "kind": event.kind,
        "subject": event.subject,
        "revision": event.revision,
        "message": event.message,
    }
    print_json({**fixed, **{name: value for name, value in event.fields.items() if name not in fixed}}, line=True)
