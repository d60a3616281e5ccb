"""`tsched validate`: check a fleet, from a folder, a revision or the tip of the fleet repo."""

import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.call import applied_fleet, commits_of, settings_of, state_folder
from tsched.cli.output import JSON
from tsched.model.errors import ConfigurationError
from tsched.model.files import FileKind
from tsched.model.records import dataclass
from tsched.model.units import count
from tsched.observe.text import block, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tsched.model.diagnostic import Diagnostic
    from tsched.model.files import RepoFiles
    from tsched.settings import Settings
    from tsched.validate.fleet import Loaded

LARGEST_SHOWN = 1 << 20  # bytes of a file whose lines are quoted


FORMAT = typer.Option("--format", help="text, json, github, sarif or junit.")
SELECT = typer.Option("--select", metavar="CODE", help="Only these findings, such as TS304 or TS3.")
IGNORE = typer.Option("--ignore", metavar="CODE", help="Without these findings.")
STRICT = typer.Option("--strict", help="Warnings fail too.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a call wants of the findings."""

    form: str = "text"
    select: Sequence[str] = ()
    ignore: Sequence[str] = ()
    strict: bool = False
    host: bool = False
    sarif: Path | None = None  # written besides


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
    select: Annotated[list[str] | None, SELECT] = None,
    ignore: Annotated[list[str] | None, IGNORE] = None,
    strict: Annotated[bool, STRICT] = False,
    fix: Annotated[bool, typer.Option("--fix", help="First mend what `tsched fmt` mends.")] = False,
    form: Annotated[str, FORMAT] = "text",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Check a fleet.

    Every problem at once, each with its place and its mend. Exit code 1 where there are errors. Without PATH: ./
    where it holds pools/, else the tip of the fleet repo, else this host's control file, limits and recipes.
    """
    from tsched.validate.formats import FORMATS

    if form not in FORMATS:
        raise ConfigurationError(f"--format is {form!r}: write one of {', '.join(FORMATS)}")
    if path is not None and revision is not None:
        raise ConfigurationError("PATH and --revision are two different things to check: give one")
    if fix:
        _fix(path, revision)
    wanted = Wanted(
        form="json" if as_json else form, select=_codes("--select", select), ignore=_codes("--ignore", ignore),
        strict=strict, host=host,
    )  # fmt: skip
    if not check(settings_of(ctx), path, revision, wanted):
        raise typer.Exit(1)


def _fix(path: str | None, revision: str | None) -> None:
    from tsched.cli.fmt import format_folder

    if revision is not None or not Path(path or ".", "pools").is_dir():
        raise ConfigurationError("--fix needs a folder that holds pools/: a revision can't be changed")
    format_folder(Path(path or "."), say=sys.stderr)


def validate_config(
    ctx: typer.Context,
    fix: Annotated[
        bool, typer.Option("--fix", help="Make the state folder (and a control file), mend the fleet's files here.")
    ] = False,
) -> None:
    """Check this host and its fleet.

    TinyScheduler's name for `validate --host`.
    """
    print("Validating TinyScheduler configuration...")
    settings = settings_of(ctx)
    if fix:
        state_folder(settings).create()
        if Path("pools").is_dir():
            _fix(None, None)
        else:
            settings = _first_control(ctx, settings)
    sound = check(settings, None, None, Wanted(host=True))
    if settings.installed and not fleet_at_hand(None, None):
        _say_control(settings)
    print("✅ All validations passed" if sound else "❌ Validation FAILED")
    if not sound:
        raise typer.Exit(1)


def _first_control(ctx: typer.Context, settings: "Settings") -> "Settings":
    """A default control file where nothing says which agents there are, and the settings with it."""
    from tsched.runner.installed import write_default

    if not write_default(settings):
        return settings
    print(f"✓ wrote a default {settings.control_file}")
    return settings_of(ctx)


def _say_control(settings: "Settings") -> None:
    """TinyScheduler's line about the control file."""
    from tsched.observe import messages
    from tsched.runner.installed import control_of

    control = control_of(settings)
    if control is None:
        print(f"{messages.control_file_missing(str(settings.control_file))}\n{messages.LEGACY}")
    elif control.fault is None:
        print(f"✓ Agent control file is valid ({len(control.agents)} agents configured)")
    else:
        print(f"✗ Agent control file is not valid: {control.fault}")


def _codes(flag: str, given: "Sequence[str] | None") -> "Sequence[str]":
    """Codes or beginnings of codes, several to a flag by commas. Raises ConfigurationError for one that fits none."""
    from tsched.validate.codes import CODES

    wanted = [code.strip().upper() for one in given or () for code in one.split(",")]
    for code in wanted:
        if not code.startswith("TS") or not any(known.startswith(code) for known in CODES):
            raise ConfigurationError(f"{flag} {code!r} fits no rule: `tsched rules` lists them")
    return wanted


def check(settings: "Settings", path: str | None, revision: str | None, wanted: Wanted) -> bool:
    """Load and report on standard output; whether nothing fails."""
    from tsched.validate.formats import FORMATS, Checked, fails

    with _checked(settings, path, revision, build=wanted.host) as (files, loaded):
        found = list(loaded.diagnostics)
        if wanted.host and loaded.fleet is not None:
            from tsched.runner.needs import needs

            found += needs(loaded.fleet, settings.environ, settings.pass_env, goose=settings.goose_bin)
        found = [one for one in found if _chosen(one, wanted)]
        shown = [replace(one, message=one_line(one.message), path=one_line(one.path)) for one in found]
        checked = Checked(
            found=shown if wanted.form == "text" else found,
            files=sorted(files.entries),
            sources=_sources(files, found),
            strict=wanted.strict,
            color=sys.stdout.isatty(),
        )
        print(FORMATS[wanted.form](checked), end="")
        if wanted.sarif is not None:
            wanted.sarif.write_text(FORMATS["sarif"](checked), encoding="utf-8")
    if wanted.form == "text":
        print(_summary(found, loaded))
    return not any(fails(one, strict=wanted.strict) for one in found)


def _chosen(one: "Diagnostic", wanted: Wanted) -> bool:
    """Whether --select and --ignore leave a finding in."""
    selected = not wanted.select or one.code.startswith(tuple(wanted.select))
    return selected and not one.code.startswith(tuple(wanted.ignore))


def _summary(found: "Sequence[Diagnostic]", loaded: "Loaded") -> str:
    from tsched.model.diagnostic import Severity

    errors = sum(diagnostic.severity is Severity.ERROR for diagnostic in found)
    sound = all(one.severity is not Severity.ERROR for one in loaded.diagnostics)
    agents = f"{count(loaded.agents, 'agent')}, " if sound else ""
    return f"{agents}{count(errors, 'error')}, {count(len(found) - errors, 'warning')}"


def _sources(files: "RepoFiles", found: "Sequence[Diagnostic]") -> dict[str, str]:
    """The texts of the files that findings stand in, by path; small plain files alone."""
    texts: dict[str, str] = {}
    for path in {one.path for one in found}:
        file = files.entries.get(path)
        if file is not None and file.kind is FileKind.FILE and file.size <= LARGEST_SHOWN:
            texts[one_line(path)] = block(files.read(file).decode("utf-8", "replace"))
    return texts


@contextmanager
def _checked(
    settings: "Settings", path: str | None, revision: str | None, *, build: bool
) -> "Iterator[tuple[RepoFiles, Loaded]]":
    """What to check, and what is wrong with it: this host's own files where it has no fleet repo, else a fleet's."""
    from tsched.runner.check import check as check_files

    if not fleet_at_hand(path, revision) and settings.installed:
        from tsched.runner.installed import here

        yield here(settings, applied_fleet(settings))
        return
    with _files(settings, path, revision) as files:
        yield files, check_files(files, build=build)


def fleet_at_hand(path: str | None, revision: str | None) -> bool:
    """Whether a fleet's files are meant: by name, or because one stands in the current folder."""
    return path is not None or revision is not None or Path("pools").is_dir()


@contextmanager
def _files(settings: "Settings", path: str | None, revision: str | None) -> "Iterator[RepoFiles]":
    """A fleet's: PATH, else ./ where it holds pools/, else the tip (or a revision) of the fleet repo."""
    from tsched.validate.folder import read_folder

    if revision is None and (path is not None or Path("pools").is_dir()):
        folder = Path(path or ".")
        if not folder.is_dir():
            raise ConfigurationError(f"{folder} is no folder: name one that holds pools/")
        yield read_folder(folder)
        return
    if settings.repo is None and revision is None:
        raise ConfigurationError(
            "nothing to check: stand in a folder that holds pools/, name one, or set TSCHED_REPO to a fleet repo "
            f"(nor is there a control file {settings.control_file}, nor TINYSCHEDULER_AGENT_LIMITS)"
        )
    with commits_of(settings) as commits:
        yield commits.files(commits.resolve(revision or "HEAD"))
