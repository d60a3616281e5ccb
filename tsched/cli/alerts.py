"""`tsched alerts`: what is wrong now by the fleet's rules, and what has yet to be told of it."""

import re
from typing import Annotated, Final

import typer

from tsched.cli.call import applied_fleet, read_state, settings_of
from tsched.cli.output import JSON, print_json
from tsched.model.units import format_duration, iso

_CAPITAL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SECONDS: Final = {"wait": "for_seconds", "repeat": "repeat_seconds", "window": "window_seconds"}


def alerts(
    ctx: typer.Context,
    rules: Annotated[bool, typer.Option("--rules", help="Show the rules in force instead.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show alerts that fire or are about to. The exit code is 1 where one fires."""
    from tsched.model.alert import AlertState
    from tsched.observe.objects import alert_object
    from tsched.observe.tables import Table
    from tsched.observe.tables import show as show_tables
    from tsched.state import alarms

    settings = settings_of(ctx)
    if rules:
        _rules(ctx, as_json=as_json)
        return
    with read_state(settings) as database:
        found, waiting = alarms.load(database), alarms.waiting(database)
    if as_json:
        for one in found:
            print_json(alert_object(one), line=True)
    else:
        rows = [
            (str(one.state), str(one.severity), one.rule, one.subject, iso(one.since), one.summary) for one in found
        ]
        columns = ("STATE", "SEVERITY", "RULE", "SUBJECT", "SINCE", "WHAT")
        late = [(message.sink, str(message.tries), message.told.words) for message in waiting]
        tables = [
            Table(columns=columns, rows=rows),
            Table(title="Not told yet", columns=("WHO", "TRIES", "WHAT"), rows=late),
        ]
        show_tables(tables)
    if any(one.state is AlertState.FIRING for one in found):
        raise typer.Exit(1)


def _rules(ctx: typer.Context, *, as_json: bool) -> None:
    """The rules of the applied fleet, with what each asks for."""
    from dataclasses import asdict

    from tsched.observe.tables import Table
    from tsched.observe.tables import show as show_tables

    fleet = applied_fleet(settings_of(ctx))
    found = fleet.limits.alerts.rules if fleet is not None else ()
    kinds = [_CAPITAL.sub("_", type(one).__name__.removesuffix("Rule")).lower() for one in found]
    if as_json:
        for kind, one in zip(kinds, found, strict=True):
            fields = {_SECONDS.get(name, name): value for name, value in asdict(one).items()}
            print_json({"type": kind, **fields}, line=True)
        return
    rows = [
        (one.name, kind, str(one.severity), format_duration(one.wait), _asked(asdict(one)))
        for kind, one in zip(kinds, found, strict=True)
    ]
    table = Table(columns=("RULE", "TYPE", "SEVERITY", "FOR", "ASKS"), rows=rows)
    show_tables([table], nothing="The applied fleet has no alert rule.")


def _asked(fields: dict[str, object]) -> str:
    common = {"name", "severity", "wait", "repeat"}
    asked = {name: value for name, value in fields.items() if name not in common and value is not None}
    return " ".join(
        f"{name}={format_duration(value) if isinstance(value, float) else value}" for name, value in asked.items()
    )
