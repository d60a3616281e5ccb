"""The runner's hands: every outside thing one cycle touches, opened once and passed around as one value."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from tsched.executors.executor import Executor
from tsched.executors.local import LocalExecutor
from tsched.executors.runtimes import TASKS_MCP
from tsched.gitops.mirror import Mirror
from tsched.model.errors import ConfigurationError
from tsched.model.history import Sample
from tsched.model.secrets import masked
from tsched.observe.log import OperatorLog
from tsched.runner.sources import mcp_of, source_of
from tsched.settings import Settings
from tsched.state.database import Database
from tsched.state.folder import StateFolder
from tsched.state.leases import Leases
from tsched.state.passes import open_passes
from tsched.tasks.source import TaskSource
from tsched.validate.fleet import FleetCache


@dataclass(kw_only=True, slots=True)
class Host:
    """What a cycle works with. `clock` gives seconds since the epoch."""

    settings: Settings
    folder: StateFolder
    db: Database
    mirror: Mirror
    leases: Leases
    tasks: TaskSource
    executor: Executor
    log: OperatorLog
    runner_id: str
    history: Database
    sampled: dict[str, Sample] = field(default_factory=dict)  # by queue: what history.db was last told; a cache
    clock: Callable[[], float] = time.time
    cache: FleetCache = field(default_factory=FleetCache)

    @property
    def shown_repo(self) -> str:
        """The fleet repo's address without its credentials."""
        return masked(self.settings.repo or "")

    def close(self) -> None:
        """Give everything back; runs go on."""
        self.tasks.close()
        self.mirror.close()
        self.db.close()
        self.history.close()
        self.log.close()


def folder_of(settings: Settings) -> StateFolder:
    """The state folder that these settings name."""
    return StateFolder(settings.state, settings.running_dir, settings.log_dir)


def repo_of(settings: Settings) -> str:
    """The fleet repo's address. Raises ConfigurationError where none is set."""
    if settings.repo is None:
        raise ConfigurationError(
            "no fleet repo is set: set TSCHED_REPO to its address or path, in the environment or an env file"
        )
    return settings.repo


def open_host(settings: Settings, *, echo: TextIO | None = None) -> Host:
    """Open all that a runner needs, making the state folder. Raises any branch of TschedError."""
    repo = repo_of(settings)
    folder = folder_of(settings)
    folder.create()
    log = OperatorLog(folder.logs, level=settings.log_level, echo=echo, as_json=settings.log_format == "json")
    history, damaged = open_passes(folder.history_db)
    for note in (*settings.notes, *filter(None, (damaged,))):
        log.warning(note)
    return Host(
        settings=settings,
        folder=folder,
        db=Database.open(folder.db),
        mirror=Mirror(folder.mirror, repo, settings.branch),
        leases=Leases(folder.running),
        tasks=source_of(settings, folder),
        executor=executor_of(settings, folder),
        log=log,
        runner_id=folder.runner_id(),
        history=history,
    )


def executor_of(settings: Settings, folder: StateFolder) -> LocalExecutor:
    """The local machine, with this host's environment. Agents are told where the task server's MCP tools are."""
    mcp = mcp_of(settings)
    told = {} if mcp is None else {TASKS_MCP: mcp}
    return LocalExecutor(
        runs=folder.runs,
        running=folder.running,
        logs=folder.run_logs,
        workspaces=folder.workspaces,
        environ={**settings.environ, **told},
        pass_env=(*settings.pass_env, *told),
    )
