"""`tsched gc`: old logs, history and left-overs go at once, instead of within the hour."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import settings_of
from tsched.cli.output import JSON, complain, print_json
from tsched.model.units import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tsched.runner.care import Kept


def gc(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and touch nothing.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Compress and remove old logs, drop old history, tidy the mirror.

    What is older than TSCHED_KEEP_DAYS goes. The runner does the same once an hour, all but the mirror. Safe beside
    it. Work folders that are kept are only named.
    """
    from tsched.runner.care import gc as keep_house

    done = keep_house(settings_of(ctx), now=time.time(), dry_run=dry_run)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "compressed": done.compressed,
                "removed": done.removed,
                "leftovers": done.leftovers,
                "rows": {"runs": done.runs, "events": done.events, "history": done.passes},
                "mirror": done.mirror,
                "kept_workspaces": done.workspaces,
                "problems": done.problems,
            }
        )
    else:
        print("\n".join(_words(done, "would be " if dry_run else "")) or "Nothing was due")
    if done.problems:
        if not as_json:
            for problem in done.problems:
                complain(problem)
        raise typer.Exit(1)


def _words(done: "Kept", would: str) -> "Iterator[str]":
    yield from (f"{would}compressed  {name}" for name in done.compressed)
    yield from (f"{would}removed  {name}" for name in (*done.removed, *done.leftovers))
    rows = (
        (done.runs, "finished run"),
        (done.events, "event"),
        (done.passes, "row of history.db", "rows of history.db"),
    )
    for number, *noun in rows:
        if number:
            yield f"{would}dropped  {count(number, *noun)}"
    if done.mirror is not None:
        loose, packs = count(done.mirror["loose_objects"], "loose object"), count(done.mirror["packs"], "pack")
        yield f"{would}packed  the mirror: {loose}, {packs}"
    if done.workspaces:
        yield f"kept  {count(len(done.workspaces), 'work folder')}: `tsched workspace list` says why"
