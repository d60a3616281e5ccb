"""`tsched status`: what is."""

import time
from typing import Annotated

import typer

from tsched.cli.call import settings_of
from tsched.cli.output import JSON, print_json


def status(ctx: typer.Context, as_json: Annotated[bool, JSON] = False) -> None:
    """Show the revision, pools and agents, runs, queues and conditions."""
    from tsched.runner.standing import look

    seen = look(settings_of(ctx), now=time.time())
    if as_json:
        print_json(seen)
        return
    from tsched.observe.tables import show, status_tables  # a program that asks each second needs none

    show(status_tables(seen))
