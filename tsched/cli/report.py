"""`tsched report` and `capacity`: what was worked, and how many slots that needs."""

import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import settings_of, since_of
from tsched.cli.output import JSON, SINCE, print_json
from tsched.model.errors import ConfigurationError

if TYPE_CHECKING:
    from tsched.settings import Settings


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"
    CSV = "csv"
    HTML = "html"


class Group(StrEnum):
    POOL = "pool"
    AGENT = "agent"
    RECIPE = "recipe"


def report(
    ctx: typer.Context,
    since: Annotated[str, SINCE] = "7d",
    by: Annotated[Group | None, typer.Option("--by", help="Only these groups (default: all three).")] = None,
    output: Annotated[Format, typer.Option("--format", help="How it is written.")] = Format.TEXT,
    balance: Annotated[
        bool, typer.Option("--balance", help="Instead: how evenly agents are used, and better limits as a patch.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Report tasks, outcomes, durations, waits, failures by kind, tokens, cost and queue depths.

    HTML is one self-contained page with plots; --balance prints what `git apply --allow-empty` takes there.
    """
    settings, now = settings_of(ctx), time.time()
    chosen = Format.JSON if as_json else output
    start = since_of(since, now)
    if balance:
        if by is not None or chosen in (Format.CSV, Format.HTML):
            raise ConfigurationError("--balance is by pool and agent, as text or JSON")
        _balance(settings, since=start, now=now, as_json=chosen is Format.JSON)
    else:
        _report(settings, since=start, now=now, by=by, output=chosen)


def _report(settings: "Settings", *, since: float, now: float, by: Group | None, output: Format) -> None:
    from tsched import __version__
    from tsched.observe.report import report_csv, report_object, report_tables
    from tsched.observe.report_html import report_html
    from tsched.observe.tables import show
    from tsched.runner.workload import workload
    from tsched.schedule.report import work_report
    from tsched.schedule.workload import By

    work = workload(settings, since=since, now=now)
    groups = [By(one) for one in (Group if by is None else (by,))]
    made = work_report(work.window, work.results, work.samples, by=groups)
    match output:
        case Format.TEXT:
            show(report_tables(made))
        case Format.JSON:
            print_json(report_object(made))
        case Format.CSV:
            print(report_csv(made), end="")
        case Format.HTML:
            print(report_html(made, host=settings.hostname, version=__version__), end="")


def _balance(settings: "Settings", *, since: float, now: float, as_json: bool) -> None:
    from tsched.cli.call import commits_of
    from tsched.observe.advice import balance_object, balance_tables, balance_words
    from tsched.observe.tables import show
    from tsched.observe.text import block
    from tsched.runner.rebalance import rebalance

    with commits_of(settings) as commits:
        found = rebalance(settings, commits, since=since, now=now)
    if as_json:
        print_json(balance_object(found.window, found.revision, found.pools, found.patch))
        return
    show(balance_tables(found.window, found.pools))
    print()
    for line in balance_words(found.pools):
        print(line)
    if found.patch:
        print()
        print(block(found.patch) if sys.stdout.isatty() else found.patch, end="")  # a patch is exact to the byte


def capacity(
    ctx: typer.Context,
    since: Annotated[str, SINCE] = "7d",
    queue: Annotated[str | None, typer.Option("--queue", metavar="QUEUE", help="Only that one.")] = None,
    wait: Annotated[
        str | None,
        typer.Option("--wait", metavar="TIME", help="The mean wait to aim at (default: a tenth of a run)."),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show how many slots each queue needs, how long tasks wait at the present limits, and better ones.

    By Little's law (tasks that come × duration of their runs) and Erlang's formula for the wait, as measured.
    """
    from tsched.observe.advice import capacity_object, capacity_table, capacity_words
    from tsched.observe.tables import show
    from tsched.runner.workload import forecasts

    now = time.time()
    window, found = forecasts(
        settings_of(ctx), since=since_of(since, now), now=now, queue=queue, wait=_seconds("--wait", wait)
    )
    if as_json:
        print_json(capacity_object(window, found))
        return
    show([capacity_table(window, found)], nothing="No queue: no fleet is applied here, no run has ended.")
    for one in found:
        print(f"\n{one.advice.queue}:")
        for sentence in capacity_words(one):
            print(f"  {sentence}")


def _seconds(flag: str, text: str | None) -> float | None:
    """A duration above 0. Raises ConfigurationError."""
    from tsched.model.units import parse_duration

    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise ConfigurationError(f"{flag}: {error}") from None
    if seconds <= 0:
        raise ConfigurationError(f"{flag}: no number of slots makes every wait 0: give more, such as 10s")
    return seconds
