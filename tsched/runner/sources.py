"""The task source that a host's settings name."""

from tsched.model.errors import ConfigurationError
from tsched.settings import Settings
from tsched.state.folder import StateFolder
from tsched.tasks.embedded import EmbeddedTasks
from tsched.tasks.source import TaskSource


def source_of(settings: Settings, folder: StateFolder, *, read_only: bool = False) -> TaskSource:
    """Open it; a server is not asked yet. `read_only`: no file is made or changed. Raises ConfigurationError."""
    address = settings.tasks
    if address is None:
        return EmbeddedTasks(folder.tasks_db, read_only=read_only)
    if address.startswith("tinytask+"):
        from tsched.tasks.detected import tinytask_at

        return tinytask_at(address, ledger=folder.ledger, token=settings.tasks_token, read_only=read_only)
    raise ConfigurationError(f"{settings.sources['tasks']} names a task server of an unknown kind")
