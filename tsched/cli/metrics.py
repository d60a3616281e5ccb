"""`tsched metrics`: what Prometheus reads, printed or written for node_exporter."""

from pathlib import Path
from typing import Annotated

import typer

from tsched.cli.call import settings_of


def metrics(
    ctx: typer.Context,
    textfile: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write them to this file, whole or not at all, instead of printing them."),
    ] = None,
) -> None:
    """Print the metrics of this host's runner, as Prometheus reads them.

    `tsched serve` has them at /metrics. --textfile is for node_exporter's textfile collector; its name ends in .prom.
    """
    from tsched.observe.metrics import exposition
    from tsched.runner.questions import Watch, vitals
    from tsched.state.folder import write_durably

    text = exposition(vitals(Watch(settings=settings_of(ctx))))[0].decode()
    if textfile is None:
        print(text, end="")
    else:
        write_durably(textfile.absolute(), text, mode=0o644)
