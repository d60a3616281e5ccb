"""Runs, their leases and their ends."""

from enum import StrEnum

from tsched.model.records import dataclass
from tsched.model.task import Settlement


class LeaseState(StrEnum):
    CLAIMING = "claiming"  # written by the runner, before the claim on the task server
    RUNNING = "running"  # written by the shim, once the agent has been started


class Outcome(StrEnum):
    COMPLETE = "complete"
    FAILED = "failed"
    UNPROVEN = "unproven"  # exited 0 without evidence that the task was done
    INTERRUPTED = "interrupted"  # stopped for a reason of ours: drain, operator, reboot
    CANCELLED = "cancelled"  # the task was cancelled under the run


class ExitReason(StrEnum):
    """Why a run ended, as the shim (or, where the shim died, recovery) wrote it into exit.json."""

    EXITED = "exited"  # the agent ended by itself: see exit_code
    TIMEOUT = "timeout"  # max_runtime passed
    STALLED = "stalled"  # it made no progress for `stall`
    DRAIN = "drain"  # its removed agent's deadline passed
    STOPPED = "stopped"  # an operator's stop: TERM to the shim, or a stop request
    LEASE_GONE = "lease-gone"  # the lease was removed by hand
    CANCELLED = "cancelled"  # a stop request because the task was cancelled or taken away
    NOT_STARTED = "not-started"  # recovery fenced it before the agent started
    START_FAILED = "start-failed"  # the agent's program could not be started: see detail
    SHIM_DIED = "shim-died"
    REBOOT = "reboot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The durable record that a run owns a task; TinyScheduler's fields first. Times: RFC 3339, UTC.

    `pid` is the shim's. Process identity is pid + start time (clock ticks since boot, field 22 of
    /proc/PID/stat) + boot id.
    """

    task_id: str
    agent: str
    pid: int
    recipe: str
    started_at: str
    heartbeat: str
    host: str
    state: LeaseState
    run_id: str
    attempt: int
    revision: str
    pool: str
    queue: str
    executor: str
    process_start: int = 0
    boot_id: str = ""
    agent_pid: int = 0
    agent_start: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunExit:
    """`runs/<run_id>/exit.json`: how a run ended. Times are seconds since the epoch.

    exit_code is 128 + N for an agent that ended by signal N, and None where no agent ran. `unmet`: the check of the
    recipe that did not succeed after the agent had exited with 0, and how; "" where all did.
    `started`: whether the run ever reached `running`.
    """

    run_id: str
    reason: ExitReason
    started: bool
    exit_code: int | None = None
    detail: str = ""
    unmet: str = ""
    started_at: float = 0.0
    ended_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt at one task by one agent, pinned to one revision (`runs/<run_id>/run.json`, and history)."""

    run_id: str
    task_id: str
    agent: str
    pool: str
    queue: str
    attempt: int
    revision: str
    executor: str
    recipe: str
    runtime: str
    evidence: str
    created_at: float
    workspace: str = ""  # absolute path, "" for none
    workspace_repo: str = ""
    keep: str = "never"
    content: str = ""  # of the recipe with all that it reaches: changes where they do
    response: str = ""  # the JSON Schema of its answer, as JSON text; history leaves it out
    assigned_before: str | None = None  # who the task belonged to before the claim
    title: str = ""  # the task's
    queued_at: float = 0.0  # when the task was made
    first: bool = False  # no run of the task came before it (or none since a person reopened it)
    keeps_session: bool = False  # a retry may go on with its conversation
    session: str = ""  # the agent's name of the conversation that it goes on with; "": a new one


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a run's agent says that it spent. `total_tokens` is the agent's own sum where it gives one."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cost_usd: float | None = None

    def __add__(self, other: "Usage") -> "Usage":
        costs = [one for one in (self.cost_usd, other.cost_usd) if one is not None]
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
            cost_usd=sum(costs) if costs else None,
        )

    def __sub__(self, other: "Usage") -> "Usage":
        """What came after `other`; no figure is less than 0."""
        return Usage(
            input_tokens=max(0, self.input_tokens - other.input_tokens),
            output_tokens=max(0, self.output_tokens - other.output_tokens),
            total_tokens=max(0, self.total_tokens - other.total_tokens),
            cost_usd=None if self.cost_usd is None else max(0.0, self.cost_usd - (other.cost_usd or 0.0)),
        )

    def __str__(self) -> str:
        cost = "" if self.cost_usd is None else f", ${self.cost_usd:.2f}"
        return f"{self.total_tokens} tokens{cost}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What an agent's runs in a queue spent together. `cost_usd`: None where none of them gives a cost."""

    agent: str
    queue: str
    runs: int
    total_tokens: int
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A finished run as history keeps it: the run, its exit and what was decided, once, of it and its task."""

    run: Run
    exit: RunExit
    outcome: Outcome
    reason: str
    settlement: Settlement
    acknowledged: bool = False  # the task server has taken the result
    usage: Usage | None = None  # None: its output names none
    session: str = ""  # the agent's name of a conversation that a retry may go on with


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRun:
    """A run as far as it is known: in progress by its lease, ended by its result, or both for a moment.

    `run` is what was recorded when it was prepared, its task's title among it; None where that is gone.
    """

    run_id: str
    lease: Lease | None = None
    run: Run | None = None
    result: RunResult | None = None
