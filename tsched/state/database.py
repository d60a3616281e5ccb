"""The runner's databases: one connection each, one transaction for all that must change together."""

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import msgspec

from tsched.model.errors import FatalError
from tsched.sqlite import (
    BUSY_SECONDS,
    open_beside,
    open_database,
    open_in_memory,
    open_read_only,
    picture,
    transaction,
    translated,
)

if TYPE_CHECKING:
    from tsched.model.fleet import Fleet
    from tsched.state.applied import Applied

MIGRATIONS = (
    """
CREATE TABLE applied (one INTEGER PRIMARY KEY CHECK (one = 1), generation INTEGER NOT NULL, fleet BLOB);
CREATE TABLE blobs (blob TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE recipes (path TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE lifecycles (agent TEXT, queue TEXT, row BLOB NOT NULL, PRIMARY KEY (agent, queue)) WITHOUT ROWID;
CREATE TABLE accepted (revision TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE rejected (content_key TEXT PRIMARY KEY, time REAL NOT NULL, diagnostics BLOB NOT NULL);
CREATE TABLE report (one INTEGER PRIMARY KEY CHECK (one = 1), body BLOB NOT NULL);
CREATE TABLE requests (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, kind TEXT NOT NULL,
  argument TEXT NOT NULL, author TEXT NOT NULL);
CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, kind TEXT NOT NULL,
  subject TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE runs (run_id TEXT PRIMARY KEY, task_id TEXT NOT NULL, ended_at REAL NOT NULL,
  acknowledged INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL);
CREATE INDEX runs_by_task ON runs (task_id, ended_at);
CREATE INDEX runs_waiting ON runs (acknowledged) WHERE acknowledged = 0
""",
    "CREATE TABLE breakers (recipe TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE alerts (fingerprint TEXT PRIMARY KEY, body TEXT NOT NULL);\n"
    "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, body TEXT NOT NULL, "
    "tries INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0)",
    """
CREATE TABLE overrides (kind TEXT, subject TEXT, body TEXT NOT NULL, PRIMARY KEY (kind, subject)) WITHOUT ROWID;
CREATE TABLE view (one INTEGER PRIMARY KEY CHECK (one = 1), body TEXT NOT NULL)
""",
    """
CREATE INDEX runs_by_end ON runs (ended_at);
CREATE INDEX runs_by_revision ON runs (json_extract(body, '$.run.revision'), json_extract(body, '$.run.created_at'))
""",
    """
CREATE TABLE pools (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO pools
  SELECT json_extract(one.value, '$.name'), one.value FROM applied, json_each(fleet, '$.pools') AS one;
UPDATE applied SET fleet = json_remove(fleet, '$.pools')
""",
)
T = TypeVar("T")
Asked = TypeVarTuple("Asked")
_WRITES = re.compile(r"\s*(?:INSERT(?: OR \w+)? INTO|UPDATE|DELETE FROM) (\w+)")


