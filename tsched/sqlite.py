"""How both databases are opened: durable for their writers, and for a dry run without touching one byte."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tsched.model.errors import FatalError, TransientError

BUSY_SECONDS = 30.0


def open_database(path: Path, *, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open (and make) a database: WAL, synchronous=FULL, explicit transactions, mode 0600.

    `migrations[n]` is the script that takes a file from user_version n to n+1. Raises FatalError for a file that is
    damaged or newer than this program, TransientError where the disk refuses.
    """
    with translated(path):
        path.touch(mode=0o600, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            _migrate(connection, path, migrations)
        except BaseException:
            connection.close()
            raise
        return connection


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
            raise FatalError(f"{path} was written by a newer tsched (format {version}): upgrade this one")
        for script in migrations[version:]:
            for statement in script.split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(migrations)}")


def _version(connection: sqlite3.Connection) -> int:
    row = connection.execute("PRAGMA user_version").fetchone()
    return int(row[0])


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One immediate transaction: committed at the end, rolled back by any exception. Nested ones join the outer."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def open_read_only(path: Path) -> sqlite3.Connection | None:
    """Read a database without changing or making any file. None where there is none.

    A cleanly closed file is opened as immutable. One with a write-ahead log beside it (a live or killed writer) is
    copied with its log to a temporary folder and the copy is read, so that committed content is seen.
    """
    if not path.exists():
        return None
    with translated(path):
        if not _log(path).exists():
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
            connection.execute("PRAGMA schema_version")
            return connection
        return _read_copy(path)


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _read_copy(path: Path) -> sqlite3.Connection:
    """A copy in memory; taken again where a writer's checkpoint tore it."""
    for _ in range(20):
        with tempfile.TemporaryDirectory(prefix="tsched-read-") as folder:
            copy = Path(folder) / "copy.db"
            before = _stamp(path)
            shutil.copyfile(path, copy)
            if _log(path).exists():
                shutil.copyfile(_log(path), _log(copy))
            if _stamp(path) != before:
                continue
            source = sqlite3.connect(copy)
            memory = sqlite3.connect(":memory:", isolation_level=None)
            source.backup(memory)
            source.close()
            return memory
    raise TransientError(f"{path} is being written too busily to be read without touching it: try again")


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes when the database file or its log was rewritten; a log that only grew is fine (frames are checked)."""
    return (path.stat().st_mtime_ns, path.stat().st_size)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors in our words: what passes by itself is transient, a damaged file is fatal."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise TransientError(f"{path}: {error}: see that the disk has room and may be written") from error
    except sqlite3.DatabaseError as error:
        raise FatalError(f"{path} can't be read as a database ({error}): move it away, or restore it") from error
    except OSError as error:
        raise TransientError(f"{path}: {error.strerror}") from error
