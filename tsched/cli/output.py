"""How commands speak: JSON for programs, remarks on standard error, everything else through observe.tables."""

import sys

import typer

from tsched.observe.text import one_line

# The same words in every command, because options are documented once.
SINCE = typer.Option("--since", metavar="TIME", help="From when on: so long ago, such as 1h, or an RFC 3339 time.")
JSON = typer.Option("--json", help="Print JSON (documented and stable) instead of words.")


def print_json(value: object, *, line: bool = False) -> None:
    """One JSON value on standard output: indented, or on a line of its own (for streams of them)."""
    from tsched.model import plain

    print(plain.as_json(value, indent=None if line else 2), flush=line)


def warn(text: str) -> None:
    """A remark for a person that is no error and belongs to no answer."""
    print(f"tsched: warning: {one_line(text)}", file=sys.stderr)


def complain(text: str) -> None:
    """The one line that says what went wrong."""
    print(f"tsched: {one_line(text)}", file=sys.stderr)
