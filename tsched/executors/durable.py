"""Files that survive a power cut, and small JSON records read leniently."""

import errno
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from tsched.failpoint import failpoint


def write(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """A new file, for its owner alone; on disk when this returns, if it is to be lasting.

    Raises OSError; FileExistsError where it is there already.
    """
    failpoint("to be written")
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    failpoint("made, and empty")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        if lasting:
            file.flush()
            os.fsync(handle)


def replace(path: Path, data: bytes, *, writer: str = "") -> None:
    """The file as a whole, old or new, never a mixture. Raises OSError.

    `writer`: tells those apart that may write it at the same time; "" where there is one at a time.
    """
    temp = path.with_name(f".{path.name}{writer}.tmp")
    temp.unlink(missing_ok=True)
    write(temp, data)
    failpoint("written beside")
    temp.rename(path)
    failpoint("renamed")
    sync(path.parent)


def decide(path: Path, data: bytes, *, writer: str) -> None:
    """A new file as a whole, at once and for good: of several that try, one does. Durable when this returns.

    `writer`: tells apart those that may try at the same time. Raises OSError; FileExistsError where it is there.
    """
    temp = path.with_name(f".{path.name}.{writer}.tmp")
    temp.unlink(missing_ok=True)
    write(temp, data)
    try:
        os.link(temp, path)
    finally:
        temp.unlink()
    sync(path.parent)


def sync(folder: Path) -> None:
    """Make the folder's entries durable. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path, *, most: int | None = None) -> bytes:
    """A plain file's bytes, at most the first `most`. Raises OSError, also for what is no plain file.

    An agent knows where its run's files are: a named pipe in the place of one would stop the reader for ever.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        return file.read() if most is None else file.read(most)


def end(path: Path, most: int) -> bytes:
    """The last bytes of a plain file, at most so many. Raises as `read` does."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        file.seek(max(0, file.seek(0, os.SEEK_END) - most))
        return file.read(most)


def record(path: Path) -> Mapping[str, object] | None:
    """A JSON object from a file; None where there is none, {} where it can't be read as one."""
    try:
        value = json.loads(read(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def number(fields: Mapping[str, object] | None, name: str) -> int:
    """An integer field of a record, 0 where it is missing or something else."""
    value = (fields or {}).get(name)
    return value if isinstance(value, int) else 0
