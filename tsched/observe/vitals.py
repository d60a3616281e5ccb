"""Signs of life: what metrics and the readiness of a runner are judged by."""

from collections.abc import Sequence
from dataclasses import dataclass

from tsched.model.alert import Alert
from tsched.model.history import Sample, Total
from tsched.model.units import format_duration, from_iso
from tsched.observe.status import RunStatus, Status

GRACE = 60.0  # seconds that a pass may be late besides one interval: it may be long itself
MISSED = 4  # heartbeats without which a run counts as stale


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """`pid`: of the runner that holds the state folder just now. `interval`: seconds between passes.

    `heartbeat`: seconds between the heartbeats of runs.
    """

    pid: int | None
    interval: float
    heartbeat: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """All that metrics are made of. `samples`: each served queue at the last pass. `now`: seconds since the epoch."""

    status: Status
    alerts: Sequence[Alert]
    totals: Sequence[Total]
    samples: Sequence[Sample]
    pulse: Pulse
    now: float


def last_pass(status: Status) -> float | None:
    """When the last pass ended, seconds since the epoch; None before the first."""
    ended = status["runner"]["last_cycle"]
    return None if ended is None else from_iso(ended)


def late(status: Status, pulse: Pulse, now: float) -> str | None:
    """Why the runner is not ready, in words; None where its last pass is as young as it should be."""
    ended = last_pass(status)
    if ended is None:
        return "no pass has ended here yet: start `tsched run --daemon`"
    allowed = 2 * pulse.interval + GRACE
    if now - ended <= allowed:
        return None
    ago, due = format_duration(float(round(now - ended))), format_duration(pulse.interval)
    who = "no runner is alive" if pulse.pid is None else f"the runner with pid {pulse.pid} is alive"
    return f"the last pass ended {ago} ago and one is due every {due}; {who}"


def stale(run: RunStatus, heartbeat: float, now: float) -> bool:
    """Whether a run has missed several heartbeats. Locally that is a warning alone."""
    return now - from_iso(run["heartbeat"]) > MISSED * heartbeat
