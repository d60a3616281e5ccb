"""The command line: global options, the table of commands, and the one place where errors become words and codes.

Exit codes: 0 done, 1 findings or failed work, 2 usage or environment; 130 when interrupted. Commands end with another
code by `raise typer.Exit(1)`. Modules of commands import what is heavy inside their functions: `--help` stays fast.
"""

import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from tsched import __version__
from tsched.cli.output import complain
from tsched.model.errors import TschedError, in_words

# Where each is, `module:name`, in the order of `tsched --help`. What is not asked for is not imported: all of them
# together take longer to build than most take to run. The reference documentation is compared with these.
COMMANDS: Final[Mapping[str, str]] = {
    "demo": "demo:demo",
    "init": "start:init",
    "import": "start:import_",
    "run": "run:run",
    "status": "fleet:status",
    "top": "top:top",
    "doctor": "doctor:doctor",
    "audit": "doctor:audit",
    "agents": "activity:agents",
    "pools": "activity:pools",
    "queues": "activity:queues",
    "plan": "plans:plan",
    "diff": "plans:diff",
    "sync": "run:sync",
    "accept": "run:accept",
    "stop": "override:stop",
    "resume": "override:resume",
    "kill": "override:kill",
    "unlock": "unlock:unlock",
    "validate": "validate:validate",
    "validate-config": "validate:validate_config",
    "fmt": "fmt:fmt",
    "ci": "gate:ci",
    "comment": "gate:comment",
    "rules": "rules:rules",
    "explain": "rules:explain",
    "rollback": "edits:rollback",
    "events": "events:events",
    "report": "report:report",
    "capacity": "report:capacity",
    "simulate": "simulate:simulate",
    "blame": "blame:blame",
    "history": "history:history",
    "profile": "history:profile",
    "errors": "history:errors",
    "sql": "history:sql",
    "alerts": "alerts:alerts",
    "gc": "gc:gc",
    "serve": "serve:serve",
    "metrics": "metrics:metrics",
    "config": "config:config",
    "runtimes": "runtimes:runtimes",
}
GROUPS: Final[Mapping[str, str]] = {
    "task": "task:app",
    "tasks": "tasks:app",
    "runner": "runner:app",
    "why": "why:app",
    "agent": "override:agent",  # with the commands of edits, which it adds its own to
    "pool": "edits:pool",
    "workspace": "workspace:app",
}


def build(*, terminal: bool, only: str | None = None, listed: bool = False) -> typer.Typer:
    """The whole command line, or `only` one command of it. `terminal`: whether help is drawn for one, or plain.

    `listed`: with what a list of the commands shows of them, their options left out.
    """
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if terminal else None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(options)
    for name, place in COMMANDS.items():
        if only in (None, name):
            command = _found(place)
            app.command(name, help=command.__doc__)(_unbuilt if listed else command)
    for name, place in GROUPS.items():
        if only in (None, name):
            group = _found(place)
            app.add_typer(typer.Typer(help=group.info.help) if listed else group, name=name)
    return app


def _unbuilt() -> None:
    """A command that is only listed."""


def _found(place: str) -> Any:
    """The function or the group at `module:name` of this package."""
    module, _, name = place.partition(":")
    return getattr(import_module(f"tsched.cli.{module}"), name)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tsched {__version__}")
        raise typer.Exit


def options(
    ctx: typer.Context,
    env_file: Annotated[
        str | None, typer.Option(metavar="PATH", help="Host settings (default: tinyscheduler.env in the base path).")
    ] = None,
    base_path: Annotated[
        str | None, typer.Option(metavar="PATH", help="What relative paths stand on (default: the current folder).")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR or CRITICAL.")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Of what the runner prints: text or json.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """GitOps for fleets of AI agents: a git repository says which agents exist, the runner makes it so."""
    given = {"env_file": env_file, "base_path": base_path, "log_level": log_level, "log_format": log_format}
    ctx.obj = {name: value for name, value in given.items() if value is not None}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code. Never raises, never shows a traceback.

    TSCHED_TRACEBACK=1 shows it all the same.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a narrow locale garbles a character, no more
    words = list(sys.argv[1:] if arguments is None else arguments)
    named = words[0] if words and words[0] in {*COMMANDS, *GROUPS} else None  # global options first: build them all
    try:
        app = build(terminal=sys.stdout.isatty(), only=named, listed=words in ([], ["--help"], ["-h"]))
        result = app(words, standalone_mode=False, prog_name="tsched")
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # typer itself answers a broken pipe by ending the process
        # Quiet, since the reader has all it wanted. Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        return _failed(error)
    return result if isinstance(result, int) else 0


def _failed(error: Exception) -> int:
    """Say what went wrong in one line; the exit code for it."""
    if os.environ.get("TSCHED_TRACEBACK") == "1":
        import traceback

        traceback.print_exc()
    usage: Callable[[], str] | None = getattr(error, "format_message", None)
    if isinstance(error, typer.Exit):
        return error.exit_code
    if usage is not None:  # typer's own: a wrong option, a missing argument
        text = usage()
        if "\n" in text or not text:  # no command at all: the text is the help
            print(text, file=sys.stderr)
        else:
            complain(f"{text.rstrip('.')}. `tsched --help` lists what there is")
        return 2
    if isinstance(error, TschedError):
        complain(str(error))
        return 2
    if isinstance(error, OSError):
        complain(in_words(error))
        return 2
    complain(f"internal error: {type(error).__name__}: {error}. TSCHED_TRACEBACK=1 shows where; please report it")
    return 1


def run() -> None:
    """The entry point of the `tsched` program."""
    gc.set_threshold(20_000)  # what is imported stays: to look for garbage in it takes a tenth of the start
    code = main()
    gc.freeze()  # nor is it looked for among all that ends with the process
    sys.exit(code)
