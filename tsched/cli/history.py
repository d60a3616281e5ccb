"""`tsched history`, `profile`, `errors` and `sql`: what passes did, where their time went, what went wrong."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import read_history, settings_of, since_of, state_folder
from tsched.cli.output import JSON, SINCE, print_json
from tsched.model.units import iso

if TYPE_CHECKING:
    from tsched.model.history import PassRecord

LIMIT = typer.Option("--limit", "-n", min=1, max=1_000_000, help="At most so many, the newest.")


def history(
    ctx: typer.Context,
    since: Annotated[str, SINCE] = "1h",
    limit: Annotated[int, LIMIT] = 50,
    slow: Annotated[bool, typer.Option("--slow", help="The slowest first, with the time of each step.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show the runner's passes: when, how long, what they did."""
    from tsched.observe.objects import pass_object
    from tsched.observe.tables import Table
    from tsched.observe.tables import show as show_tables
    from tsched.state.passes import passes

    now = time.time()
    with read_history(settings_of(ctx)) as database:
        found = passes(database, since=since_of(since, now), limit=100_000 if slow else limit)
    if slow:
        found = tuple(sorted(found, key=lambda one: -one.seconds)[:limit])
    if as_json:
        for one in found:
            print_json(pass_object(one), line=True)
        return
    columns = ("PASS", "TIME", "SECONDS", "REVISION", "STARTED", "ENDED", "BLOCKED", "ERRORS", "NOTE")
    show_tables([Table(columns=columns, rows=[_row(one, slow=slow) for one in found])], nothing="No pass since then.")


def _row(one: "PassRecord", *, slow: bool) -> tuple[str, ...]:
    slowest = sorted(one.steps.items(), key=lambda step: -step[1])
    steps = " ".join(f"{name}={seconds:.3f}" for name, seconds in slowest) if slow else ""
    counted = [
        str(one.counters.get(name, 0)) for name in ("tasks_spawned", "runs_ended", "blocked_skipped", "errors")
    ]
    note = f"broken off: {one.broken}" if one.broken else steps
    return (str(one.id), iso(one.time), f"{one.seconds:.3f}", (one.revision or "-")[:12], *counted, note)


def profile(
    ctx: typer.Context,
    since: Annotated[str, SINCE] = "24h",
    limit: Annotated[int, LIMIT] = 1000,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show where the time of the last passes went, step by step."""
    from tsched.observe.tables import Table
    from tsched.observe.tables import show as show_tables
    from tsched.schedule.profile import profiled
    from tsched.state.passes import passes

    with read_history(settings_of(ctx)) as database:
        found = passes(database, since=since_of(since, time.time()), limit=limit)
    steps = profiled(found)
    if as_json:
        span = (
            {"since": iso(found[0].time), "until": iso(found[-1].time)} if found else {"since": None, "until": None}
        )
        rows = [
            {"name": one.name, "passes": one.passes, "p50": round(one.p50, 6), "p95": round(one.p95, 6),
             "max": round(one.most, 6), "total": round(one.total, 6), "share": round(one.share, 4)}
            for one in steps
        ]  # fmt: skip
        print_json({"passes": len(found), **span, "steps": rows})
        return
    words = [
        (one.name, str(one.passes), *(f"{1000 * seconds:.1f}" for seconds in (one.p50, one.p95, one.most)),
         f"{one.share:.1%}")
        for one in steps
    ]  # fmt: skip
    columns = ("STEP", "PASSES", "P50 MS", "P95 MS", "MAX MS", "SHARE")
    show_tables([Table(columns=columns, rows=words)], nothing="No pass since then.")


def errors(
    ctx: typer.Context,
    since: Annotated[str, SINCE] = "24h",
    limit: Annotated[int, LIMIT] = 50,
    by: Annotated[str | None, typer.Option("--by", metavar="kind", help="Count errors that are alike.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show what went wrong in the runner's passes. Runs that failed are in `tsched report`."""
    from tsched.model.errors import ConfigurationError
    from tsched.observe.tables import Table
    from tsched.observe.tables import show as show_tables
    from tsched.schedule.troubles import by_kind
    from tsched.state.passes import errors as stored

    if by not in (None, "kind"):
        raise ConfigurationError(f"--by {by}: errors can be counted by kind alone")
    rows: list[tuple[str | int, ...]]
    with read_history(settings_of(ctx)) as database:
        found = stored(database, since=since_of(since, time.time()), limit=100_000 if by else limit)
    if by is None:
        columns: tuple[str, ...] = ("time", "kind", "message")
        rows = [(iso(one.time), one.kind, one.message) for one in found]
    else:
        columns = ("number", "kind", "first", "last", "example")
        kinds = by_kind(found)[:limit]
        rows = [(one.number, one.kind, iso(one.first), iso(one.last), one.example) for one in kinds]
    if as_json:
        for row in rows:
            print_json(dict(zip(columns, row, strict=True)), line=True)
    else:
        words = [tuple(map(str, row)) for row in rows]
        table = Table(columns=tuple(name.upper() for name in columns), rows=words)
        show_tables([table], nothing="No error since then.")


def sql(
    ctx: typer.Context,
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="One SELECT.")] = None,
    tables: Annotated[
        bool, typer.Option("--tables", help="Show what can be asked: tables and their columns.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Ask the state folder in SQL, reading alone: runs, passes, samples, errors, events, totals, lifecycles, tasks.

    Times are seconds since the epoch; datetime(time, 'unixepoch') writes one. JSON is one object a line.
    """
    from tsched.model.errors import ConfigurationError
    from tsched.observe.tables import Table
    from tsched.observe.tables import show as show_tables
    from tsched.state import sql as reading

    folder = state_folder(settings_of(ctx))
    if tables is (query is not None):
        raise ConfigurationError(
            'say what to ask, such as "SELECT outcome, count(*) FROM runs GROUP BY 1", or --tables'
        )
    with reading.tables(folder) as database:
        columns, rows = (
            (("table", "columns"), reading.described(database)) if query is None else reading.query(database, query)
        )
        if as_json:
            for row in rows:
                print_json(dict(zip(columns, row, strict=True)), line=True)
        else:
            words = [tuple("" if value is None else str(value) for value in row) for row in rows]
            show_tables([Table(columns=tuple(columns), rows=words)])
