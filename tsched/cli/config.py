"""`tsched config`: every host setting, resolved, with where it came from."""

from typing import Annotated

import typer

from tsched.cli.call import applied_fleet, settings_of
from tsched.cli.output import JSON, print_json, warn


def config(
    ctx: typer.Context,
    show: Annotated[bool, typer.Option("--show", help="Show the settings (what this command does anyway).")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show every host setting and where it came from.

    Secrets are masked. Agent limits are the applied fleet's, with this host's own laid over them.
    """
    from tsched.model.fleet import Limits
    from tsched.observe.tables import Table
    from tsched.observe.tables import show as show_tables
    from tsched.settings import show as host

    settings = settings_of(ctx)
    fleet = applied_fleet(settings)
    applied = {} if fleet is None else {agent.name: agent.limit for _, agent in fleet.agents()}
    limits = {**applied, **settings.agent_limits}
    if as_json:
        figures = Limits() if fleet is None else fleet.limits
        print_json(host.as_json(settings, limits=figures, agent_limits=applied))
        return
    origin = ("the applied fleet; " if applied else "") + str(settings.sources["agent_limits"])
    rows = [*host.rows(settings), ("agent_limits", "see below", origin)]
    show_tables([Table(columns=("SETTING", "VALUE", "FROM"), rows=rows)])
    print("\nAgent Limits:")  # alone on its line, an agent a line below: the operations guide greps for it
    for name, slots in sorted(limits.items()):
        print(f"  {name}: {slots}")
    for note in settings.notes:
        warn(note)
