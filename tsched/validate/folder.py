"""A plain folder as the files of a revision: git is not needed."""

import hashlib
import os
from pathlib import Path

from tsched.model.files import FileKind, RepoFile, RepoFiles


def read_folder(root: Path) -> RepoFiles:
    """`pools/` and `recipes/` below a folder, links flagged and not followed. Blob ids are git's own."""
    entries: dict[str, RepoFile] = {}
    for top in ("pools", "recipes"):
        for folder, subfolders, names in os.walk(root / top):
            subfolders.sort()
            links = [name for name in subfolders if (Path(folder) / name).is_symlink()]
            for name in sorted([*names, *links]):
                file = _entry(root, Path(folder) / name)
                entries[file.path] = file
    return RepoFiles(revision="", entries=entries, read=lambda file: (root / file.path).read_bytes())


def _entry(root: Path, path: Path) -> RepoFile:
    name = path.relative_to(root).as_posix()
    if path.is_symlink() or not path.is_file():
        return RepoFile(path=name, blob="", kind=FileKind.SYMLINK)
    size = path.stat().st_size
    return RepoFile(path=name, blob=_blob_id(path) if size <= 1 << 20 else "", size=size)


def _blob_id(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data), usedforsecurity=False).hexdigest()
