"""Waking the runner that holds a state folder."""

import os
import signal

from tsched.state.folder import StateFolder
from tsched.state.lock import holder


def wake(folder: StateFolder) -> int | None:
    """Have the daemon of this state folder cycle at once. Its pid; None where there is none."""
    pid = holder(folder)
    try:
        if pid is not None:
            os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:  # it has just ended
        return None
    return pid
