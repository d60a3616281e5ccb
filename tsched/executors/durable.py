"""Files that survive a power cut, and small JSON records read leniently."""

import json
import os
from collections.abc import Mapping
from pathlib import Path


def write(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """A new file, for its owner alone; on disk when this returns, if it is to be lasting.

    Raises OSError; FileExistsError where it is there already.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        if lasting:
            file.flush()
            os.fsync(handle)


def replace(path: Path, data: bytes) -> None:
    """The file as a whole, old or new, never a mixture. Raises OSError."""
    temp = path.with_name(f".{path.name}.tmp")
    temp.unlink(missing_ok=True)
    write(temp, data)
    temp.rename(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Make the folder's entries durable. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def record(path: Path) -> Mapping[str, object] | None:
    """A JSON object from a file; None where there is none, {} where it can't be read as one."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def number(fields: Mapping[str, object] | None, name: str) -> int:
    """An integer field of a record, 0 where it is missing or something else."""
    value = (fields or {}).get(name)
    return value if isinstance(value, int) else 0
