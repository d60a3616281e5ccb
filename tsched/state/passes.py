"""history.db: passes, queue depths, errors and running totals. Bounded by age and number; losing it loses no work."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import msgspec

from tsched.failpoint import failpoint
from tsched.model.errors import FatalError, NewerFormatError, TransientError, TschedError
from tsched.model.history import PassRecord, Sample, Total, Trouble
from tsched.state.database import Database

MIGRATIONS = (
    """
CREATE TABLE passes (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, seconds REAL NOT NULL,
  revision TEXT, generation INTEGER NOT NULL, ready INTEGER NOT NULL, free INTEGER NOT NULL, running INTEGER NOT NULL,
  counters TEXT NOT NULL, steps TEXT NOT NULL, broken TEXT NOT NULL);
CREATE INDEX passes_by_time ON passes (time);
CREATE TABLE samples (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, queue TEXT NOT NULL,
  idle INTEGER NOT NULL, blocked INTEGER NOT NULL, working INTEGER NOT NULL, oldest REAL);
CREATE INDEX samples_by_queue ON samples (queue, time);
CREATE TABLE errors (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, kind TEXT NOT NULL,
  message TEXT NOT NULL);
CREATE INDEX errors_by_time ON errors (time);
CREATE TABLE totals (name TEXT NOT NULL, labels TEXT NOT NULL, value REAL NOT NULL,
  PRIMARY KEY (name, labels)) WITHOUT ROWID
""",
    # What each pass adds to the totals is summed up as it is read, and folded in a hundred passes at a time.
    """
ALTER TABLE totals RENAME TO sums;
CREATE TABLE folded (one INTEGER PRIMARY KEY CHECK (one = 1), id INTEGER NOT NULL);
INSERT INTO folded SELECT 1, coalesce(max(id), 0) FROM passes;
CREATE VIEW unfolded (name, labels, value) AS
  WITH fresh AS (SELECT seconds, iif(json_valid(steps), steps, '{}') AS steps FROM passes
                 WHERE id > (SELECT id FROM folded)),
    bounds (le, most) AS (VALUES ('0.01', 0.01), ('0.05', 0.05), ('0.1', 0.1), ('0.5', 0.5), ('1', 1), ('5', 5),
                          ('30', 30), ('60', 60))
  SELECT 'passes_total', '{}', count(*) FROM fresh GROUP BY 1
  UNION ALL SELECT 'pass_seconds_count', '{}', count(*) FROM fresh GROUP BY 1
  UNION ALL SELECT 'pass_seconds_sum', '{}', sum(seconds) FROM fresh GROUP BY 1
  UNION ALL SELECT 'pass_seconds_bucket', printf('{"le": "%s"}', le), sum(seconds <= most) FROM fresh, bounds
    GROUP BY le
  UNION ALL SELECT 'step_seconds_total', printf('{"step": %s}', json_quote(key)), sum(value)
    FROM fresh, json_each(steps) WHERE type IN ('integer', 'real') AND typeof(key) = 'text' GROUP BY key;
CREATE VIEW totals (name, labels, value) AS
  SELECT name, labels, sum(value) FROM (SELECT * FROM sums UNION ALL SELECT * FROM unfolded) GROUP BY name, labels
