"""`tsched workspace`: the work folders whose run is over and that are still there."""

from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import settings_of, state_folder
from tsched.cli.output import JSON, complain, print_json

if TYPE_CHECKING:
    from tsched.executors.local import LocalExecutor

app = typer.Typer(no_args_is_help=True, help="The work folders that runs have left.")


@app.command("list")
def list_(ctx: typer.Context, as_json: Annotated[bool, JSON] = False) -> None:
    """List the work folders of runs that are over, and why each is still there."""
    from tsched.observe.tables import Table, show

    kept = _executor(ctx).kept()
    if as_json:
        print_json(
            [
                {
                    "run_id": one.folder.name,
                    "folder": str(one.folder),
                    "reason": one.reason,
                    "task_id": one.run.task_id if one.run is not None else None,
                    "agent": one.run.agent if one.run is not None else None,
                    "repo": one.run.workspace_repo if one.run is not None else None,
                }
                for one in kept
            ]
        )
        return
    rows = [
        (one.folder.name, one.run.task_id if one.run else "-", one.run.agent if one.run else "-", one.reason)
        for one in kept
    ]
    show([Table(columns=("RUN", "TASK", "AGENT", "WHY IT IS STILL THERE"), rows=rows)])
    print(f"They are in {state_folder(settings_of(ctx)).workspaces}" if kept else "No work folder is left over")


@app.command("remove")
def remove(
    ctx: typer.Context, run_ids: Annotated[list[str], typer.Argument(metavar="RUN...", help="As `list` names them.")]
) -> None:
    """Remove work folders that were kept.

    What is not committed or pushed is saved first, under refs/tsched/salvage/TASK/ATTEMPT of the shared repository.
    """
    executor = _executor(ctx)
    failed = False
    for run_id in run_ids:
        problem = executor.release(run_id)
        if problem is None:
            print(f"Removed the work folder of {run_id}")
        else:
            complain(f"{run_id}: {problem}")
            failed = True
    if failed:
        raise typer.Exit(1)


def _executor(ctx: typer.Context) -> "LocalExecutor":
    from tsched.runner.execution import executor_of

    settings = settings_of(ctx)
    return executor_of(settings, state_folder(settings))
