"""`tsched task …`: the operator's side of the embedded queue."""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import (
    open_tasks,
    read_state,
    read_tasks,
    settings_of,
    state_folder,
    task_source,
    wake_daemon,
    who,
)
from tsched.cli.output import JSON, print_json, warn

if TYPE_CHECKING:
    from tsched.model.run import Lease, RunResult
    from tsched.model.task import Comment, Task, TaskStatus

app = typer.Typer(
    no_args_is_help=True, help="Add, look at and steer tasks of the embedded queue; `show` knows every task server."
)

LOG_LINES = 20  # of a run's log, at the end of `task show`

Id = Annotated[str, typer.Argument(metavar="ID", help="The task's id, as `tsched task list` shows it.")]


@app.command("add")
def add(
    ctx: typer.Context,
    *,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What is to be done, in a line.")],
    queue: Annotated[str, typer.Option(help="The queue it waits in.")],
    description: Annotated[str, typer.Option(help="The whole of it; - reads standard input.")] = "",
    priority: Annotated[int, typer.Option(help="Higher goes first.")] = 0,
    blocked_by: Annotated[str | None, typer.Option(metavar="ID", help="Not before that task is complete.")] = None,
    assign: Annotated[str | None, typer.Option(metavar="AGENT", help="For that agent alone.")] = None,
) -> None:
    """Add a task and print its id."""
    from tsched.state.served import agents_by_queue

    settings = settings_of(ctx)
    if description == "-":
        description = sys.stdin.read()
    with open_tasks(settings) as tasks:
        task = tasks.add(
            title,
            queue=queue,
            description=description,
            priority=priority,
            blocked_by=blocked_by,
            assign=assign,
            created_by=who(),
        )
    with read_state(settings) as database:
        agents = agents_by_queue(database)
    if agents is not None:
        _warn_of_slips(agents, queue, assign)
    print(task.id)


def _warn_of_slips(agents: Mapping[str, Sequence[str]], queue: str, assign: str | None) -> None:
    """Say what nobody will take, and what may have been meant. `agents`: the applied fleet's, by queue."""
    if queue not in agents:
        served = _meant(queue, sorted(agents)) or f"; served: {', '.join(sorted(agents)) or 'none'}"
        warn(f"no agent of the applied fleet serves the queue {queue}{served}")
    names = [name for several in agents.values() for name in several]
    if assign is not None and assign not in names:
        warn(f"the applied fleet has no agent {assign}: the task waits until it has{_meant(assign, names)}")


