"""`tsched validate`: check a fleet, from a folder, a revision or the tip of the fleet repo."""

import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import borrowed_mirror, settings_of, state_folder
from tsched.cli.output import JSON
from tsched.model.errors import ConfigurationError
from tsched.model.files import FileKind
from tsched.model.units import count
from tsched.observe.text import block, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tsched.model.diagnostic import Diagnostic
    from tsched.model.files import RepoFiles
    from tsched.settings import Settings

LARGEST_SHOWN = 1 << 20  # bytes of a file whose lines are quoted


def validate(
    ctx: typer.Context,
    *,
    path: Annotated[str | None, typer.Argument(metavar="[PATH]", help="A folder that holds pools/.")] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="REV", help="A revision of the fleet repo instead.")
    ] = None,
    host: Annotated[
        bool, typer.Option("--host", help="Check also that this machine has what the agents need.")
    ] = False,
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Check a fleet.

    Every problem at once, each with its place and its mend. Exit code 1 where there are errors. Without PATH: ./
    where it holds pools/, else the tip of the fleet repo.
    """
    if form not in ("text", "json"):
        raise ConfigurationError(f"--format is {form!r}: write text or json")
    if path is not None and revision is not None:
        raise ConfigurationError("PATH and --revision are two different things to check: give one")
    settings = settings_of(ctx)
    if not _check(settings, path, revision, host=host, as_json=as_json or form == "json"):
        raise typer.Exit(1)


def validate_config(
    ctx: typer.Context,
    fix: Annotated[bool, typer.Option("--fix", help="Make the state folder where it is missing.")] = False,
) -> None:
    """Check this host and its fleet.

    TinyScheduler's name for `validate --host`.
    """
    print("Validating TinyScheduler configuration...")
    settings = settings_of(ctx)
    if fix:
        state_folder(settings).create()
    sound = _check(settings, None, None, host=True, as_json=False)
    print("✅ All validations passed" if sound else "❌ Validation FAILED")
    if not sound:
        raise typer.Exit(1)


def _check(settings: "Settings", path: str | None, revision: str | None, *, host: bool, as_json: bool) -> bool:
    """Load and report; whether there is no error."""
    from tsched.cli.needs import needs
    from tsched.model.diagnostic import Severity
    from tsched.validate.fleet import load_fleet
    from tsched.validate.report import render_json, render_text

    with _files(settings, path, revision) as files:
        loaded = load_fleet(files)
        found = list(loaded.diagnostics)
        if host and loaded.fleet is not None:
            found += needs(loaded.fleet, settings.environ, settings.pass_env)
        if as_json:
            print(render_json(found))
        else:
            shown = [replace(one, message=one_line(one.message), path=one_line(one.path)) for one in found]
            print(render_text(shown, _sources(files, found), color=sys.stdout.isatty()), end="")
    errors = sum(diagnostic.severity is Severity.ERROR for diagnostic in found)
    if not as_json:
        agents = "" if loaded.fleet is None else f"{count(sum(1 for _ in loaded.fleet.agents()), 'agent')}, "
        print(f"{agents}{count(errors, 'error')}, {count(len(found) - errors, 'warning')}")
    return errors == 0


def _sources(files: "RepoFiles", found: "Sequence[Diagnostic]") -> dict[str, str]:
    """The texts of the files that findings stand in, by path; small plain files alone."""
    texts: dict[str, str] = {}
    for path in {one.path for one in found}:
        file = files.entries.get(path)
        if file is not None and file.kind is FileKind.FILE and file.size <= LARGEST_SHOWN:
            texts[one_line(path)] = block(files.read(file).decode("utf-8", "replace"))
    return texts


@contextmanager
def _files(settings: "Settings", path: str | None, revision: str | None) -> "Iterator[RepoFiles]":
    """What to check: PATH, else ./ where it holds pools/, else the tip (or a revision) of the fleet repo."""
    from tsched.validate.folder import read_folder

    if revision is None and (path is not None or Path("pools").is_dir()):
        folder = Path(path or ".")
        if not folder.is_dir():
            raise ConfigurationError(f"{folder} is no folder: name one that holds pools/")
        yield read_folder(folder)
        return
    if settings.repo is None:
        raise ConfigurationError(
            "nothing to check: stand in a folder that holds pools/, name one, or set TSCHED_REPO to a fleet repo"
        )
    with borrowed_mirror(settings) as mirror:
        tip = mirror.poll()
        mirror.fetch(tip)
        yield mirror.files(mirror.resolve(revision) if revision is not None else tip)
