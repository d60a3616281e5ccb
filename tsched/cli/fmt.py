"""`tsched fmt`: mend what has one mend only: order, quotes, schema lines, old names, white space."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, TextIO

import typer

from tsched.model.errors import ConfigurationError
from tsched.model.files import FileKind
from tsched.model.units import count
from tsched.observe.text import one_line


def fmt(
    path: Annotated[Path, typer.Argument(metavar="[PATH]", help="A folder that holds pools/.")] = Path(),
    check: Annotated[bool, typer.Option("--check", help="Say what would change, and change nothing.")] = False,
) -> None:
    """Mend the form of a fleet's files.

    Comments and everything else stay byte for byte. With --check: exit code 1 where there is something to mend.
    """
    if not path.is_dir():
        raise ConfigurationError(f"{path} is no folder: name one that holds pools/")
    mended = format_folder(path, check=check)
    print(f"{count(mended, 'file')} {'to mend' if check else 'mended'}")
    if check and mended:
        raise typer.Exit(1)


def format_folder(root: Path, *, check: bool = False, say: TextIO | None = None) -> int:
    """Mend every file of the fleet below a folder, saying what. Returns how many there were to mend."""
    from tsched.gitops.worktree import replace_file

    mended = 0
    for name, text, changes in unformatted(root):
        mended += 1
        for change in changes:
            print(f"{one_line(name)}: {one_line(change)}", file=say)
        if not check:
            replace_file(root / name, text)
    return mended


def unformatted(root: Path) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Each file with something to mend: its path below the folder, its text as it should be, and the changes."""
    from tsched.validate.fix import fix
    from tsched.validate.folder import read_folder
    from tsched.validate.source import LARGEST

    files = read_folder(root)
    for name in sorted(files.entries):
        file = files.entries[name]
        if file.kind is not FileKind.FILE or file.size > LARGEST:
            continue
        try:
            fixed = fix(name, files.read(file).decode())
        except UnicodeDecodeError:
            continue  # validate says so
        if fixed.changes:
            yield name, fixed.text, fixed.changes
