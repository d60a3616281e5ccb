"""Files as the shim reads and writes them, its own words, and where a test may kill it."""

import os
import sys
import time

from .bare import signal

TYPE_CHECKING = False  # typing itself would slow the start
if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = iter(range(1000))  # one for each complaint of its own: a disk that stays full is not told for ever

FAILPOINT = os.environ.get("TSCHED_FAILPOINT", "")  # as tsched.failpoint, for tests alone


def failpoint(step: str) -> None:
    """Where kill -9 may come; nothing where no test asks for it."""
    if not FAILPOINT:
        return
    file = os.environ.get("TSCHED_FAILPOINT_FILE", os.devnull)
    if FAILPOINT == "*":
        with open(file, "a", encoding="utf-8") as trace:
            trace.write(f"shim: {step}\n")
    elif f"shim: {step}" == FAILPOINT:
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def stamp(epoch: float) -> str:
    """RFC 3339, UTC, milliseconds; as tsched.model.units.iso."""
    millis = round(epoch * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(millis // 1000)) + f"{millis % 1000:03d}Z"


def attempt(action: "Callable[..., object]", *arguments: object) -> None:
    """Do it where it can be done. (contextlib.suppress would cost a fifth of the start.)"""
    try:
        action(*arguments)
    except OSError:
        return


def read_text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def complain(text: str) -> None:
    """Into the shim's own log, within bounds, where the disk takes it: mostly that is what it complains of."""
    if next(WORDS, None) is not None:
        attempt(lambda words: print(words, file=sys.stderr, flush=True), text)


def write_atomically(path: str, text: str, *, durable: bool) -> None:
    """Temp file, fsync, rename, directory fsync: a reader sees the old text or the new, a power cut too."""
    folder, name = os.path.split(path)
    temp = os.path.join(folder, "." + name.removesuffix(".json") + ".shim.tmp")
    handle = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        view = memoryview(text.encode("utf-8", "backslashreplace"))  # which is how JSON writes half a character
        while view:
            view = view[os.write(handle, view) :]
        if durable:
            os.fsync(handle)
    except OSError:
        os.unlink(temp)
        raise
    finally:
        os.close(handle)
    failpoint(f"{name.partition('_')[0]} written beside")
    os.rename(temp, path)
    failpoint(f"{name.partition('_')[0]} renamed")
    if durable:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
