"""Old logs: found, compressed so that no crash loses a line, removed. One process at a time does it.

A writer opens a day's log for each line, so that one that comes late begins the file anew, and the next compression
adds it to the compressed one.
"""

import fcntl
import gzip
import os
import shutil
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tsched.failpoint import failpoint
from tsched.model.errors import TransientError
from tsched.state.folder import sync_folder

CHUNK = 1 << 20


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Whether no other process looks after this folder of logs just now; until the end none will."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def plain_files(folder: Path) -> dict[str, float]:
    """The plain files of a folder, no links, with the time each was last written (seconds since the epoch)."""
    found: dict[str, float] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(facts.st_mode):
                    found[entry.name] = facts.st_mtime
    except FileNotFoundError:  # no folder, or a file that went meanwhile: the next look sees the rest
        pass
    return found


def remove(path: Path) -> None:
    """Drop a file that nobody needs any more. Raises OSError."""
    failpoint("file to be removed")
    path.unlink(missing_ok=True)


def compress(path: Path) -> None:
    """Put a log into `<name>.gz`, whole and durable, before the plain one goes. Needs `alone`.

    Where there is a compressed one already, it keeps what it holds: a crash between the two steps is made good, and
    lines that came late are added. Raises TransientError where the disk refuses or that one can't be read.
    """
    target = path.with_name(f"{path.name}.gz")
    temporary = path.with_name(f".{path.name}.gz.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with path.open("rb") as plain:
            if not (target.exists() and _ends_with(target, plain)):
                _pack(plain, target, temporary)
                failpoint("packed beside")
                temporary.rename(target)
                failpoint("packed")
                sync_folder(path.parent)
        path.unlink()
    except (OSError, EOFError, zlib.error) as error:
        temporary.unlink(missing_ok=True)
        raise TransientError(f"{path} can't be compressed: {error}") from error


def _pack(plain: BinaryIO, before: Path, out: Path) -> None:
    """Write a log into a new file `out`, after what was packed of it before; with the log's own age."""
    handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        if before.exists() and not _begins_with(plain, before):
            with before.open("rb") as old:
                shutil.copyfileobj(old, file, CHUNK)  # members of a gzip file follow each other
        plain.seek(0)
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
            shutil.copyfileobj(plain, packed, CHUNK)
        written = os.fstat(plain.fileno())
        file.flush()
        os.utime(handle, ns=(written.st_atime_ns, written.st_mtime_ns))
        os.fsync(handle)


def _begins_with(plain: BinaryIO, packed: Path) -> bool:
    """Whether a log begins with all that a compressed one holds."""
    return _length(packed) <= os.fstat(plain.fileno()).st_size and _same(plain, packed, skip=0)


def _ends_with(packed: Path, plain: BinaryIO) -> bool:
    """Whether a compressed log ends with all of a plain one."""
    more = _length(packed) - os.fstat(plain.fileno()).st_size
    return more >= 0 and _same(plain, packed, skip=more)


def _length(packed: Path) -> int:
    with gzip.open(packed, "rb") as old:
        return sum(len(part) for part in iter(lambda: old.read(CHUNK), b""))


def _same(plain: BinaryIO, packed: Path, *, skip: int) -> bool:
    """Whether what the compressed log holds after `skip` bytes is what the plain one begins with."""
    plain.seek(0)
    with gzip.open(packed, "rb") as old:
        old.seek(skip)
        return all(plain.read(len(part)) == part for part in iter(lambda: old.read(CHUNK), b""))


def read_end(path: Path, most: int) -> bytes:
    """The last bytes of a log, also where it has been compressed; at most so many. Raises OSError."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - most))
            return file.read()
    except FileNotFoundError:
        end = b""
        with gzip.open(path.with_name(f"{path.name}.gz"), "rb") as packed:
            while part := packed.read(CHUNK):
                end = (end + part)[-most:]
        return end
