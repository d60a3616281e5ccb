"""`tsched agent`, `pool` and `rollback`: changes of the fleet repo without opening an editor."""

from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.delivery import How, delivering, edit, roll_back

if TYPE_CHECKING:
    from collections.abc import Mapping

agent = typer.Typer(no_args_is_help=True, help="Change agents in the fleet repo.")
pool = typer.Typer(no_args_is_help=True, help="Change pools in the fleet repo.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The agent's name.")]
PoolName = Annotated[str, typer.Argument(metavar="NAME", help="The pool's name.")]


@agent.command("add")
@delivering
def agent_add(
    ctx: typer.Context, *, name: Name,
    to: Annotated[str, typer.Option("--pool", metavar="POOL", help="The pool it joins.")],
    limit: Annotated[int | None, typer.Option(help="Its slots.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A path under recipes/ (default: NAME.yaml).")] = None,
    runtime: Annotated[str | None, typer.Option(help="How its recipe is run.")] = None,
    max_runtime: Annotated[str | None, typer.Option(metavar="TIME", help="How long a run may take.")] = None,
    priority_floor: Annotated[int | None, typer.Option(help="The lowest task priority it takes.")] = None,
    how: How,
) -> None:  # fmt: skip
    """Add an agent to a pool."""
    given = {
        "limit": limit, "recipe": recipe, "runtime": runtime, "max_runtime": max_runtime,
        "priority_floor": priority_floor,
    }  # fmt: skip
    settings: Mapping[str, str | int] = {key: value for key, value in given.items() if value is not None}
    edit(ctx, how, f"Add agent {name} to pool {to}", lambda fleet: fleet.add_agent(name, to, settings))


@agent.command("remove")
@delivering
def agent_remove(
    ctx: typer.Context, *, name: Name,
    with_recipe: Annotated[
        bool, typer.Option("--with-recipe", help="Also its recipe, where no other uses it.")
    ] = False,
    how: How,
) -> None:  # fmt: skip
    """Remove an agent: it drains, then it is deleted."""
    remove(ctx, how, name, with_recipe=with_recipe)


@agent.command("move")
@delivering
def agent_move(
    ctx: typer.Context, *, name: Name,
    to: Annotated[str, typer.Argument(metavar="POOL", help="The pool it joins.")],
    how: How,
) -> None:  # fmt: skip
    """Move an agent into another pool, with its settings."""
    edit(ctx, how, f"Move agent {name} to pool {to}", lambda fleet: fleet.move_agent(name, to))


@agent.command("limit")
@delivering
def agent_limit(
    ctx: typer.Context, *, name: Name,
    slots: Annotated[int, typer.Argument(metavar="SLOTS", help="How many tasks at once.")],
    how: How,
) -> None:  # fmt: skip
    """Set an agent's limit."""
    edit(ctx, how, f"Limit agent {name} to {slots}", lambda fleet: fleet.set_agent(name, "limit", slots))


@pool.command("add")
@delivering
def pool_add(
    ctx: typer.Context, *, name: PoolName,
    queue: Annotated[str | None, typer.Option(help="The queue it serves (default: its name).")] = None,
    runtime: Annotated[str | None, typer.Option(help="For agents that name none.")] = None,
    how: How,
) -> None:  # fmt: skip
    """Add a pool, without agents yet."""
    edit(ctx, how, f"Add pool {name}", lambda fleet: fleet.add_pool(name, queue=queue, runtime=runtime))


@pool.command("remove")
@delivering
def pool_remove(
    ctx: typer.Context, *, name: PoolName,
    how: How,
) -> None:  # fmt: skip
    """Remove a pool: its agents drain."""
    edit(ctx, how, f"Remove pool {name}", lambda fleet: fleet.remove_pool(name))


@pool.command("suspend")
@delivering
def pool_suspend(
    ctx: typer.Context, *, name: PoolName,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="When it ends by itself, RFC 3339.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for people.")] = None,
    how: How,
) -> None:  # fmt: skip
    """Suspend a pool: it takes no new task, its runs go on."""
    edit(ctx, how, f"Suspend pool {name}", lambda fleet: fleet.suspend_pool(name, until=until, reason=reason))


@pool.command("resume")
@delivering
def pool_resume(
    ctx: typer.Context, *, name: PoolName,
    how: How,
) -> None:  # fmt: skip
    """Let a suspended pool take tasks again."""
    edit(ctx, how, f"Resume pool {name}", lambda fleet: fleet.resume_pool(name))


@delivering
def rollback(
    ctx: typer.Context, *,
    revision: Annotated[str, typer.Argument(metavar="[REV]", help="Whose content returns.")] = "HEAD~1",
    how: How,
) -> None:  # fmt: skip
    """Make the commit that returns the fleet to a revision's content.

    After showing its plan. Here, in the repository around; with --push or --pr on the fleet repo's newest revision.
    """
    roll_back(ctx, how, revision)


def remove(ctx: typer.Context, how: How, name: str, *, with_recipe: bool = False) -> None:
    """Remove an agent from the fleet repo."""
    edit(ctx, how, f"Remove agent {name}", lambda fleet: fleet.remove_agent(name, with_recipe=with_recipe))