""",
)
_PASS = "time, seconds, revision, generation, ready, free, running, counters, steps, broken"
_SAMPLE = "time, queue, idle, blocked, working, oldest"
_ERROR = "time, kind, message"
_ADDED = "ON CONFLICT DO UPDATE SET value = value + excluded.value"
BOUNDED = ("passes", "samples", "errors")
KEPT = 200_000  # rows of each, whatever their age
PATIENCE = 2.0  # seconds that a pass waits for whoever else writes here
EVERY = 100  # passes between two looks at what is too old


def open_passes(path: Path) -> tuple[Database, str]:
    """history.db for writing, made where it is missing; and what a person should know ("": nothing).

    History is no reason to stop work, so this raises nothing: a damaged file is put aside and begun anew, and where
    the disk refuses, or a newer tsched wrote it, passes are kept in memory alone, until `renewed` has better luck.
    """
    try:
        try:
            return _opened(path), ""
        except NewerFormatError:
            raise
        except FatalError as error:
            aside = _put_aside(path)
            return _opened(path), f"{error}; history begins anew, the old file is {aside}"
    except (TschedError, OSError) as error:
        return Database.empty(migrations=MIGRATIONS), f"Passes are kept in memory alone, for now: {error}"


def renewed(db: Database, path: Path, *, doubted: bool = False) -> tuple[Database, str]:
    """The same, or opened anew where its file is gone or could not be opened; raises nothing, as open_passes.

    `doubted`: something went wrong with it, so that all of it is read to see whether it is damaged.
    """
    damaged = doubted and not _sound(db)
    if not (damaged or db.lost):
        return db, ""
    db.close()
    if not damaged:
        return open_passes(path)
    try:
        aside = _put_aside(path)
    except OSError as error:
        return Database.empty(migrations=MIGRATIONS), f"{path} is damaged and can't be put aside: {error.strerror}"
    made, note = open_passes(path)
    return made, note or f"{path} is damaged; history begins anew, the old file is {aside}"


def _sound(db: Database) -> bool:
    try:
        return db.rows("PRAGMA quick_check(1)") == [("ok",)]
    except FatalError:
        return False
    except TransientError:  # who can't read it can't call it damaged
        return True


def _put_aside(path: Path) -> str:
    aside = path.with_name(f"{path.name}.damaged")
    failpoint("to be put aside")
    path.replace(aside)
    failpoint("put aside")
    for suffix in ("-wal", "-shm"):  # of the old file: they must not be taken for the new one's
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside.name


def _opened(path: Path) -> Database:
    return Database.open(path, migrations=MIGRATIONS, synchronous="NORMAL", patience=PATIENCE)


def read_passes(path: Path) -> Database:
    """history.db to read without touching it; an empty one where there is none."""
    return Database.read_only(path, migrations=MIGRATIONS) or Database.empty(migrations=MIGRATIONS)


def append(
    db: Database,
    record: PassRecord,
    *,
    samples: Iterable[Sample] = (),
    troubles: Iterable[Trouble] = (),
    totals: Iterable[Total] = (),
) -> int:
    """Keep one pass with all that belongs to it, in one transaction. Returns its number.

    `totals`: what it adds to them besides itself and its steps' times.
    """
    steps = {name: round(seconds, 6) for name, seconds in record.steps.items()}
    with db.transaction():
        cursor = db.execute(
            f"INSERT INTO passes ({_PASS}) VALUES (?,?,?,?,?,?,?,?,?,?)",
            (record.time, record.seconds, record.revision, record.generation, record.ready, record.free,
             record.running, msgspec.json.encode(record.counters).decode(), msgspec.json.encode(steps).decode(),
             record.broken),
        )  # fmt: skip
        db.each(
            f"INSERT INTO samples ({_SAMPLE}) VALUES (?,?,?,?,?,?)",
            [(one.time, one.queue, one.idle, one.blocked, one.working, one.oldest) for one in samples],
        )
        db.each(
            "INSERT INTO errors (time, kind, message) VALUES (?,?,?)",
            [(trouble.time, trouble.kind, trouble.message) for trouble in troubles],
        )
        db.each(
            f"INSERT INTO sums VALUES (?,?,?) {_ADDED}",
            [(total.name, _written(*sorted(total.labels.items())), total.value) for total in totals],
        )
        return cursor.lastrowid or 0


@lru_cache(maxsize=256)
def _written(*labels: tuple[str, str]) -> str:
    return json.dumps(dict(labels))


def prune(db: Database, *, before: float) -> int:
    """Drop what is older than a time (seconds since the epoch), and what is past KEPT. Returns how many rows went.

    What passes add to the totals outlives them.
    """
    gone = 0
    with db.transaction():
        db.execute(f"INSERT INTO sums SELECT * FROM unfolded WHERE true {_ADDED}")
        db.execute("UPDATE folded SET id = coalesce((SELECT max(id) FROM passes), id)")
        for table in BOUNDED:
            gone += db.execute(f"DELETE FROM {table} WHERE time < ?", (before,)).rowcount
            gone += db.execute(f"DELETE FROM {table} WHERE id <= (SELECT max(id) - ? FROM {table})", (KEPT,)).rowcount
    return gone


def passes(db: Database, *, since: float = 0.0, limit: int = 1000) -> tuple[PassRecord, ...]:
    """The newest passes that began after a time (seconds since the epoch), oldest of them first."""
    rows = db.rows(f"SELECT id, {_PASS} FROM passes WHERE time > ? ORDER BY id DESC LIMIT ?", (since, limit))
    with _readable():
        return tuple(_pass(*row) for row in reversed(rows))


def first_pass(db: Database) -> float | None:
    """When the oldest pass that is kept began, seconds since the epoch."""
    rows = db.rows("SELECT min(time) FROM passes")
    return None if rows[0][0] is None else float(str(rows[0][0]))


@contextmanager
def _readable() -> Iterator[None]:
    """Raises FatalError for a row that is none of ours."""
    try:
        yield
    except (ValueError, msgspec.ValidationError) as error:
        raise FatalError(f"history.db holds what can't be read ({error}): move it away") from error


def _pass(number: object, *values: object) -> PassRecord:
    found = {**dict(zip(_PASS.split(", "), values, strict=True)), "id": number}
    decoded = {name: json.loads(str(found[name])) for name in ("counters", "steps")}
    return msgspec.convert({**found, **decoded}, PassRecord)


def samples(db: Database, *, since: float = 0.0, queue: str | None = None) -> tuple[Sample, ...]:
    """How queues stood after a time, oldest first; before it begins, each queue's last sample, shown at that time."""
    chosen, values = ("AND queue = ?", [queue]) if queue is not None else ("", [])
    last = f"SELECT max(id) FROM samples WHERE time <= ? {chosen} GROUP BY queue"
    before = db.rows(f"SELECT {_SAMPLE} FROM samples WHERE id IN ({last}) ORDER BY queue", [since, *values])
    after = db.rows(f"SELECT {_SAMPLE} FROM samples WHERE time > ? {chosen} ORDER BY id", [since, *values])
    return (*(replace(one, time=since) for one in _samples(before)), *_samples(after))


def _samples(rows: Iterable[Sequence[object]]) -> tuple[Sample, ...]:
    names = _SAMPLE.split(", ")
    with _readable():
        return msgspec.convert([dict(zip(names, row, strict=True)) for row in rows], tuple[Sample, ...])


def errors(db: Database, *, since: float = 0.0, limit: int = 10_000) -> tuple[Trouble, ...]:
    """The newest errors after a time, oldest of them first."""
    rows = db.rows(f"SELECT {_ERROR} FROM errors WHERE time > ? ORDER BY id DESC LIMIT ?", (since, limit))
    found = [dict(zip(_ERROR.split(", "), row, strict=True)) for row in reversed(rows)]
    with _readable():
        return msgspec.convert(found, tuple[Trouble, ...])


def totals(db: Database) -> tuple[Total, ...]:
    """All sums, by name and labels."""
    rows = db.rows("SELECT name, labels, value FROM totals ORDER BY name, labels")
    return tuple(
        Total(name=str(name), labels=json.loads(str(labels)), value=float(str(value))) for name, labels, value in rows
    )
