"""Where the files of a run are, and all else that a run takes from its machine."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tsched.executors import cgroups, durable, parcel
from tsched.executors.account import Account
from tsched.executors.workspace import Worktree, cache_of
from tsched.model.run import Run

SAFE = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what a run, a task and an agent may be called: it names files
HALF_MADE, HALF_GONE = ".new_", ".gone_"  # what the names of run folders begin with meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """Where each file of a run is. `path` is runs/<run_id>."""

    path: Path

    @property
    def run(self) -> Path:
        """The run as model/run.py's Run, and the boot id at that time."""
        return self.path / "run.json"

    @property
    def spec(self) -> Path:
        """What the shim is to do."""
        return self.path / "spec.json"

    @property
    def task(self) -> Path:
        """The task, for the agent to read."""
        return self.path / "task.json"

    @property
    def lock(self) -> Path:
        """Held by the shim for as long as it lives."""
        return self.path / "lock"

    @property
    def started(self) -> Path:
        """The fence: whoever creates it, shim or recovery, decides whether the agent starts."""
        return self.path / "started"

    @property
    def agent(self) -> Path:
        """The agent's process, written by the shim just before it starts."""
        return self.path / "agent.json"

    @property
    def exit(self) -> Path:
        """How the run ended."""
        return self.path / "exit.json"

    @property
    def stop(self) -> Path:
        """A stop request: {at, reason}."""
        return self.path / "stop"

    @property
    def stopping(self) -> Path:
        """The stop request, once the shim acts on it."""
        return self.path / "stopping"

    def hook(self, name: str) -> str:
        """The script of a hook as it was when the run was prepared, "" where there is none."""
        hooks = (durable.record(self.spec) or {}).get("hooks")
        return str(hooks.get(name, "")) if isinstance(hooks, dict) else ""

    def group(self, run_id: str) -> Path | None:
        """The run's cgroup, None where it has none, or it is gone."""
        return cgroups.group_of((durable.record(self.spec) or {}).get("cgroup"), run_id)

    @property
    def hooked(self) -> Path:
        """Present once before_remove has had its chance."""
        return self.path / "hooked"

    @property
    def shim_log(self) -> Path:
        """What the shim itself had to say."""
        return self.path / "shim.log"

    @property
    def job(self) -> Path:
        """What a cluster engine is asked for; present where the run is a job of one."""
        return self.path / "job.json"

    @property
    def script(self) -> Path:
        """What the job runs."""
        return self.path / "job.sh"

    @property
    def apart(self) -> bool:
        """Whether it is a job on a node that shares no folder with the runner."""
        return bool((durable.record(self.job) or {}).get("ticket"))

    @property
    def submitted(self) -> Path:
        """Present once the job may have been submitted."""
        return self.path / "submitted"

    @property
    def missed(self) -> Path:
        """Made when the job was first found gone."""
        return self.path / "missed"

    @property
    def unsaved(self) -> Path:
        """Present where the workspace holds work that could not be saved."""
        return self.path / "unsaved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a run takes from the machine: folders (absolute), environment, the names that agents may see."""

    runs: Path
    running: Path
    logs: Path
    workspaces: Path
    environ: Mapping[str, str]
    pass_env: Collection[str]
    boot_id: str
    log_max: int  # bytes of a run's log
    account: Account | None = None  # the user that agents run as; None: the runner's own
    address: str = ""  # where nodes that share no folder with the runner find `tsched serve`

    def apart(self, run_id: str) -> "Host":
        """Where a run is on a node that shares no folder with the runner."""
        root = parcel.place(run_id)
        return replace(
            self, runs=root / "runs", running=root / "running", logs=root / "logs", workspaces=root / "workspaces"
        )

    def folder(self, run_id: str) -> RunFolder:
        return RunFolder(path=self.runs / run_id)

    def log(self, run_id: str) -> Path:
        return self.logs / f"{run_id}.log"

    def place(self, run_id: str, run: Run | None) -> Path:
        """The run's workspace: a folder of its own, or that of the run whose conversation it goes on with."""
        return Path(run.workspace) if run is not None and run.workspace else self.workspaces / run_id

    def worktree(self, run: Run) -> Worktree | None:
        """The run's git worktree, None where it works in a plain folder."""
        if not run.workspace_repo:
            return None
        cache = cache_of(self.workspaces, run.workspace_repo)
        return Worktree(folder=Path(run.workspace), cache=cache, run=run)
