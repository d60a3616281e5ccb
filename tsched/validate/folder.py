"""A plain folder as the files of a revision: git is not needed."""

import os
from collections.abc import Iterator
from pathlib import Path

from tsched.model.files import FileKind, RepoFile, RepoFiles


def read_folder(root: Path) -> RepoFiles:
    """`pools/` and `recipes/` below a folder, links flagged and not followed. A path stands for its blob's id."""
    entries = {file.path: file for top in ("pools", "recipes") for file in _listed(os.path.join(root, top), top)}

    def read(file: RepoFile) -> bytes:
        with open(os.path.join(root, file.path), "rb", buffering=0) as opened:
            return opened.read()

    return RepoFiles(revision="", entries=entries, read=read)


def _listed(folder: str, place: str) -> Iterator[RepoFile]:
    """A folder's own files by name, then those of the folders in it; none where it can't be listed."""
    try:
        with os.scandir(folder) as found:
            inside = sorted(found, key=lambda one: one.name)
    except OSError:
        return
    folders = [one for one in inside if one.is_dir(follow_symlinks=False)]
    for one in inside:
        if not one.is_dir(follow_symlinks=False):
            yield _entry(f"{place}/{one.name}", one)
    for one in folders:
        yield from _listed(one.path, f"{place}/{one.name}")


def _entry(path: str, found: "os.DirEntry[str]") -> RepoFile:
    if not found.is_file(follow_symlinks=False):
        return RepoFile(path=path, blob="", kind=FileKind.SYMLINK)
    return RepoFile(path=path, blob=path, size=found.stat(follow_symlinks=False).st_size)
