"""How databases are opened: durable for their writers, beside them to watch, for a look without touching a byte."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from tsched.failpoint import failpoint
from tsched.model.errors import FatalError, NewerFormatError, TransientError

BUSY_SECONDS = 30.0
TRIES = 20  # to copy a file that is being written
_FORMATS = slice(18, 20)  # bytes of a file: the formats to write and read it in, 1 without a log and 2 with one


def open_database(
    path: Path, *, migrations: Sequence[str], synchronous: str = "FULL", patience: float = BUSY_SECONDS
) -> sqlite3.Connection:
    """Open (and make) a database: WAL, explicit transactions, mode 0600.

    `migrations[n]` is the script that takes a file from user_version n to n+1. `synchronous`: FULL, or NORMAL for
    what may lose its last transactions in a power cut. `patience`: seconds to wait for another writer. Raises
    FatalError for a file that is damaged or newer than this program, TransientError where the disk refuses.
    """
    with translated(path):
        path.touch(mode=0o600, exist_ok=True)
        connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
        try:
            _journal(connection, patience)
            connection.execute(f"PRAGMA synchronous={synchronous}")
            connection.execute("PRAGMA foreign_keys=ON")
            _migrate(connection, path, migrations)
        except BaseException:
            connection.close()
            raise
        return connection


def _journal(connection: sqlite3.Connection, patience: float) -> None:
    """Have a write-ahead log. SQLite does not wait by itself where two switch to it at the same time."""
    end = time.monotonic() + patience
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def open_in_memory(*, migrations: Sequence[str]) -> sqlite3.Connection:
    """An empty database that is nowhere on disk: what a reader sees before there is a file."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _migrate(connection, Path(":memory:"), migrations)
    return connection


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    if _version(connection) == len(migrations):
        return
    with transaction(connection):
        version = _version(connection)
        if version > len(migrations):
            raise NewerFormatError(f"{path} was written by a newer tsched (format {version}): upgrade this one")
        for script in migrations[version:]:
            for statement in script.split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(migrations)}")


def _version(connection: sqlite3.Connection) -> int:
    row = connection.execute("PRAGMA user_version").fetchone()
    return int(row[0])


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction: committed at the end, rolled back by any exception. Nested ones join the outer.

    It has the write lock from its beginning, so that what was read still holds where it is written.
    """
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        failpoint("to be committed")
        connection.execute("COMMIT")
        failpoint("committed")
    except BaseException:
        with suppress(sqlite3.OperationalError):  # at some errors SQLite has undone it itself
            connection.execute("ROLLBACK")
        raise


@contextmanager
def picture(connection: sqlite3.Connection) -> Iterator[None]:
    """One moment's picture of several tables: nothing is written, nobody is waited for."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def open_read_only(path: Path, *, migrations: Sequence[str] | None) -> sqlite3.Connection | None:
    """Read a database without changing or making any file beside it. None where there is none, or none yet in it.

    The file and its write-ahead log, where a live or killed writer left one, are copied, and the copy is read: SQLite
    itself would write to the log's index, or miss what is in the log. A file that an older program made is brought up
    to date in the copy alone; with no migrations it is read as it is.
    """
    if not path.exists():
        return None
    with translated(path):
        for _ in range(TRIES):
            if (memory := _in_memory(path)) is not None:
                if _version(memory):
                    if migrations is not None:
                        _migrate(memory, path, migrations)
                    return memory
                memory.close()  # its maker has the file, but has not committed its tables yet
                return None
    raise TransientError(f"{path} is being written too busily to be read without touching it: try again")


def open_beside(path: Path, *, migrations: Sequence[str]) -> sqlite3.Connection | None:
    """Read a database beside its writer, for as long as one likes: nothing is copied, written or waited for.

    SQLite keeps its index of the log in a file beside it. None where there is no database yet. One of another
    version's format is read as `open_read_only` does: as it was at this moment.
    """
    if not path.exists():
        return None
    with translated(path):
        address = f"file:{quote(str(path))}?mode=ro"
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            if _version(connection) == len(migrations):
                return connection
        except BaseException:
            connection.close()
            raise
        connection.close()
    return open_read_only(path, migrations=migrations)


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _stamp(path: Path) -> tuple[int, int, bool]:
    """Changes when the database file itself is rewritten, or its log appears or goes.

    A log that only grew is fine: a frame that was cut short fails its checksum and is left out.
    """
    stat = path.stat()
    return (stat.st_mtime_ns, stat.st_size, _log(path).exists())


def _in_memory(path: Path) -> sqlite3.Connection | None:
    """A copy of what is in the file and its log; None where somebody wrote them meanwhile."""
    before = _stamp(path)
    if not before[2] and hasattr(sqlite3.Connection, "deserialize"):
        image = bytearray(path.read_bytes())
        return _loaded(image) if _stamp(path) == before else None
    import shutil
    import tempfile  # no small module: only where there is a log

    with tempfile.TemporaryDirectory(prefix="tsched-read-") as folder:
        copy = Path(folder) / "copy.db"
        for source, target in ((path, copy), (_log(path), _log(copy))):
            try:
                shutil.copyfile(source, target)
            except FileNotFoundError:  # the log's writer has just ended
                continue
        return _backed_up(copy) if _stamp(path) == before else None


def _loaded(image: bytearray) -> sqlite3.Connection:
    """The database whose file has these bytes, and no log."""
    memory = sqlite3.connect(":memory:", isolation_level=None)
    if image:
        image[_FORMATS] = b"\1\1"  # with a log's no file opens in memory
        memory.deserialize(image)
    return memory


def _backed_up(copy: Path) -> sqlite3.Connection:
    source = sqlite3.connect(copy)
    try:
        memory = sqlite3.connect(":memory:", isolation_level=None)
        source.backup(memory)
    finally:
        source.close()
    return memory


class Translated:
    """SQLite's errors in our words. No generator: each statement passes through one."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        match error:
            case sqlite3.OperationalError():
                raise TransientError(
                    f"{self._path}: {error}: see that the disk has room and may be written"
                ) from error
            case sqlite3.DatabaseError():
                words = f"{self._path} can't be read as a database ({error}): move it away, or restore it"
                raise FatalError(words) from error
            case OSError():
                raise TransientError(f"{self._path}: {error.strerror}") from error


def translated(path: Path) -> Translated:
    """SQLite's errors in our words: what passes by itself is transient, a damaged file is fatal."""
    return Translated(path)
