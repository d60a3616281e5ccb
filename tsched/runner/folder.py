"""The state folder that a host's settings name. Light: commands that only look need no more of the runner."""

from tsched.settings import Settings
from tsched.state.folder import StateFolder


def folder_of(settings: Settings) -> StateFolder:
    """The state folder that these settings name; nothing is made."""
    return StateFolder(settings.state, settings.running_dir, settings.log_dir)
