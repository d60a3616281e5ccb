"""`tsched runtimes`: how each agent's program is called, and what is taken for proof that it did its work."""

from typing import Annotated

import typer

from tsched.cli.call import applied_fleet, settings_of
from tsched.cli.output import JSON, print_json


def runtimes(ctx: typer.Context, as_json: Annotated[bool, JSON] = False) -> None:
    """Show each runtime: its command, and what proves success.

    The built-in ones, and those of the applied fleet.
    """
    import shlex

    from tsched.executors.evidence import rule
    from tsched.model.runtimes import BUILT_IN
    from tsched.observe.tables import Table
    from tsched.observe.tables import show as show_tables

    fleet = applied_fleet(settings_of(ctx))
    known = {**BUILT_IN, **(fleet.limits.runtimes if fleet is not None else {})}
    if as_json:
        print_json(
            [
                {
                    "name": one.name,
                    "argv": list(one.argv),
                    "env": list(one.env),
                    "evidence": str(one.evidence),
                    "rule": rule(one.name, one.evidence),
                    "resume": list(one.resume) or None,
                }
                for one in known.values()
            ]
        )
        return
    columns = ("RUNTIME", "PROOF OF SUCCESS", "GOES ON", "COMMAND")
    rows = [
        (one.name, rule(one.name, one.evidence), "yes" if one.resume else "no", shlex.join(one.argv))
        for one in known.values()
    ]
    show_tables([Table(columns=columns, rows=rows)])