class Database:
    """One of the runner's own databases, tsched.db unless another's migrations are given. Used from one thread.

    Every call raises TransientError where the disk refuses (a full one leaves what was there), FatalError where the
    file is damaged.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._file = _identity(path)
        self._kept: dict[tuple[object, tuple[object, ...]], tuple[Sequence[str], Any]] = {}  # answers, their tables
        self._kept_at: int | None = None  # the version that they were found in
        self._moment: int | None = None  # the version in the moment that lasts
        self.writing = False  # in a transaction that may still be undone
        self.fleet: tuple[int, Fleet] | None = None  # kept by state.applied: a generation and its fleet
        self.applied: tuple[int, Applied] | None = None  # the same: a version of the file and the record in it

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Whether somebody else has written is asked once, for all that is read in it."""
        self._moment = self.version
        try:
            yield
        finally:
            self._moment = None

    @property
    def version(self) -> int:
        """A number that changes whenever somebody else has written; what is written here does not change it."""
        if self._moment is not None:
            return self._moment
        with translated(self._path):
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def kept(self, ask: "Callable[[Database, *Asked], T]", *about: *Asked, of: Sequence[str]) -> T:
        """The answer to `ask(self, *about)`, which is found in some tables and never changed.

        `of`: the tables. They are read again where somebody has written to them since, another process to any.
        """
        version = self.version
        if version != self._kept_at:
            self._kept.clear()
            self._kept_at = version
        known = self._kept.get((ask, about))
        if known is None:
            known = self._kept[ask, about] = (of, ask(self, *about))
        answer: T = known[1]
        return answer

    def keep(
        self, answer: T, ask: "Callable[[Database, *Asked], T | None]", *about: *Asked, of: Sequence[str]
    ) -> None:
        """Know what `kept` would find, as it was just written: not to be read and decoded again."""
        self._kept[ask, about] = (of, answer)

    def _written(self, statement: str) -> None:
        """Let go of what was found in the table that is written to."""
        if not self._kept or (written := _WRITES.match(statement)) is None:
            return
        table = written[1]
        self._kept = {key: one for key, one in self._kept.items() if table not in one[0]}

    @property
    def lost(self) -> bool:
        """Whether what is written goes to no file that anybody finds: it was removed, replaced, or never was."""
        return self._file is None or _identity(self._path) != self._file

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        migrations: Sequence[str] = MIGRATIONS,
        synchronous: str = "FULL",
        patience: float = BUSY_SECONDS,
    ) -> "Database":
        """Open for writing, made if missing. Raises FatalError, TransientError as sqlite.open_database does."""
        return cls(open_database(path, migrations=migrations, synchronous=synchronous, patience=patience), path)

    @classmethod
    def read_only(cls, path: Path, *, migrations: Sequence[str] = MIGRATIONS) -> "Database | None":
        """Open for reading alone, touching nothing. None where there is no file yet."""
        connection = open_read_only(path, migrations=migrations)
        return None if connection is None else cls(connection, path)

    @classmethod
    def beside(cls, path: Path, *, migrations: Sequence[str] = MIGRATIONS) -> "Database | None":
        """Open to watch what a runner writes, changing nothing, never in its way. None where there is no file."""
        connection = open_beside(path, migrations=migrations)
        return None if connection is None else cls(connection, path)

    @classmethod
    def empty(cls, *, migrations: Sequence[str] = MIGRATIONS) -> "Database":
        """What a reader sees before the first pass: a database that is nowhere on disk."""
        return cls(open_in_memory(migrations=migrations), Path(":memory:"))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; a transaction inside another is part of it."""
        inside = self.writing
        self.writing = True
        try:
            with transaction(self._connection):
                yield
        except BaseException as error:
            self._kept.clear()  # what was found in it may never have been
            if isinstance(error, sqlite3.Error):  # of its begin or commit: those of statements are translated already
                with translated(self._path):
                    raise
            raise
        finally:
            self.writing = inside

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """What is written in it need not outlive a power cut: it goes to disk with whatever is durable after it."""
        self.execute("PRAGMA synchronous=NORMAL")
        try:
            yield
        finally:
            self.execute("PRAGMA synchronous=FULL")

    @contextmanager
    def picture(self) -> Iterator[None]:
        """One moment's picture of several tables: only read, waiting for nobody."""
        with translated(self._path), picture(self._connection):
            yield

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """One statement; its errors in our words."""
        self._written(statement)
        with translated(self._path):
            return self._connection.execute(statement, values)

    def each(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """One statement for each row of values."""
        values = list(rows)
        if not values:
            return
        self._written(statement)
        with translated(self._path):
            self._connection.executemany(statement, values)

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """All rows of one query."""
        with translated(self._path):
            return self._connection.execute(statement, values).fetchall()

    def decode(self, body: object, kind: type[T], what: str) -> T:
        """A JSON column's value. `what` names it for a person. Raises FatalError where it is none of that kind."""
        try:
            return msgspec.json.decode(str(body), type=kind)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise FatalError(
                f"{what} in {self._path} can't be read ({error}): use the tsched that wrote it, or restore the file"
            ) from error

    def close(self) -> None:
        """Give the file back. Calling it twice is fine."""
        self._connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return (facts.st_dev, facts.st_ino)
