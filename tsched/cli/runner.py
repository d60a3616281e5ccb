"""`tsched runner`: the runners that share a task server, and which of them this host is."""

from typing import Annotated

import typer

from tsched.cli.call import settings_of, wake_daemon, who
from tsched.cli.output import JSON, print_json

app = typer.Typer(no_args_is_help=True, help="The runners that share a task server.")
SHOWN = 10  # tasks in a line


@app.command("list")
def list_(ctx: typer.Context, as_json: Annotated[bool, JSON] = False) -> None:
    """List this host's runner, and each other one that has claimed an open task of the task server."""
    from tsched.observe.tables import Table, show
    from tsched.runner import runners

    found = runners.known(settings_of(ctx))
    if as_json:
        print_json([{"id": one.id, "here": one.here, "tasks": [task.id for task in one.tasks]} for one in found])
        return
    rows = []
    for one in found:
        tasks = ", ".join(f"{task.id} ({task.assigned_to or '-'})" for task in one.tasks[:SHOWN])
        more = f", and {len(one.tasks) - SHOWN} more" if len(one.tasks) > SHOWN else ""
        rows.append((one.id, "this host" if one.here else "elsewhere", str(len(one.tasks)), f"{tasks}{more}" or "-"))
    show(
        [Table(columns=("RUNNER", "WHERE", "CLAIMS", "TASKS (AGENTS)"), rows=rows)],
        nothing="No runner is known: none has claimed an open task",
    )


@app.command("forget")
def forget(
    ctx: typer.Context, runner: Annotated[str, typer.Argument(metavar="ID", help="As `tsched runner list` has it.")]
) -> None:
    """Free the claims of another runner that is gone for good.

    Its tasks go back to their queues, no attempt charged. Be sure that it is dead: a live one goes on with its runs,
    and its tasks are then run twice.
    """
    from tsched.runner import runners

    settings = settings_of(ctx)
    done = runners.forget(settings, runner, by=who())
    print(f"runner {done.id} is forgotten; back in their queues: {', '.join(task.id for task in done.tasks)}")
    wake_daemon(settings)


@app.command("adopt")
def adopt(ctx: typer.Context) -> None:
    """Keep the runner id of a state folder that was moved here or restored: the other one is gone for good."""
    from tsched.runner import runners

    print(f"this is runner {runners.adopt(settings_of(ctx), by=who())} from now on")


@app.command("renew")
def renew(ctx: typer.Context) -> None:
    """Make a copied state folder a runner of its own, beside the one that it was copied from.

    Runs, leases and work folders that came with the copy are put aside: they are the other runner's.
    """
    from tsched.runner import runners

    settings = settings_of(ctx)
    done = runners.renew(settings, by=who())
    print(f"this is runner {done.id} from now on")
    if done.aside is not None:
        print(f"what came with the copy is in {done.aside}")
    if settings.tasks is None and done.before is not None:
        print(f"if its queue was copied too: `tsched runner forget {done.before}` frees what it shows as claimed")
