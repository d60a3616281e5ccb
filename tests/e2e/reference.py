"""Makes docs/commands.md from the program itself: `python -m tests.e2e.reference`. A test fails when it is stale."""

from collections.abc import Iterator
from pathlib import Path

import typer.main
from typer.core import TyperCommand, TyperGroup, TyperOption

from tsched.cli.main import build
from tsched.settings import VARIABLES

PAGE = Path(__file__).parent.parent.parent / "docs/commands.md"
HEAD = """\
# Commands and settings

Made from the program by `make docs`; don't edit it by hand.

`tinyscheduler` is another name of `tsched`. Global options stand before the command. Exit codes: 0 done, 1 findings
or failed work, 2 usage or environment.
"""


def commands(group: TyperGroup, names: tuple[str, ...] = ()) -> Iterator[tuple[str, TyperCommand]]:
    """Every command with its whole name."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*names, name))
        elif isinstance(command, TyperCommand):
            yield " ".join((*names, name)), command


def page() -> str:
    """The whole page."""
    group = typer.main.get_command(build(terminal=False))
    assert isinstance(group, TyperGroup)
    lines = [HEAD, "## Global options", "", *_parameters(group)]
    for name, command in commands(group):
        lines += [f"## tsched {name}", "", (command.help or "").replace("\n\n", "\n").strip(), ""]
        lines += _parameters(command)
    lines += ["## Settings", "", "From flags, the environment or the env file, in this order.", ""]
    lines += ["| setting | variables, the first one winning |", "| --- | --- |"]
    lines += [f"| {name} | {', '.join(f'`{one}`' for one in names)} |" for name, names in VARIABLES.items()]
    return "\n".join(lines) + "\n"


def _parameters(command: TyperCommand | TyperGroup) -> list[str]:
    rows = []
    for one in command.params:
        if one.name == "help":
            continue
        name = ", ".join(one.opts) if isinstance(one, TyperOption) else str(one.metavar or one.name)
        rows.append(f"| `{name}` | {getattr(one, 'help', '') or ''} |")
    return ["| option or argument | what |", "| --- | --- |", *rows, ""] if rows else []


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
