"""`tsched stop`, `resume`, `kill`, `agent drain`: decisions of this host, beside git, until they are taken back."""

from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import settings_of, wake_daemon, who
from tsched.cli.delivery import How
from tsched.cli.edits import Name, agent, remove
from tsched.model.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tsched.model.run import Run
    from tsched.runner.orders import Ordered
    from tsched.settings import Settings

Pool = Annotated[
    str | None, typer.Option("--pool", metavar="POOL", help="Only this pool (default: the whole fleet).")
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for people.")]
SHOWN = 10  # runs in a line


def stop(
    ctx: typer.Context,
    *,
    pool: Pool = None,
    drain: Annotated[bool, typer.Option("--drain", help="Wait until no run is left.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Stop the runs too; their tasks go back, uncharged.")] = False,
    reason: Reason = "",
) -> None:
    """Start nothing new on this host, until `tsched resume`.

    Runs go on. It holds over restarts, needs no commit, and is shown in `tsched status` while it is in force.
    """
    from tsched.runner import orders

    if drain and now:
        raise ConfigurationError("--drain and --now exclude each other: wait for the runs, or stop them")
    settings = settings_of(ctx)
    done = orders.stop(settings, pool=pool, now=now, by=who(), reason=reason)
    print(f"{'the whole fleet' if pool is None else f'pool {pool}'} starts nothing new, until `{done.override.undo}`")
    _told(settings)
    if drain:
        _wait(settings, done)
    elif done.runs:
        print(f"{'being stopped' if done.override.now else 'going on'}: {_names(done.runs)}")


def resume(ctx: typer.Context, *, pool: Pool = None) -> None:
    """Take `tsched stop` back."""
    from tsched.runner import orders

    settings = settings_of(ctx)
    done = orders.resume(settings, pool=pool, by=who())
    if done.override is None:
        print("nothing is stopped")
        return
    print(f"{'the whole fleet' if pool is None else f'pool {pool}'} may start runs again")
    for one in done.standing:
        print(f"still in force: {one}")
    _told(settings)


def kill(
    ctx: typer.Context,
    *,
    task_id: Annotated[str, typer.Argument(metavar="TASK", help="The task's id.")],
    requeue: Annotated[bool, typer.Option("--requeue", help="Back to the queue, uncharged, instead.")] = False,
    reason: Reason = "",
) -> None:
    """Stop the run of a task, and park the task for a person."""
    from tsched.runner import orders

    settings = settings_of(ctx)
    done = orders.kill(settings, task_id=task_id, requeue=requeue, by=who(), reason=reason)
    then = "goes back to its queue, uncharged" if requeue else "is parked for a person"
    print(f"being stopped: {_names(done.runs)}; then the task {then}")
    _told(settings)


@agent.command("drain")
def drain(
    ctx: typer.Context,
    *,
    name: Name,
    now: Annotated[bool, typer.Option("--now", help="Stop its runs; their tasks go back, uncharged.")] = False,
    pr: Annotated[bool, typer.Option("--pr", help="Also open the pull request that removes it from git.")] = False,
    reason: Reason = "",
) -> None:
    """Give an agent no new task on this host, at once, whatever git says.

    Its runs end by themselves, or at its pool's drain deadline. It holds over restarts, until `tsched agent undrain`
    or until git removes the agent.
    """
    from tsched.runner import orders

    settings = settings_of(ctx)
    done = orders.drain(settings, agent=name, now=now, by=who(), reason=reason)
    print(f"agent {name} takes no new task here, until `{done.override.undo}`")
    if done.runs:
        print(
            f"{'being stopped' if done.override.now else 'going on, at most until its deadline'}: {_names(done.runs)}"
        )
    _told(settings)
    if pr:
        remove(ctx, How(pr=True), name)
    else:
        print(f"git still has the agent: `tsched agent remove {name} --pr` makes git agree")


@agent.command("undrain")
def undrain(ctx: typer.Context, *, name: Name) -> None:
    """Take `tsched agent drain` back."""
    from tsched.runner import orders

    settings = settings_of(ctx)
    done = orders.undrain(settings, agent=name, by=who())
    if done.override is None:
        print(f"agent {name} is not drained here")
        return
    print(f"agent {name} may take tasks again")
    if done.late:
        print(f"too late for {', '.join(done.late)}: being stopped already")
    _told(settings)


def _told(settings: "Settings") -> None:
    """Have it acted on, and say when that will be."""
    pid = wake_daemon(settings)
    print(
        "no runner lives here: the next pass heeds it" if pid is None else f"the runner with pid {pid} heeds it now"
    )


def _wait(settings: "Settings", done: "Ordered") -> None:
    from tsched.runner import orders

    try:
        for runs in orders.left(settings, done.override):
            print(f"waiting for {_names(runs)}" if runs else "no run is left", flush=True)
    except KeyboardInterrupt:
        print(f"no longer waiting; nothing new starts until `{done.override.undo}`")
        raise


def _names(runs: "Sequence[Run]") -> str:
    from tsched.model.units import count

    shown = ", ".join(f"task {run.task_id} ({run.agent})" for run in runs[:SHOWN])
    return f"{count(len(runs), 'run')}: {shown}{', …' if len(runs) > SHOWN else ''}"
