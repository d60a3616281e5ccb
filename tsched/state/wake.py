"""Waking the runner that holds a state folder."""

import os
import signal
from contextlib import suppress

from tsched.state import holder
from tsched.state.folder import StateFolder


def wake(folder: StateFolder) -> int | None:
    """Have the daemon of this state folder cycle at once. Its pid; None where there is none.

    The file that names a pid may be old or edited: only a process that holds the folder's lock is signalled.
    """
    if not _held(folder) or (found := holder.find(folder)) is None:
        return None
    try:
        handle = os.pidfd_open(found.pid)
    except ProcessLookupError:  # it has just ended
        return None
    try:
        if not holder.holds(found.pid, folder):  # looked at after the handle was taken: it may be a stranger by now
            return None
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGHUP)
    finally:
        os.close(handle)
    return found.pid


def _held(folder: StateFolder) -> bool:
    try:
        return holder.held(folder)
    except OSError:
        return False
