"""`tsched tasks serve`: the embedded queue for agents and runners elsewhere."""

from typing import Annotated

import typer

from tsched.cli.call import settings_of, state_folder
from tsched.model.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, help="Serve the embedded queue.")


@app.callback()
def group() -> None:
    """Serve the embedded queue."""


@app.command("serve")
def serve(
    ctx: typer.Context,
    *,
    host: Annotated[str, typer.Option(help="The address to listen on; others than this machine need a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 3000,
) -> None:
    """Serve the embedded queue over HTTP.

    TinyTask's REST API (/api/v1), its MCP tools (/mcp) and the guide's older paths (/api). TSCHED_TASKS_TOKEN, where
    it is set, has to be shown as a bearer token.
    """
    from tsched.tasks.served import ServedTasks
    from tsched.tasks.server import serve as serve_tasks

    settings = settings_of(ctx)
    if settings.tasks is not None:
        raise ConfigurationError(
            f"the tasks of this host live on a server ({settings.sources['tasks']}): there is no queue here to serve"
        )
    folder = state_folder(settings)
    folder.create()
    serve_tasks(
        lambda: ServedTasks(folder.tasks_db), host=host, port=port, token=settings.tasks_token,
        say=lambda address: print(f"Serving tasks at {address}, MCP at {address}/mcp", flush=True),
    )  # fmt: skip
