"""What a run was told about time when it was prepared, for those who only look."""

from dataclasses import dataclass
from pathlib import Path

from tsched.executors import durable
from tsched.executors.runfolder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Seconds: between heartbeats, and from the start to when all of the run is over at the latest."""

    heartbeat: float
    allowed: float


def clocks(runs: Path, run_id: str) -> Clocks | None:
    """Those of a run below the folder `runs`; None where its record is gone or can't be read."""
    spec = durable.record(RunFolder(path=runs / run_id).spec) or {}
    hooks, checks = spec.get("hooks"), spec.get("checks")
    after = [("check_limit", len(checks) if isinstance(checks, list) else 0)]
    after += [("hook_limit", len(hooks) if isinstance(hooks, dict) else 0), ("max_runtime", 1), ("stop_grace", 1)]
    figures = {name: spec.get(name) for name in ("heartbeat", *(name for name, _ in after))}
    known = {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}
    if known.keys() != figures.keys():
        return None
    return Clocks(heartbeat=known["heartbeat"], allowed=sum(known[name] * times for name, times in after))
