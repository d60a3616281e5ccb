"""`tsched plan` and `diff`: what a revision would change, does to live work, and what a reviewer must see of it."""

from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import commits_of, settings_of
from tsched.cli.output import JSON, complain, print_json
from tsched.model.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tsched.schedule.plan import Plan
    from tsched.schedule.review import Review

FORMAT = typer.Option("--format", help="table, json or markdown.")
FORMS = ("table", "json", "markdown")
WIDENING = "widening"


def plan(
    ctx: typer.Context,
    revision: Annotated[str | None, typer.Argument(metavar="[REV]", help="Default: the remote's newest.")] = None,
    form: Annotated[str, FORMAT] = "table",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show what applying a revision would change now, and what that means for live runs."""
    from tsched.runner.look import plan_against_applied
    from tsched.runner.rehearse import borrowed_host

    form = _form(form, as_json=as_json)
    with borrowed_host(settings_of(ctx), echo=None) as host:
        wanted, found, seen = plan_against_applied(host, revision)
    _print(found, seen, form, title=f"applied → {wanted[:12]}")


def diff(
    ctx: typer.Context,
    *,
    old: Annotated[str, typer.Argument(metavar="A", help="A revision: an id, a branch, HEAD~1.")],
    new: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    status: Annotated[
        str | None, typer.Option(metavar="URL|FILE", help="A runner's status, for what its agents hold now.")
    ] = None,
    require_review: Annotated[
        list[str] | None,
        typer.Option(
            "--require-review", metavar=WIDENING, help="Fail where agents gain powers that no trailer owns up to."
        ),
    ] = None,
    form: Annotated[str, FORMAT] = "table",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show what changes from revision A to revision B.

    And what a reviewer must see: agents to drain, capacity, queues that starve, powers that agents gain.
    """
    from tsched.runner.look import live_at, plan_between, unowned

    form = _form(form, as_json=as_json)
    check_required(require_review or ())
    live = live_at(status)
    with commits_of(settings_of(ctx)) as commits:
        found, seen = plan_between(commits, old, new, live)
        missing = unowned(commits, old, new, seen, require_review or ())
    _print(found, seen, form, title=f"{old} → {new}")
    if missing is not None:
        complain(missing)
        raise typer.Exit(1)


def check_required(given: "Sequence[str]") -> None:
    """Raise ConfigurationError for a --require-review that names no review."""
    for what in given:
        if what != WIDENING:
            raise ConfigurationError(f"--require-review is {what!r}: only {WIDENING} can be required")


def _form(form: str, *, as_json: bool) -> str:
    if form not in FORMS:
        raise ConfigurationError(f"--format is {form!r}: write table, json or markdown")
    return "json" if as_json else form


def _print(found: "Plan", seen: "Review", form: str, *, title: str) -> None:
    from tsched.observe.markdown import plan_comment
    from tsched.observe.tables import plan_tables, show

    match form:
        case "json":
            print_json(_fields(found, seen))
        case "markdown":
            print(plan_comment(found, seen))
        case _:
            if found.rows:
                show(plan_tables(found, seen, title=title))
            else:
                print("no change")
            if found.held is not None:
                print(f"the guard will hold this: {found.held}")
            for one in seen.starved:
                print(f"nobody will serve the queue {one.queue}: {one.witness}")


def _fields(found: "Plan", seen: "Review") -> dict[str, object]:
    return {
        "changes": [
            {"kind": row.kind, "subject": row.subject, "what": row.what, "consequence": row.consequence}
            for row in found.rows
        ],
        "removed_agents": list(found.removed),
        "held": found.held,
        "drained": [{"agent": one.agent, "queue": one.queue, "tasks": list(one.tasks)} for one in seen.drained],
        "capacity": [{"queue": one.queue, "before": one.before, "after": one.after} for one in seen.capacity],
        "starved": [{"queue": one.queue, "why": one.witness} for one in seen.starved],
        "widened": [
            {"kind": one.power.kind, "what": one.power.what, "by": one.source, "agents": list(one.agents)}
            for one in seen.widened
        ],
        "digest": seen.digest,
    }
