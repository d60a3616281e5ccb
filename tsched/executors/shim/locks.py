"""Locks that the shim takes, and those of git that a kill has left."""

import fcntl
import os
import time

STALE_LOCK = 60.0  # seconds after which a lock file of git is taken for one that a kill left behind


def unlock(cache: str) -> None:
    """Remove from a shared repository the locks that a killed git has left: old ones of what setup itself writes."""
    try:
        for place, folders, names, at in os.fwalk(cache):  # by handle: no link that is put there leads it elsewhere
            if place == cache:
                folders[:] = ["refs"]
            for name in names:
                if name.endswith(".lock"):
                    drop_stale(name, at)
    except OSError:
        return  # not made yet


def drop_stale(name: str, folder: int) -> None:
    """Remove a file that has been in a folder (its handle) for too long."""
    try:
        if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < time.time() - STALE_LOCK:
            os.unlink(name, dir_fd=folder)
    except OSError:
        return


def try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
