"""`tsched why`: the chain of reasons from the applied revision to the slot."""

from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import settings_of
from tsched.cli.output import JSON, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tsched.model.reason import Reason

app = typer.Typer(no_args_is_help=True, help="Say why a task does not start, or a queue's tasks do not.")


@app.command("task")
def task(
    ctx: typer.Context,
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task's id.")],
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Say what holds a task back, link by link. The exit code is 1 where something does."""
    from tsched.runner.why import of_task

    found, reasons = of_task(settings_of(ctx), task_id)
    _show(f"Task {found.id}: {found.title}", reasons, as_json=as_json)


@app.command("queue")
def queue(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The queue.")],
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Say what holds a queue's tasks back, link by link. The exit code is 1 where something does."""
    from tsched.runner.why import of_queue

    _show(f"Queue {name}", of_queue(settings_of(ctx), name), as_json=as_json)


def _show(title: str, reasons: "Sequence[Reason]", *, as_json: bool) -> None:
    from tsched.observe.tables import Table
    from tsched.observe.tables import show as show_tables

    holds = any(one.holds for one in reasons)
    if as_json:
        print_json(
            {
                "holds": holds,
                "reasons": [
                    {"kind": str(one.kind), "holds": one.holds, "words": one.words, "mend": one.mend or None}
                    for one in reasons
                ],
            }
        )
    else:
        rows = [("✗" if one.holds else "✓", str(one.kind), one.words, one.mend) for one in reasons]
        show_tables([Table(title=title, columns=("", "LINK", "WHAT IS", "WHAT HELPS"), rows=rows)])
    if holds:
        raise typer.Exit(1)
