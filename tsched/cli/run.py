"""`tsched run`, `sync` and `accept`: the commands that make the runner act."""

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import settings_of, wake_daemon, who
from tsched.model.errors import ConfigurationError

if TYPE_CHECKING:
    from tsched.settings import Settings


def run(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="One pass (the default).")] = False,
    daemon: Annotated[bool, typer.Option("--daemon", help="Pass after pass until SIGTERM.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what a pass would do, and touch nothing.")] = False,
    disable_blocking: Annotated[
        bool, typer.Option("--disable-blocking", help="Treat blocked tasks like any other.")
    ] = False,
    agent_limit: Annotated[
        list[str] | None, typer.Option("--agent-limit", metavar="AGENT=SLOTS", help="Another limit, for this call.")
    ] = None,
    loop_interval: Annotated[
        str | None, typer.Option("--loop-interval", metavar="TIME", help="Between passes, such as 30s.")
    ] = None,
    heartbeat_interval: Annotated[
        str | None, typer.Option("--heartbeat-interval", metavar="TIME", help="Between heartbeats of new runs.")
    ] = None,
    max_runtime: Annotated[
        str | None, typer.Option("--max-runtime", metavar="TIME", help="How long a new run may take.")
    ] = None,
) -> None:
    """Make this machine match the fleet repo, and give its agents work."""
    if once and daemon:
        raise ConfigurationError("--once and --daemon exclude each other: give one")
    settings = settings_of(
        ctx,
        dry_run=dry_run or None,
        disable_blocking=disable_blocking or None,
        agent_limits=",".join(one.replace("=", ":") for one in agent_limit) if agent_limit else None,
        loop_interval=loop_interval,
        heartbeat=heartbeat_interval,
        max_runtime=max_runtime,
    )
    if settings.dry_run:
        _rehearse(settings)
    elif daemon:
        _daemon(settings)
    else:
        _once(settings)


def _rehearse(settings: "Settings") -> None:
    from tsched.runner.rehearse import borrowed_host, rehearse

    with borrowed_host(settings, echo=sys.stdout) as host:
        if rehearse(host):
            raise typer.Exit(1)


def _once(settings: "Settings") -> None:
    from tsched.runner.host import open_host
    from tsched.runner.loop import once

    with closing(open_host(settings, echo=sys.stdout)) as host:
        if once(host).errors:
            raise typer.Exit(1)


def _daemon(settings: "Settings") -> None:
    from tsched.runner.host import open_host
    from tsched.runner.loop import daemon

    with closing(open_host(settings, echo=sys.stdout)) as host:
        daemon(host)


def sync(ctx: typer.Context) -> None:
    """Run a cycle at once: the daemon's, or one here where there is none."""
    _wake(settings_of(ctx))


def accept(
    ctx: typer.Context, revision: Annotated[str, typer.Argument(metavar="REV", help="The held revision.")]
) -> None:
    """Agree to the revision that is held, so that the next cycle applies it."""
    from tsched.runner.accept import accept as accept_held

    settings = settings_of(ctx)
    print(f"accepted {accept_held(settings, revision, author=who())}")
    _wake(settings)


def _wake(settings: "Settings") -> None:
    """Have a cycle run now."""
    pid = wake_daemon(settings)
    if pid is not None:
        print(f"the runner with pid {pid} cycles now")
    else:
        _once(settings)
