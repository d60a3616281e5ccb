"""`tsched serve`: the status page, the API, metrics and hooks."""

from typing import Annotated

import typer

from tsched.cli.call import settings_of


def serve(
    ctx: typer.Context,
    *,
    host: Annotated[str, typer.Option(help="The address to listen on; others than this machine need a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8300,
) -> None:
    """Serve the status page, the API (/api/v1), /metrics, /healthz, /readyz and hooks that start a pass at once.

    TSCHED_SERVE_TOKEN opens what changes something, and everything where others can reach it; TSCHED_WEBHOOK_SECRET
    is what forges sign their hooks with.
    """
    from tsched.runner.serve import serve as serve_folder

    serve_folder(
        settings_of(ctx), host=host, port=port,
        say=lambda address: print(f"Serving the status page at {address}", flush=True),
    )  # fmt: skip
