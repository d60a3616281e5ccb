"""All that a state folder remembers as tables for SQL, to read: copies in memory, so that nothing is touched."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tsched.model.errors import ConfigurationError
from tsched.sqlite import open_in_memory, open_read_only
from tsched.state import database, passes
from tsched.state.folder import StateFolder

_RUN = {
    "agent": "run.agent", "pool": "run.pool", "queue": "run.queue", "attempt": "run.attempt",
    "revision": "run.revision", "recipe": "run.recipe", "runtime": "run.runtime", "title": "run.title",
    "outcome": "outcome", "reason": "reason", "exit_reason": "exit.reason", "exit_code": "exit.exit_code",
    "created_at": "run.created_at", "started_at": "exit.started_at",
    "input_tokens": "usage.input_tokens", "output_tokens": "usage.output_tokens",
    "total_tokens": "usage.total_tokens", "cost_usd": "usage.cost_usd",
}  # fmt: skip
VIEWS = {
    "runs": "SELECT run_id, task_id, ended_at, acknowledged, "
    + ", ".join(f"json_extract(body, '$.{path}') AS {name}" for name, path in _RUN.items())
    + " FROM main.runs",
    "events": "SELECT id, time, kind, subject, json_extract(body, '$.message') AS message, "
    "json_extract(body, '$.revision') AS revision, json_extract(body, '$.fields') AS fields FROM main.events",
    "lifecycles": "SELECT agent, queue, json_extract(row, '$.state') AS state, json_extract(row, '$.pool') AS pool, "
    "json_extract(row, '$.since') AS since, json_extract(row, '$.deadline') AS deadline FROM main.lifecycles",
    "passes": "SELECT * FROM history.passes",
    "samples": "SELECT * FROM history.samples",
    "errors": "SELECT * FROM history.errors",
    "totals": "SELECT * FROM history.totals",
}
STEPS = 1_000_000  # of SQLite's machine, after which Python has a say: Ctrl-C ends a query that would never end


@contextmanager
def tables(folder: StateFolder) -> Iterator[sqlite3.Connection]:
    """A connection that reads VIEWS, and the tables of the embedded queue. Times are seconds since the epoch."""
    with closing(_copy(folder.db, database.MIGRATIONS)) as db:
        _attach(db, "history", folder.history_db, passes.MIGRATIONS)
        if folder.tasks_db.exists():
            _attach(db, "queue", folder.tasks_db, None)
        for name, select in VIEWS.items():
            db.execute(f"CREATE TEMP VIEW {name} AS {select}")
        db.set_authorizer(_reading)
        db.set_progress_handler(lambda: 0, STEPS)
        yield db


def query(db: sqlite3.Connection, statement: str) -> tuple[Sequence[str], Iterator[Sequence[object]]]:
    """The columns' names and the rows. Raises ConfigurationError for what is no query."""
    try:
        cursor = db.execute(statement)
        if cursor.description is None:
            raise sqlite3.ProgrammingError("this asks nothing")
    except sqlite3.Error as error:
        _heed(error)
        known = ", ".join((*sorted(VIEWS), "tasks"))
        words = f"SQL: {str(error).rstrip('.')}. One SELECT over {known}; `tsched sql --tables` shows columns"
        raise ConfigurationError(words) from None
    return [column[0] for column in cursor.description], _rows(cursor)


def described(db: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Each table with the names of its columns; of the embedded queue where there is one."""
    for name in (*sorted(VIEWS), "tasks"):
        with suppress(ConfigurationError):
            yield name, ", ".join(query(db, f"SELECT * FROM {name} LIMIT 0")[0])


def _rows(cursor: sqlite3.Cursor) -> Iterator[Sequence[object]]:
    try:
        yield from cursor
    except sqlite3.Error as error:
        _heed(error)
        raise ConfigurationError(f"SQL: {error}") from None


def _heed(error: sqlite3.Error) -> None:
    """Only Ctrl-C, in the progress handler, interrupts a query; sqlite3 makes an error of its own of it."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
        raise KeyboardInterrupt from None


def _copy(path: Path, migrations: Sequence[str] | None) -> sqlite3.Connection:
    return open_read_only(path, migrations=migrations) or open_in_memory(migrations=migrations or ())


def _attach(db: sqlite3.Connection, name: str, path: Path, migrations: Sequence[str] | None) -> None:
    db.execute(f"ATTACH ':memory:' AS {name}")
    with closing(_copy(path, migrations)) as other:
        image = bytearray(other.serialize())
    image[18:20] = b"\1\1"  # its header says that it has a write-ahead log (sqlite.org/fileformat2.html, 1.3)
    db.deserialize(bytes(image), name=name)


def _reading(action: int, *names: str | None) -> int:
    allowed = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
    return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY
