"""A plain folder as the files of a revision: git is not needed."""

import os
from pathlib import Path

from tsched.model.files import FileKind, RepoFile, RepoFiles


def read_folder(root: Path) -> RepoFiles:
    """`pools/` and `recipes/` below a folder, links flagged and not followed. A path stands for its blob's id."""
    entries: dict[str, RepoFile] = {}
    for top in ("pools", "recipes"):
        for folder, subfolders, names in os.walk(root / top):
            subfolders.sort()
            place = Path(folder).relative_to(root).as_posix()
            links = [name for name in subfolders if os.path.islink(os.path.join(folder, name))]
            for name in sorted([*names, *links]):
                path = f"{place}/{name}"
                entries[path] = _entry(path, os.path.join(folder, name))

    def read(file: RepoFile) -> bytes:
        with open(os.path.join(root, file.path), "rb") as opened:
            return opened.read()

    return RepoFiles(revision="", entries=entries, read=read)


def _entry(path: str, place: str) -> RepoFile:
    if os.path.islink(place) or not os.path.isfile(place):
        return RepoFile(path=path, blob="", kind=FileKind.SYMLINK)
    return RepoFile(path=path, blob=path, size=os.path.getsize(place))
