"""`tsched init` and `import`: a fleet repository from nothing, or from a TinyScheduler installation."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsched.model.errors import ConfigurationError
from tsched.observe.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tsched.model.diagnostic import Diagnostic

NoGit = Annotated[bool, typer.Option("--no-git", help="Only the files, no repository.")]


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")], no_git: NoGit = False
) -> None:
    """Make a fleet repository that passes its own gate."""
    from tsched.gitops.template import make, template

    make(folder, template(), message=None if no_git else "A fleet of one agent")
    print(f"made {one_line(str(folder))}. Next:\n")
    for line in (f"cd {folder}", "tsched validate", "tsched agent limit dev-one 2 --commit"):
        print(f"  {one_line(line)}")


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
    env = {} if env_file is None else parse_env_file(_text(env_file), name=str(env_file))
    made = convert(None if control_file is None else _text(control_file), env, _recipes(recipes))
    files = around(made.files)
    if not dry_run:
        make(into, files, message=None if no_git else "Import from TinyScheduler")
    for path in sorted(made.files):
        print(f"{'would write' if dry_run else 'wrote'} {one_line(path)}")
    for remark in made.remarks:
        print(f"{remark.level}: {one_line(remark.text)}")
    found = _findings(files)
    for one in found:
        print(one_line(f"{one.severity}: {one}"))
    if any(remark.level == "problem" for remark in made.remarks) or any(one.severity == "error" for one in found):
        raise typer.Exit(1)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text: save it as UTF-8") from None


def _recipes(folder: Path) -> Mapping[str, bytes]:
    """Every plain file below the folder, by its path there. Links are not followed."""
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder of recipes")
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


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
