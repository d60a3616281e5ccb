"""Whether a branch of a repository on this machine can have moved, told by its files alone."""

import os
import time
from urllib.parse import unquote

Mark = tuple[tuple[int, ...] | None, ...]  # of the files that say where a branch is: another one after each write
TICK = 2.0  # seconds in which a file may be written twice and look the same: the coarsest clock of a file system


def mark(address: str, branch: str) -> Mark | None:
    """What tells the branch as it is now from any other. None where these files do not, or not yet.

    git puts each of them there as a new file, by a rename: branches as files, packed ones, and those of a reftable.
    Blocks where the disk hangs, and holds nothing of Python meanwhile.
    """
    root = unquote(address.removeprefix("file://")) if address.startswith("file://") else address
    if os.path.isdir(f"{root}/.git"):
        root = f"{root}/.git"
    head, own = _of(f"{root}/HEAD"), _of(f"{root}/refs/heads/{branch}")
    if head is None or os.path.exists(f"{root}/commondir"):  # a work tree beside its repository
        return None
    if own is not None and _names_another(f"{root}/refs/heads/{branch}"):
        return None
    found = (head, own, _of(f"{root}/packed-refs"), _of(f"{root}/reftable/tables.list"))
    newest = max(one[3] for one in found if one is not None)
    return found if time.time_ns() - newest > TICK * 1e9 else None


def _names_another(path: str) -> bool:
    """Whether a branch's file holds another's name instead of a commit's."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(4) == b"ref:"
    except OSError:
        return True  # it went just now


def _of(path: str) -> tuple[int, ...] | None:
    try:
        facts = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_uid)
