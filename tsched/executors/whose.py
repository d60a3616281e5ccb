"""The id of the runner whose state folder this is, as its jobs and their nodes are told it."""

from pathlib import Path

NONE = "none"


def runner_id(runs: Path) -> str:
    """What stands beside the folder of runs; NONE where nothing that can be read does."""
    try:
        return (runs.parent / "runner_id").read_text(encoding="ascii").strip()[:63] or NONE
    except (OSError, ValueError):
        return NONE
