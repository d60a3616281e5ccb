"""`tsched unlock`: who holds the state folder, and the end of a runner that hangs."""

from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import read_state, settings_of, state_folder
from tsched.cli.output import complain

if TYPE_CHECKING:
    from tsched.settings import Settings
    from tsched.state.holder import Holder

PATIENCE = 10.0  # seconds that a runner has to end by itself


def unlock(
    ctx: typer.Context,
    force: Annotated[
        bool, typer.Option("--force", help="End the runner that holds it: TERM, 10 s, KILL. Its runs go on.")
    ] = False,
) -> None:
    """Say who holds the state folder, and remove what a dead runner left.

    A live runner is named, with what it does, and left alone but for --force. Exit code 0: the folder is free, 1: it
    is held.
    """
    from tsched.state import holder

    settings = settings_of(ctx)
    folder = state_folder(settings)
    if not holder.held(folder):
        left = holder.clear(folder)
        print(f"nobody holds {folder.root}" + (": removed the file that a dead runner left" if left else ""))
        return
    found = holder.find(folder)
    if found is None:
        complain(f"{folder.root} is held by a process that can't be seen from here: another user's or container's")
        raise typer.Exit(1)
    _show(settings, found)
    if not force:
        print("it lives: `tsched unlock --force` ends it, its runs go on")
        raise typer.Exit(1)
    if not holder.end(folder, found, patience=PATIENCE):
        complain(f"the process with pid {found.pid} could not be ended: {folder.root} is still held")
        raise typer.Exit(1)
    holder.clear(folder)
    print(f"ended: {folder.root} is free")


def _show(settings: "Settings", found: "Holder") -> None:
    """What is known of it: from the kernel, from its last pass, from its log."""
    from tsched.observe.daily import last_line
    from tsched.observe.status import NOTHING_SEEN, Report
    from tsched.observe.text import one_line
    from tsched.state import verdicts

    with read_state(settings) as database:
        seen = verdicts.get_report(database, Report, NOTHING_SEEN)["runner"]["last_cycle"]
    facts = [
        ("held by", f"pid {found.pid}: {found.what}"),
        ("just now", found.doing or "-"),
        ("last pass ended", seen or "never"),
        ("last line", last_line(state_folder(settings).logs) or "-"),
    ]
    for name, value in facts:
        print(f"{name + ':':17}{one_line(value)}")
