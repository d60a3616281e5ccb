"""Tasks as every task source shows them to the runner."""

from enum import StrEnum

from tsched.model.records import dataclass


class TaskStatus(StrEnum):
    IDLE = "idle"
    WORKING = "working"
    COMPLETE = "complete"
    PARKED = "parked"  # given up after the last attempt: a person must look
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task. Times are seconds since the epoch; ids are text (embedded: decimal digits)."""

    id: str
    title: str
    queue: str
    status: TaskStatus = TaskStatus.IDLE
    description: str = ""
    assigned_to: str | None = None
    priority: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0
    blocked_by: str | None = None
    blocked: bool = False  # its blocker is not complete yet
    attempts: int = 0  # charged runs so far
    runs: int = 0  # runs of any kind so far
    not_before: float = 0.0  # back-off: not ready before this time
    claim_run: str | None = None
    claim_runner: str | None = None
    created_by: str = ""
    parent: str | None = None  # whose subtask it is

    def age_key(self) -> tuple[float, int, str]:
        """Older first, then the smaller id (numbers as numbers)."""
        return (self.created_at, int(self.id) if self.id.isdecimal() else 0, self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """A remark on a task. `tag` names the run it speaks of, so that a repeated write is found again."""

    author: str
    text: str
    created_at: float
    tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """How many tasks wait, are blocked (a part of the waiting) and are being worked on in a queue."""

    name: str
    idle: int = 0
    blocked: int = 0
    working: int = 0


class Verdict(StrEnum):
    """What the end of a run does to its task."""

    COMPLETE = "complete"
    RETRY = "retry"  # idle again, not before a time
    PARK = "park"
    STAND = "stand"  # the task was changed by the agent or a person: leave it as it is, only let the claim go


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How a run's task is left. `charged`: the run counts as an attempt. `assigned_to` applies to RETRY and PARK.

    `not_before`: seconds since the epoch before which the task is not ready again.
    """

    verdict: Verdict
    charged: bool = True
    not_before: float = 0.0
    assigned_to: str | None = None
