"""The lock that a shim holds for life, seen from outside."""

import fcntl
import os
from pathlib import Path


def locked(path: Path | str) -> bool:
    """Whether a shim holds the lock. Shared, so that two readers at once don't take each other for one."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
