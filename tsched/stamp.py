"""Tells whether a file or a folder is as it was, by one look at it."""

import os
import time
from pathlib import Path

SETTLED = 0.05  # seconds: a file may change again within one tick of its clock, and show the same times
Stamp = tuple[int, int]


def stamp(path: Path | str) -> Stamp | None:
    """What tells whether a file or a folder is as it was; None where it can't be seen."""
    try:
        facts = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return (facts.st_ino, facts.st_ctime_ns)  # no write, and no setting of another time, leaves the latter as it was


def settled(path: Path | str) -> Stamp | None:
    """The same, None where it changed just now (or, the clock having been set, is yet to change)."""
    found = stamp(path)
    return found if found is not None and time.time() - found[1] / 1e9 > SETTLED else None


class Listing:
    """The names in a folder, listed anew only where one came or went."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed: tuple[Stamp | None, frozenset[str]] = (None, frozenset())

    def names(self) -> frozenset[str]:
        """All names, the same object for as long as there are the same; none where there is no folder."""
        now = settled(self._folder)
        if now is None or now != self._listed[0]:
            try:
                found = frozenset(os.listdir(self._folder))
            except (FileNotFoundError, NotADirectoryError):
                found = frozenset()
            self._listed = (now, self._listed[1] if found == self._listed[1] else found)
        return self._listed[1]
