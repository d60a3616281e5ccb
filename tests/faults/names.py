"""The fail-points by name, with the act in which each is struck; `python -m tests.faults --list` writes the files.

One that is passed only by a runner that comes back after a kill is written behind that kill: `first => then`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

THEN = " => "
HERE = Path(__file__).parent


def listed(*, served: bool = False) -> Mapping[str, Sequence[str]]:
    """By act, in the order in which they are passed. Of the served queue: those that the embedded one lacks."""
    found: dict[str, list[str]] = {}
    for line in file(served=served).read_text(encoding="utf-8").splitlines():
        act, _, point = line.partition("\t")
        found.setdefault(act, []).append(point)
    return found


def file(*, served: bool = False) -> Path:
    """Where they are written down."""
    return HERE / ("points_served.txt" if served else "points.txt")
