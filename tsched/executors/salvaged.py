"""Work that runs left unsaved and that was saved under a ref: what of it is still there."""

from collections.abc import Iterator
from pathlib import Path

from tsched.executors import durable

PREFIX = "refs/tsched/salvage/"


def salvaged(workspaces: Path) -> tuple[str, ...]:
    """The names of the salvage refs of all shared repositories below the folder `workspaces`, sorted.

    Read from git's files: no process for each repository.
    """
    found: set[str] = set()
    for cache in (workspaces / ".repos").glob("*.git"):
        found.update(_loose(cache), _packed(cache))
    return tuple(sorted(found))


def _loose(cache: Path) -> Iterator[str]:
    root = cache / PREFIX
    for path in root.rglob("*"):
        if path.is_file() and not path.name.endswith(".lock"):
            yield f"{PREFIX}{path.relative_to(root)}"


def _packed(cache: Path) -> Iterator[str]:
    try:
        text = durable.read(cache / "packed-refs").decode(errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        name = line.partition(" ")[2]
        if name.startswith(PREFIX):
            yield name
