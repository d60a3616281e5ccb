"""Where the files that ship with tsched are: in a checkout at its top, in an installed package inside it."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped(folder: str) -> Path:
    """The shipped folder of that name: schemas, pools, recipes or deploy."""
    installed = _PACKAGE / "shipped" / folder
    return installed if installed.is_dir() else _PACKAGE.parent / folder
