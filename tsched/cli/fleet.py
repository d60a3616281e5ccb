"""`tsched status`, `plan` and `diff`: what is, and what a revision would change."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import borrowed_mirror, settings_of
from tsched.cli.output import JSON, print_json
from tsched.model.errors import ConfigurationError

if TYPE_CHECKING:
    from tsched.schedule.plan import Plan

FORMAT = typer.Option("--format", help="table, json or markdown.")
HEAD = ("change", "subject", "what", "consequence")


def status(ctx: typer.Context, as_json: Annotated[bool, JSON] = False) -> None:
    """Show the revision, pools and agents, runs, queues and conditions."""
    from tsched.observe.tables import show, status_tables
    from tsched.runner.look import look

    seen = look(settings_of(ctx), now=time.time())
    if as_json:
        print_json(seen)
    else:
        show(status_tables(seen))


def plan(
    ctx: typer.Context,
    revision: Annotated[str | None, typer.Argument(metavar="[REV]", help="Default: the remote's newest.")] = None,
    form: Annotated[str, FORMAT] = "table",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show what applying a revision would change now, and what that means for live runs."""
    from tsched.runner.look import plan_against_applied
    from tsched.runner.rehearse import borrowed_host

    with borrowed_host(settings_of(ctx), echo=None) as host:
        wanted, found = plan_against_applied(host, revision)
    _print(found, "json" if as_json else form, title=f"applied → {wanted[:12]}")


def diff(
    ctx: typer.Context,
    old: Annotated[str, typer.Argument(metavar="A", help="A revision: an id, a branch, HEAD~1.")],
    new: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    form: Annotated[str, FORMAT] = "table",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show what changes from revision A to revision B."""
    from tsched.runner.look import plan_between

    with borrowed_mirror(settings_of(ctx)) as mirror:
        found = plan_between(mirror, old, new)
    _print(found, "json" if as_json else form, title=f"{old} → {new}")


def _print(found: "Plan", form: str, *, title: str) -> None:
    from tsched.observe.tables import plan_table, show

    rows = [(row.kind, row.subject, row.what, row.consequence) for row in found.rows]
    match form:
        case "json":
            changes = [dict(zip(("kind", "subject", "what", "consequence"), row, strict=True)) for row in rows]
            print_json({"changes": changes, "removed_agents": list(found.removed), "held": found.held})
        case "markdown":
            print(_markdown(rows, found.held))
        case "table":
            if rows:
                show([plan_table(rows, title=title)])
            else:
                print("no change")
            if found.held is not None:
                print(f"the guard will hold this: {found.held}")
        case _:
            raise ConfigurationError(f"--format is {form!r}: write table, json or markdown")


def _markdown(rows: list[tuple[str, str, str, str]], held: str | None) -> str:
    lines = ["No change."]
    if rows:
        lines = ["| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
        lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    if held is not None:
        lines += ["", f"**The guard will hold this:** {held}"]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text that can't break out of a table's cell."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
