"""The task source that a host's settings name."""

from typing import TYPE_CHECKING

from tsched.model.errors import ConfigurationError
from tsched.settings import Settings
from tsched.state.folder import StateFolder
from tsched.tasks.embedded import EmbeddedTasks

if TYPE_CHECKING:  # a protocol alone: `tsched status` starts without it
    from tsched.tasks.source import TaskSource


def mcp_of(settings: Settings) -> str | None:
    """Where agents find the task server's MCP tools: as set, else at the TinyTask server, else nowhere."""
    if settings.tasks_mcp is not None or settings.tasks is None or not settings.tasks.startswith("tinytask+"):
        return settings.tasks_mcp
    from tsched.tasks.wire import base_of, shown

    return shown(base_of(settings.tasks)[1])  # it goes into argv, where no password may be


def source_of(settings: Settings, folder: StateFolder, *, read_only: bool = False) -> "TaskSource":
    """Open it; a server is not asked yet. `read_only`: no file is made or changed. Raises ConfigurationError."""
    address = settings.tasks
    if address is None:
        return EmbeddedTasks(folder.tasks_db, read_only=read_only)
    if address.startswith("tinytask+"):
        from tsched.tasks.detected import tinytask_at

        return tinytask_at(address, ledger=folder.ledger, token=settings.tasks_token, read_only=read_only)
    if address.startswith("github"):
        from tsched.tasks.github import issues_at

        return issues_at(
            address, ledger=folder.ledger, token=settings.tasks_token,
            review=settings.github_on_complete == "review", read_only=read_only,
        )  # fmt: skip
    raise ConfigurationError(f"{settings.sources['tasks']} names a task server of an unknown kind")