@app.command("list")
def list_(
    ctx: typer.Context,
    *,
    queue: Annotated[str | None, typer.Option(help="Only this queue.")] = None,
    status: Annotated[str | None, typer.Option(help="idle, working, complete, parked or cancelled.")] = None,
    assigned_to: Annotated[str | None, typer.Option(metavar="AGENT", help="Only this agent's.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """List tasks."""
    from tsched.observe.tables import show as show_tables
    from tsched.observe.tables import task_table

    wanted = _status(status)
    with read_tasks(settings_of(ctx)) as tasks:
        found = tasks.list(queue=queue, status=wanted, assigned_to=assigned_to, limit=limit)
    if as_json:
        print_json([_fields(task) for task in found])
    else:
        show_tables([task_table(found)])


@app.command("show")
def show(ctx: typer.Context, task_id: Id, as_json: Annotated[bool, JSON] = False) -> None:
    """Show a task, on whatever task server it is.

    With its runs, its comments and the end of its newest run's log.
    """
    from tsched.model.errors import ConfigurationError
    from tsched.state import history
    from tsched.state.leases import Leases

    settings = settings_of(ctx)
    with task_source(settings) as tasks:
        task = tasks.get([task_id]).get(task_id)
        if task is None:
            raise ConfigurationError(f"no task {task_id!r} is known to {tasks.name}: check its id")
        comments = tasks.comments(task_id)
    with read_state(settings) as database:
        results = history.of_task(database, task.id)
    lease = Leases(state_folder(settings).running).read(task.id)
    if lease is not None and lease.run_id in {result.run.run_id for result in results}:
        lease = None  # ended, and only not cleared away yet
    if as_json:
        print_json(_shown(task, comments, results, lease))
        return
    newest = lease.run_id if lease is not None else results[-1].run.run_id if results else None
    _show_words(task, comments, results, lease)
    if newest is not None:
        _show_log(state_folder(settings).run_logs / f"{newest}.log", settings.secrets)


@app.command("cancel")
def cancel(ctx: typer.Context, task_id: Id) -> None:
    """Cancel a task.

    A run that works on it is stopped: at once by a daemon, else by the runner's next pass.
    """
    settings = settings_of(ctx)
    with open_tasks(settings) as tasks:
        running = tasks.cancel(task_id).claim_run is not None
    if running:
        wake_daemon(settings)


@app.command("reopen")
def reopen(ctx: typer.Context, task_id: Id) -> None:
    """Put a task back.

    A complete, parked or cancelled task waits in its queue again, unassigned, with all its attempts.
    """
    with open_tasks(settings_of(ctx)) as tasks:
        tasks.reopen(task_id)


@app.command("comment")
def comment(
    ctx: typer.Context,
    task_id: Id,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="- reads standard input.")],
) -> None:
    """Add a comment to a task."""
    with open_tasks(settings_of(ctx)) as tasks:
        words = sys.stdin.read() if text == "-" else text
        tasks.remark(task_id, author=who(), text=words)


def _meant(name: str, known: Sequence[str]) -> str:
    from tsched.validate.near import Near

    near = Near()(name, known)
    return "" if near is None else f" (did you mean {near}?)"


def _status(text: str | None) -> "TaskStatus | None":
    from tsched.model.errors import ConfigurationError
    from tsched.model.task import TaskStatus

    if text is None:
        return None
    try:
        return TaskStatus(text)
    except ValueError:
        raise ConfigurationError(f"--status is {text!r}: write one of {', '.join(TaskStatus)}") from None


def _fields(task: "Task") -> dict[str, object]:
    return {
        "id": task.id,
        "title": task.title,
        "queue": task.queue,
        "status": task.status,
        "assigned_to": task.assigned_to,
        "priority": task.priority,
        "blocked_by_task_id": task.blocked_by,
        "is_currently_blocked": task.blocked,
    }


def _shown(
    task: "Task", comments: Sequence["Comment"], results: Sequence["RunResult"], lease: "Lease | None"
) -> dict[str, object]:
    from tsched.model.units import iso

    runs: list[dict[str, object]] = [
        {
            "run_id": result.run.run_id,
            "agent": result.run.agent,
            "attempt": result.run.attempt,
            "revision": result.run.revision,
            "outcome": result.outcome,
            "exit_code": result.exit.exit_code,
            "reason": result.reason,
            "usage": None if result.usage is None else asdict(result.usage),
        }
        for result in results
    ]
    if lease is not None:
        runs.append(
            {
                "run_id": lease.run_id,
                "agent": lease.agent,
                "attempt": lease.attempt,
                "revision": lease.revision,
                "outcome": None,
                "exit_code": None,
                "reason": lease.state,
                "usage": None,
            }
        )
    said = [{"author": c.author, "text": c.text, "created_at": iso(c.created_at)} for c in comments]
    return _fields(task) | {"runs": runs, "description": task.description, "comments": said}


def _show_words(
    task: "Task", comments: Sequence["Comment"], results: Sequence["RunResult"], lease: "Lease | None"
) -> None:
    from tsched.model.units import iso
    from tsched.observe.tables import Table, run_table
    from tsched.observe.tables import show as show_tables
    from tsched.observe.text import block, one_line

    blocked = f"{task.blocked_by}{'' if task.blocked else ' (no longer)'}" if task.blocked_by is not None else "-"
    facts = [
        ("status", task.status), ("queue", task.queue), ("assigned to", task.assigned_to or "-"),
        ("priority", str(task.priority)), ("blocked by", blocked), ("attempts", str(task.attempts)),
        ("created", f"{iso(task.created_at)} by {task.created_by or '-'}"),
    ]  # fmt: skip
    print(f"Task {task.id}: {one_line(task.title)}\n")
    for name, value in facts:
        print(f"{name + ':':13} {one_line(value)}")
    if task.description:
        print(f"\n{block(task.description).rstrip()}")
    if lease is not None:
        row = (lease.run_id, lease.agent, str(lease.attempt), lease.revision[:12], lease.state, lease.started_at)
        print()
        show_tables(
            [
                Table(
                    title="Under way", columns=("RUN", "AGENT", "ATTEMPT", "REVISION", "STATE", "STARTED"), rows=[row]
                )
            ]
        )
    if results:
        print()
        show_tables([run_table(results, title="Runs")])
    for remark in comments:
        print(f"\n{iso(remark.created_at)} {one_line(remark.author)}:")
        print("\n".join(f"  {line}" for line in block(remark.text).splitlines()))


def _show_log(path: Path, secrets: Collection[str]) -> None:
    from tsched.model.secrets import without
    from tsched.observe.text import block
    from tsched.state.rotation import read_end

    try:
        lines = read_end(path, 64 * 1024).decode("utf-8", "replace").splitlines()[-LOG_LINES:]
    except FileNotFoundError:
        return
    if lines:
        print(f"\nThe end of {path}:")
        print("\n".join(f"  {block(without(line, secrets))}" for line in lines))
