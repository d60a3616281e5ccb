"""Where kill -9 may come between two steps: a test names one of these points, and the process ends there.

It is nothing at all unless TSCHED_FAILPOINT is set when the program starts: a point's name, or `*` to have the names
of all points that are passed appended to TSCHED_FAILPOINT_FILE. The one process that dies at the point creates that
file, so that the runner which is started next lives. The shim has its own copy: it imports nothing of ours.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from inspect import CO_GENERATOR
from types import FrameType

_EFFECTS = frozenset(  # they carry out a step for somebody else, whose name says more
    f"tsched.{name}"
    for name in (
        *("failpoint", "sqlite", "state.database", "state.folder", "executors.durable", "runner.record"),
        *("tasks.wire", "tasks.rest_wire", "tasks.mcp_wire", "tasks.detected", "runner.patient"),
        *("rest.call", "rest.http", "rest.github"),
    )
)


def _nothing(step: str, /) -> None:
    pass


def _armed(step: str, /) -> None:
    wanted, file = os.environ.get("TSCHED_FAILPOINT"), os.environ.get("TSCHED_FAILPOINT_FILE", os.devnull)
    name = f"{_place(sys._getframe(1))}: {step}"
    if wanted == "*":
        with open(file, "a", encoding="utf-8") as trace:
            trace.write(f"{name}\n")
    elif name == wanted:
        with suppress(FileExistsError):  # once is enough
            os.close(os.open(file, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)


def _place(frame: FrameType | None) -> str:
    """Who takes the step: the runner's function that wants it, and the one that does it."""
    doer = ""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        through = module in _EFFECTS or frame.f_code.co_flags & CO_GENERATOR  # a context manager
        if module.startswith("tsched.") and not through:
            name = f"{module.removeprefix('tsched.')}.{frame.f_code.co_name}"
            if module.startswith(("tsched.runner.", "tsched.cli.")):
                return f"{name} > {doer}" if doer else name
            doer = doer or name
        frame = frame.f_back
    return doer


failpoint: Callable[[str], None] = _armed if "TSCHED_FAILPOINT" in os.environ else _nothing
