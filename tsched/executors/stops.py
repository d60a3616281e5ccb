"""Requests to stop a run: files of its folder, which its shim obeys at their time, whoever lives by then."""

import json
import os
from collections.abc import Mapping

from tsched.executors import durable
from tsched.executors.runfolder import RunFolder
from tsched.failpoint import failpoint
from tsched.model.errors import TransientError
from tsched.model.run import ExitReason


def ask(folder: RunFolder, *, reason: ExitReason, at: float) -> None:
    """Leave a request; an earlier one stands. `at`: seconds since the epoch.

    Raises TransientError where it can't be written.
    """
    known = (durable.record(folder.stop) or {}).get("at")
    earlier = isinstance(known, int | float) and known <= at
    if earlier or folder.stopping.exists() or not folder.path.is_dir():
        return
    request = json.dumps({"at": at, "reason": str(reason)}).encode()
    try:
        durable.replace(folder.stop, request, writer=f".{os.getpid()}")  # `tsched stop --now` and the runner both ask
    except FileNotFoundError:
        return  # it has just ended, and been reaped
    except OSError as error:
        raise TransientError(f"run {folder.path.name} can't be asked to stop: {error}: make room there") from error


def recall(folder: RunFolder) -> bool:
    """Take a drain's request back, no other. False where the run has begun to stop for it."""
    if _of_drain(durable.record(folder.stop)):
        failpoint("stop to be recalled")
        folder.stop.unlink(missing_ok=True)
        failpoint("stop recalled")
    return not _drained(folder)


def stopping(folder: RunFolder) -> bool:
    """Whether the run is being stopped at a drain's request."""
    return _drained(folder) and not folder.exit.exists()


def _drained(folder: RunFolder) -> bool:
    return folder.stopping.exists() and _of_drain(durable.record(folder.stopping))


def _of_drain(request: Mapping[str, object] | None) -> bool:
    """One that can't be read may be a drain's."""
    return (request or {}).get("reason") in (None, str(ExitReason.DRAIN))
