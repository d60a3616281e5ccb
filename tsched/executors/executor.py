"""The protocol every executor is driven through."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from tsched.model.errors import TransientError
from tsched.model.fleet import Recipe, Resources, Runtime, Workspace
from tsched.model.placement import Kubernetes, Slurm
from tsched.model.run import ExitReason, Lease, Run, RunExit
from tsched.model.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """The conversation that a run goes on with: its name, the run before, and how that one ended, in words."""

    session: str
    before: Run
    ended: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """All that a run needs, pinned: nothing of it is looked up again later. Times are seconds."""

    run: Run
    task: Task
    lease: Lease
    recipe: Recipe
    runtime: Runtime
    max_runtime: float
    stop_grace: float
    heartbeat: float
    stall: float = 0.0  # without progress; 0: no limit
    resources: Resources = field(default_factory=Resources)
    slurm: Slurm = field(default_factory=Slurm)
    kubernetes: Kubernetes = field(default_factory=Kubernetes)
    workspace: Workspace | None = None
    again: Again | None = None


class Liveness(StrEnum):
    ALIVE = "alive"
    ENDED = "ended"  # its exit is on record
    LOST = "lost"  # no process, no record: recover it. Never said of what can't be seen just now


class Executor(Protocol):
    """Starts runs, knows whether they live, stops them. The executor alone decides liveness."""

    def prepare(self, launch: Launch) -> None:
        """Durably write all that the run needs, before the claim. Nothing runs yet.

        Raises ConfigurationError where it could never start (no such program, a required variable missing): the
        run's folder is then gone again.
        """
        ...

    def resumable(self, before: Run, pool_workspace: Workspace | None) -> bool:
        """Whether a run of a pool with that workspace can go on in the folder of an ended one: nobody else needs it.

        Conversations are bound to their folder: opencode and goose's shell work where theirs began.
        """
        ...

    def start(self, run_id: str) -> None:
        """Start a prepared run. Raises TransientError where the machine refuses; the run is then LOST, not alive."""
        ...

    def confirm(self) -> Mapping[str, TransientError]:
        """After any number of `start`: wait, within bounds, until what they asked for has begun.

        Returns what the machine refused, by run id, with why: those runs are LOST, not alive.
        """
        ...

    def attend(self) -> None:
        """Do for runs that have no shim what theirs do for others. For the runner alone, once a pass, before `poll`.

        Never raises: what could not be done is told by `trouble`.
        """
        ...

    def poll(self) -> Mapping[str, Liveness]:
        """Every run that this executor still has a record of, by run id. One pass, whatever their number."""
        ...

    def trouble(self) -> str:
        """Why the newest poll could not see every run: those count as alive. "" where it saw them all."""
        ...

    def run(self, run_id: str) -> Run | None:
        """What was recorded of the run at `prepare`; None where the record is unreadable or gone."""
        ...

    def exit(self, run_id: str) -> RunExit | None:
        """How an ended run ended."""
        ...

    def recover(self, run_id: str) -> RunExit | None:
        """Fence a lost run: make sure it can't start, kill what is left of it, record its end.

        None where something of it is still alive: ask again next cycle.
        """
        ...

    def stop(self, run_ids: Collection[str], *, reason: ExitReason, at: float) -> None:
        """Ask that these runs be stopped at a time (seconds since the epoch; the past means now). Durable.

        It holds also while the runner is down. A run that has such a request already keeps the earlier time.
        """
        ...

    def recall(self, run_id: str) -> bool:
        """Take a drain's stop request back, no other. False where the run has begun to stop for it."""
        ...

    def stopping(self, run_id: str) -> bool:
        """Whether the run has begun to stop for a drain (after its request's time, before its end)."""
        ...

    def salvage(self, run_id: str) -> Sequence[str]:
        """Save the unsaved work of an ended run's workspace. Repeatable. Returns a line for people for each thing."""
        ...

    def discard(self, run_id: str, *, succeeded: bool) -> None:
        """Remove the run's record and, unless it is kept, its workspace. Its log stays. Repeatable."""
        ...

    def tidy(self) -> None:
        """Go on with removals of workspaces that had to wait: for a hook, or for a process in them."""
        ...

    def head(self, run_id: str) -> str:
        """The first 64 KiB of the run's log, as text ("" where there is none)."""
        ...

    def tail(self, run_id: str, *, lines: int = 20) -> str:
        """The last lines of the run's log, as text ("" where there is none)."""
        ...

    def close(self) -> None:
        """The runner ends; runs go on."""
        ...
