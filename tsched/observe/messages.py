"""The operator's messages, word for word as the guide's greps and scripts read them: always plural."""

from collections.abc import Mapping, Sequence
from typing import Final

STARTING: Final = "Starting reconciliation pass"
LEGACY: Final = "Queue-based processing will be disabled. Using legacy agent_limits only."

# What every completed line counts, in this order; a pass may add others.
COUNTERS: Final = (
    "tasks_spawned",
    "unassigned_matched",
    "assigned_spawned",
    "blocked_skipped",
    "leases_scanned",
    "leases_reclaimed",
    "runs_ended",
    "errors",
)


def loaded_registry(source: str) -> str:
    """`source`: the control file, or the fleet repo and revision."""
    return f"Loaded agent registry from {source}"


def registered(agents: Sequence[str]) -> str:
    return f"Registered agents: {', '.join(agents)}"


def agent_types(queues: Sequence[str]) -> str:
    return f"Agent types (queues): {', '.join(queues)}"


def control_file_missing(path: str) -> str:
    return f"Agent control file not found: {path}"


def processing(queue: str) -> str:
    return f"Processing queue '{queue}'..."


def found(number: int, queue: str) -> str:
    """`number` counts the blocked ones too."""
    return f"Found {number} unassigned tasks in queue '{queue}'"


def found_assigned(number: int, agent: str) -> str:
    return f"Found {number} idle tasks for agent '{agent}'"


def available_slots(agent: str, number: int) -> str:
    return f"Agent '{agent}' has {number} available slots"


def filtered_out(number: int) -> str:
    return f"Filtered out {number} blocked task(s)"


def prioritizing(number: int) -> str:
    return f"Prioritizing {number} blocker task(s)"


def blocks(task: str, number: int) -> str:
    return f"Task {task} blocks {number} task(s)"


def assigning(task: str, queue: str, agent: str) -> str:
    """The guide counts by queue in the middle and by agent at the end."""
    return f"Assigning task {task} to queue {queue} agent {agent}"


def would_assign(task: str, queue: str, agent: str) -> str:
    """The dry run's `Assigning task`."""
    return f"[DRY RUN] Would assign task {task} to queue {queue} agent {agent}"


def blocked_skipped(number: int) -> str:
    return f"Blocked tasks skipped: {number}"


def completed(seconds: float, counters: Mapping[str, int]) -> str:
    return f"Reconciliation completed in {seconds:.2f}s: " + " ".join(
        f"{name}={number}" for name, number in counters.items()
    )


def broken_off(seconds: float, reason: str) -> str:
    return f"Reconciliation broken off after {seconds:.2f}s: {reason}"


def lines_lost(number: int) -> str:
    return f"{number} log lines could not be written before this one: see that the disk has room"
