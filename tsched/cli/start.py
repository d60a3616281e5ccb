"""`tsched init` and `import`: a fleet repository from nothing or from TinyScheduler's files; an operator's folder."""

import os
import pwd
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.cli.output import warn
from tsched.model.errors import ConfigurationError
from tsched.observe.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tsched.gitops.imported import Remark
    from tsched.model.diagnostic import Diagnostic

NoGit = Annotated[bool, typer.Option("--no-git", help="Only the files, no repository.")]


def init(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    no_git: NoGit = False,
    host: Annotated[
        bool, typer.Option("--host", help="Make the folder of a runner's host instead: launcher, env file, units.")
    ] = False,
    repo: Annotated[
        str | None,
        typer.Option("--repo", metavar="ADDRESS", help="With --host: the fleet repo (else TSCHED_REPO)."),
    ] = None,
) -> None:
    """Make a fleet repository that passes its own gate.

    With --host: the folder that an operator stands in, with ./tinyscheduler, tinyscheduler.env, state/, recipes/ and
    units for systemd and cron.
    """
    if host:
        _host(ctx, folder, repo)
        return
    if repo is not None:
        raise ConfigurationError("--repo belongs to --host: without it a new fleet repository is made")
    from tsched.gitops.template import make, template

    make(folder, template(), message=None if no_git else "A fleet of one agent")
    print(f"made {one_line(str(folder))}. Next:\n")
    for line in (f"cd {shlex.quote(str(folder))}", "tsched validate", "tsched agent limit dev-one 2 --commit"):
        print(f"  {one_line(line)}")


def _host(ctx: typer.Context, folder: Path, repo: str | None) -> None:
    from tsched.cli.call import settings_of
    from tsched.gitops.template import env_value
    from tsched.state.folder import StateFolder
    from tsched.state.operator import Operator, make

    settings = settings_of(ctx, repo=repo)
    folder = folder.absolute()
    person = pwd.getpwuid(os.getuid())
    lines = {"TSCHED_REPO": settings.repo, "TSCHED_BRANCH": settings.branch if settings.branch != "main" else None}
    lines |= {"TSCHED_OPERATOR_FOLDER": ".", "TINYSCHEDULER_AGENT_CONTROL_FILE": "state/agent-control.json"}
    operator = Operator(
        folder=folder,
        program=_program(),
        user=person.pw_name,
        home=Path(person.pw_dir),
        path=os.environ.get("PATH", ""),
    )
    written = make(operator, {name: env_value(value) for name, value in lines.items() if value is not None})
    StateFolder(folder / "state").create()
    for path in written:
        print(f"wrote {one_line(str(folder / path))}")
    if settings.repo is None:
        warn("no fleet repo: give --repo, set TSCHED_REPO in tinyscheduler.env, or write state/agent-control.json")
    print(f"\nNext:\n\n  cd {shlex.quote(str(folder))}\n  ./tinyscheduler run --once")


def _program() -> Path:
    """The installed `tinyscheduler`, by whose name `ps` shows the runner. Raises ConfigurationError."""
    beside = Path(sys.executable).with_name("tinyscheduler")
    found = str(beside) if beside.is_file() else shutil.which("tinyscheduler")
    if found is None:
        raise ConfigurationError(f"there is no program tinyscheduler beside {sys.executable}: install tsched by pip")
    return Path(found).absolute()


def import_(
    *,
    into: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder for the repository.")],
    recipes: Annotated[Path, typer.Option(metavar="DIR", help="The installation's recipes.")],
    control_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its agent-control.json (none: legacy mode).")
    ] = None,
    env_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Its env file.")] = None,
    no_git: NoGit = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made, and make nothing.")] = False,
) -> None:
    """Turn a TinyScheduler installation into a fleet repository.

    Says what could not be mapped. Exit code 1 where something is left for a person to mend.
    """
    from tsched.gitops.imported import convert
    from tsched.gitops.template import around, make, refuse_used
    from tsched.settings.envfile import parse_env_file

    if control_file is None and env_file is None:
        raise ConfigurationError("there is nothing to import: give --control-file, --env-file or both")
    refuse_used(into)
    env = {} if env_file is None else parse_env_file(_text(env_file), name=str(env_file), environ=os.environ)
    held, beside = _recipes(recipes)
    made = convert(None if control_file is None else _text(control_file), env, held)
    files = around(made.files)
    remarks = [*beside, *made.remarks]
    if not dry_run:
        make(into, files, message=None if no_git else "Import from TinyScheduler")
    for path in sorted(files):
        print(f"{'would write' if dry_run else 'wrote'} {one_line(path)}")
    for remark in remarks:
        print(f"{remark.level}: {one_line(remark.text)}")
    found = _findings(files)
    for one in found:
        print(one_line(f"{one.severity}: {one}"))
    if any(remark.level == "problem" for remark in remarks) or any(one.severity == "error" for one in found):
        raise typer.Exit(1)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text: save it as UTF-8") from None


def _recipes(folder: Path) -> "tuple[Mapping[str, bytes], Sequence[Remark]]":
    """Every file below the folder by its path there, and what is to be said of links and hidden folders.

    A link to a file is that file, as it is to goose. Only what may be a recipe is read.
    """
    from tsched.gitops.imported import RECIPE_ENDS, Remark

    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder of recipes")
    found: dict[str, bytes] = {}
    remarks = []
    for path in _below(folder):
        name = path.relative_to(folder).as_posix()
        if not path.is_file():
            text = f"{name} is {'a link to no file' if path.is_symlink() else 'no plain file'}: it stays where it is"
            remarks.append(Remark(level="dropped", text=text))
            continue
        found[name] = path.read_bytes() if name.endswith(RECIPE_ENDS) else b""
        if path.is_symlink() and name.endswith(RECIPE_ENDS):
            text = f"recipe {name} was a link to {path.readlink()}: it is a file of its own now"
            remarks.append(Remark(level="mapped", text=text))
    return found, remarks


def _below(folder: Path) -> "Iterator[Path]":
    """Files below a folder, and folders that are not looked into: links and hidden ones (a repository's .git)."""

    def unreadable(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=unreadable):
        closed = [name for name in folders if name.startswith(".") or Path(place, name).is_symlink()]
        folders[:] = sorted(set(folders) - set(closed))
        yield from (Path(place, name) for name in sorted([*names, *closed]))


def _findings(files: Mapping[str, bytes]) -> "Sequence[Diagnostic]":
    from tsched.model.files import RepoFile, RepoFiles
    from tsched.validate.fleet import load_fleet

    entries = {
        path: RepoFile(path=path, blob=path, size=len(data))
        for path, data in files.items()
        if path.startswith(("pools/", "recipes/"))
    }
    return load_fleet(
        RepoFiles(revision="", entries=entries, read=lambda file: files[file.path]), build=False
    ).diagnostics
