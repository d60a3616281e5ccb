"""Tables for people: rich on a terminal, plain aligned text elsewhere (nothing wrapped, cut or coloured)."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from tsched.model.records import dataclass
from tsched.model.units import count, iso
from tsched.observe.conditions import notable
from tsched.observe.text import one_line, slots

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from tsched.model.event import Event
    from tsched.model.run import RunResult
    from tsched.model.task import Task
    from tsched.observe.status import AgentStatus, Status
    from tsched.schedule.plan import Plan
    from tsched.schedule.review import Review


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a table says. `styles`: a rich style for words that stand as a whole cell, on a terminal only."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    title: str = ""


_STYLES = {
    "active": "green", "complete": "green", "True": "bold", "working": "cyan", "running": "cyan",
    "cordoned": "yellow", "draining": "yellow", "stopping": "red", "drained": "yellow", "suspended": "magenta",
    "parked": "red", "failed": "red", "unproven": "red", "interrupted": "yellow", "cancelled": "dim",
    "ok": "green", "warn": "yellow", "fail": "bold red",
}  # fmt: skip


def show(tables: Iterable[Table], out: TextIO | None = None, *, nothing: str = "") -> None:
    """Print tables to a stream (standard output), as fits it. An empty table is left out.

    `nothing`: what is said where all are empty, so that a person knows that this is the answer.
    """
    out = sys.stdout if out is None else out
    filled = [table for table in tables if table.rows]
    if not filled and nothing:
        out.write(nothing + "\n")
    elif out.isatty():
        _rich(filled, out)
    else:
        out.write("\n".join(plain(table) for table in filled))


def plain(table: Table) -> str:
    """The table as aligned text: a title line where there is one, a head line, a line a row, two spaces between."""
    lines = [table.columns, *(tuple(one_line(cell) for cell in row) for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )
    return f"{table.title}\n{body}" if table.title else body


def console(*, json: bool = False, out: TextIO | None = None) -> "Console":
    """A rich console for a stream: as it is on a terminal; without colour or wrapping elsewhere or for JSON."""
    from rich.console import Console

    out = sys.stdout if out is None else out
    if out.isatty() and not json:
        return Console(file=out, highlight=False)
    return Console(file=out, highlight=False, no_color=True, force_terminal=False, width=100_000, soft_wrap=True)


def watch(look: Callable[[], Sequence[Table]], *, every: float) -> None:
    """Show what `look` gives, again and again, `every` so many seconds, until interrupted.

    A terminal's picture is drawn anew in its place; elsewhere the tables are repeated, a blank line between.
    """
    if not sys.stdout.isatty():
        while True:
            show(look())
            print(flush=True)
            time.sleep(every)
    from rich.console import Group
    from rich.live import Live

    with Live(console=console(), auto_refresh=False) as live:
        while True:
            live.update(Group(*map(_drawn, look())), refresh=True)
            time.sleep(every)


def _rich(tables: Sequence[Table], out: TextIO) -> None:
    screen = console(out=out)
    for table in tables:
        screen.print(_drawn(table))


def _drawn(table: Table) -> "RichTable":
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(title=table.title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for name in table.columns:
        drawn.add_column(name, overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(one_line(cell), style=_STYLES.get(cell, "")) for cell in row))
    return drawn


def status_tables(status: "Status") -> Iterator[Table]:
    """Revision, what is overridden here, conditions that ask for a look, agents, runs and queues."""
    yield _revision(status)
    yield Table(
        title="Overridden on this host",
        columns=("WHAT", "SUBJECT", "SINCE", "BY", "REASON", "TAKEN BACK BY"),
        rows=[
            (f"{one['kind']}, runs too" if one["now"] and one["undo"] else one["kind"], one["subject"], one["since"],
             one["by"], one["reason"] or "-", one["undo"] or "-")
            for one in status["overrides"]
        ],
    )  # fmt: skip
    yield Table(
        title="Conditions",
        columns=("TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"),
        rows=[
            (item["type"], item["status"], item["reason"], item["since"], item["message"])
            for item in status["conditions"]
            if item["type"] == "Ready" or notable(item)
        ],
    )
    yield Table(
        title="Agents",
        columns=("POOL", "QUEUE", "AGENT", "STATE", "RUNNING", "DRAIN"),
        rows=[
            (pool["name"], pool["queue"], agent["name"], agent["state"], f"{agent['running']}/{agent['limit']}",
             _drain_words(agent))
            for pool in status["pools"]
            for agent in pool["agents"]
        ],
    )  # fmt: skip
    yield Table(
        title="Runs",
        columns=("TASK", "AGENT", "STATE", "ATTEMPT", "REVISION", "STARTED", "RUN"),
        rows=[
            (run["task_id"], run["agent"], run["state"], str(run["attempt"]), run["revision"][:12], run["started_at"],
             run["run_id"])
            for run in status["runs"]
        ],
    )  # fmt: skip
    if status["usage"]:
        yield Table(
            title="Spent in the last 24 hours",
            columns=("AGENT", "QUEUE", "RUNS", "TOKENS", "COST"),
            rows=[
                (one["agent"], one["queue"], str(one["runs"]), str(one["total_tokens"]),
                 "-" if one["cost_usd"] is None else f"${one['cost_usd']:.2f}")
                for one in status["usage"]
            ],
        )  # fmt: skip
    yield Table(
        title="Queues",
        columns=("QUEUE", "IDLE", "BLOCKED", "WORKING"),
        rows=[
            (queue["name"], str(queue["idle"]), str(queue["blocked"]), str(queue["working"]))
            for queue in status["queues"]
        ],
    )


def _revision(status: "Status") -> Table:
    revision, runner = status["revision"], status["runner"]
    rows = [
        ("applied", _short(revision["applied"]), f"generation {status['generation']}"),
        ("fetched", _short(revision["fetched"]), ""),
    ]
    if (rejected := revision["rejected"]) is not None:
        for found in rejected["diagnostics"]:
            place = f"{found['path']}:{found['line']}:{found['column']}"
            rows.append(("rejected", _short(rejected["revision"]), f"{place}: {found['code']} {found['message']}"))
    if (held := revision["held"]) is not None:
        rows.append(("held", _short(held["revision"]), held["reason"]))
    if runner["last_cycle"] is not None:
        rows.append(("last cycle", runner["last_cycle"], f"pid {runner['pid'] or '-'} on {runner['host']}"))
    if runner["selector"] is not None:
        left = ", ".join(status["not_served"]) or "none"
        rows.append(("serves", runner["selector"], f"TSCHED_POOLS; pools left to other runners: {left}"))
    if status["elsewhere"]:
        others = len({one["runner"] for one in status["elsewhere"]})
        there = count(len(status["elsewhere"]), "task")
        rows.append(("elsewhere", there, f"claimed by {count(others, 'other runner')}: `tsched runner list`"))
    return Table(title="Revision", columns=("WHAT", "REVISION", "NOTE"), rows=rows)


def _short(revision: str | None) -> str:
    return "-" if revision is None else revision[:12]


def _drain_words(agent: "AgentStatus") -> str:
    drain = agent["drain"]
    return "" if drain is None else f"since {drain['since']}, until {drain['deadline']}, then {drain['on_deadline']}"


def plan_table(rows: Iterable[Sequence[str]], *, title: str = "") -> Table:
    """A plan's rows: kind, subject, what changes, consequence for live runs."""
    return Table(
        title=title,
        columns=("CHANGE", "SUBJECT", "WHAT", "CONSEQUENCE"),
        rows=[tuple(cell or "-" for cell in row) for row in rows],
    )


