"""`tsched blame`: who made what ran, and whether it runs better than what ran before."""

from typing import Annotated

import typer

from tsched.cli.call import settings_of
from tsched.cli.output import JSON, print_json
from tsched.model.errors import ConfigurationError


def blame(
    ctx: typer.Context,
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Whose runs to trace.")] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="REV", help="Instead: all that a revision ran.")
    ] = None,
    recipe: Annotated[bool, typer.Option("--recipe", help="With the recipe's text as it was.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Trace a task's runs to commit, author, pull request and recipe; or compare a revision with the one before.

    From this runner's history and what it has fetched: the network is not asked.
    """
    if (task is None) is (revision is None):
        raise ConfigurationError("say which task, such as `tsched blame 7`, or give --revision REV")
    if task is not None:
        _task(ctx, task, recipe=recipe, as_json=as_json)
    elif revision is not None:
        if recipe:
            raise ConfigurationError("--recipe shows what a task's runs ran: give a task")
        _revision(ctx, revision, as_json=as_json)


def _task(ctx: typer.Context, task: str, *, recipe: bool, as_json: bool) -> None:
    from tsched.observe.blame import task_lines, task_object
    from tsched.runner.blame import blame_task

    attempts = blame_task(settings_of(ctx), task)
    if as_json:
        print_json(task_object(task, attempts, recipe=recipe))
    else:
        print("\n".join(task_lines(task, attempts, recipe=recipe)))


def _revision(ctx: typer.Context, revision: str, *, as_json: bool) -> None:
    from tsched.observe.blame import revision_lines, revision_object, revision_tables
    from tsched.observe.tables import show
    from tsched.runner.blame import blame_revision

    found = blame_revision(settings_of(ctx), revision)
    if as_json:
        print_json(revision_object(found))
        return
    print("\n".join(revision_lines(found)))
    print()
    show(revision_tables(found))
    if found.unknown:
        print(f"\nWhat changed is not known: {found.unknown}.")
