"""`tsched top`: the live view, until q."""

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from tsched.cli.call import settings_of
from tsched.model.errors import ConfigurationError, TransientError


def top(
    ctx: typer.Context,
    interval: Annotated[float, typer.Option("--interval", min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Draw one screen and end.")] = False,
) -> None:
    """Watch pools, runs, drains, queues and events live. q ends it, space holds it still."""
    from rich.console import Console
    from rich.live import Live

    from tsched.observe.top import screen
    from tsched.runner.questions import Watch
    from tsched.runner.view import view

    watch = Watch(settings=settings_of(ctx))
    console = Console(highlight=False)
    if once:
        console.print(screen(view(watch), width=console.width, height=console.height))
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigurationError("tsched top draws on a terminal: use --once here, or `tsched status`")
    shown = view(watch)
    note, held = "q ends, space holds", False
    with keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            drawn = screen(shown, width=console.width, height=console.height - 1, note=note)
            live.update(drawn, refresh=True)
            key = pressed(interval)
            if key in ("q", "Q", "\x04"):
                return
            held = held is not (key == " ")
            if held:
                note = "held: space goes on"
                continue
            try:
                shown, note = view(watch), "q ends, space holds"
            except TransientError as error:  # a look may fail; the next one is soon
                note = str(error)


@contextmanager
def keys() -> Iterator[Callable[[float], str]]:
    """Keys without Enter: a function that waits so many seconds for one and returns it, or ""."""
    import termios
    import tty

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return os.read(sys.stdin.fileno(), 1).decode(errors="replace") if ready else ""

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