def plan_tables(plan: "Plan", review: "Review", *, title: str = "") -> list[Table]:
    """A plan and what a reviewer must see of it; only what there is."""
    rows = [(row.kind, row.subject, row.what, row.consequence) for row in plan.rows]
    drained = [(one.agent, one.queue, ", ".join(one.tasks) or "-") for one in review.drained]
    capacity = [(one.queue, slots(one.before), slots(one.after)) for one in review.capacity]
    gained = [(one.power.kind, one.power.what, one.source, ", ".join(one.agents)) for one in review.widened]
    tables = [
        plan_table(rows, title=title),
        Table(title="To drain", columns=("AGENT", "LEAVES QUEUE", "WORKS ON"), rows=drained),
        Table(title="Capacity", columns=("QUEUE", "SLOTS BEFORE", "AFTER"), rows=capacity),
        Table(title="Agents gain", columns=("POWER", "WHAT", "BY", "AGENTS"), rows=gained),
    ]
    return [table for table in tables if table.rows]


def rules_table(rows: Iterable[Sequence[str]]) -> Table:
    """Rules: code, severity, title."""
    return Table(columns=("CODE", "SEVERITY", "WHAT"), rows=[tuple(row) for row in rows])


def task_table(tasks: "Iterable[Task]") -> Table:
    return Table(
        columns=("ID", "STATUS", "QUEUE", "PRIORITY", "AGENT", "BLOCKED BY", "TITLE"),
        rows=[
            (task.id, task.status, task.queue, str(task.priority), task.assigned_to or "-",
             (task.blocked_by or "-") if task.blocked else "-", task.title)
            for task in tasks
        ],
    )  # fmt: skip


def run_table(results: "Iterable[RunResult]", *, title: str = "") -> Table:
    return Table(
        title=title,
        columns=("RUN", "AGENT", "ATTEMPT", "REVISION", "OUTCOME", "EXIT", "SPENT", "ENDED", "REASON"),
        rows=[
            (result.run.run_id, result.run.agent, str(result.run.attempt), result.run.revision[:12], result.outcome,
             "-" if result.exit.exit_code is None else str(result.exit.exit_code), str(result.usage or "-"),
             iso(result.exit.ended_at) if result.exit.ended_at else "-", result.reason)
            for result in results
        ],
    )  # fmt: skip


def event_line(event: "Event") -> str:
    """One event on one line: time, revision, kind, subject, message."""
    return (
        f"{iso(event.time)}  {_short(event.revision):12}  {event.kind:18}  {one_line(event.subject)}  "
        f"{one_line(event.message)}"
    )
