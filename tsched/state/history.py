"""Finished runs, keyed by run id. The first decided outcome stands."""

from collections.abc import Collection
from dataclasses import replace

import msgspec

from tsched.model.run import RunResult, Spent
from tsched.state.database import Database


def record(db: Database, result: RunResult) -> RunResult:
    """Store a decided result unless one is stored; returns the one that stands.

    Raises FatalError where the stored one can't be read back (so do all that read results).
    """
    with db.transaction():
        db.execute(
            "INSERT OR IGNORE INTO runs (run_id, task_id, ended_at, body) VALUES (?, ?, ?, ?)",
            (result.run.run_id, result.run.task_id, result.exit.ended_at, msgspec.json.encode(result).decode()),
        )
    return find(db, result.run.run_id) or result


def find(db: Database, run_id: str) -> RunResult | None:
    """The result of a run, None where none is decided."""
    return next(iter(_results(db, "WHERE run_id = ?", run_id)), None)


def acknowledge(db: Database, run_id: str) -> None:
    """Note that the task server has taken a result."""
    with db.transaction():
        db.execute("UPDATE runs SET acknowledged = 1 WHERE run_id = ?", (run_id,))


def unacknowledged(db: Database) -> tuple[RunResult, ...]:
    """Results that the task server has not taken yet."""
    return db.kept(_unacknowledged, of=["runs"])


def _unacknowledged(db: Database) -> tuple[RunResult, ...]:
    return _results(db, "WHERE acknowledged = 0")


def of_task(db: Database, task_id: str) -> tuple[RunResult, ...]:
    """The runs of a task in the order they were decided in, which no clock that jumps can change."""
    return _results(db, "WHERE task_id = ? ORDER BY rowid", task_id)


def recent(db: Database, limit: int) -> tuple[RunResult, ...]:
    """The results that were decided last, newest first."""
    return _results(db, "ORDER BY rowid DESC LIMIT ?", limit)


def ended_since(db: Database, since: float) -> tuple[RunResult, ...]:
    """Runs that ended after that time (seconds since the epoch), oldest first, to be counted.

    Thousands are read in a moment: whether the task server has taken each is not looked at.
    """
    return _counted(db, "WHERE ended_at > ? ORDER BY ended_at, run_id", since)


def of_revision(db: Database, revision: str) -> tuple[RunResult, ...]:
    """The runs that were pinned to a revision, oldest first, to be counted as those of ended_since are."""
    return _counted(db, "WHERE json_extract(body, '$.run.revision') = ? ORDER BY ended_at, run_id", revision)


def revisions(db: Database) -> tuple[tuple[str, float], ...]:
    """The revisions that runs were pinned to, each with the start of its first run (seconds since the epoch)."""
    rows = db.rows(
        "SELECT json_extract(body, '$.run.revision'), min(json_extract(body, '$.run.created_at')) FROM runs "
        "GROUP BY 1 ORDER BY 2, 1"
    )
    return tuple((str(revision), float(str(first))) for revision, first in rows)


def last_of_agents(db: Database) -> tuple[RunResult, ...]:
    """The newest result of each agent in each queue."""
    newest = (
        "SELECT run_id FROM (SELECT run_id, max(ended_at) FROM runs "
        "GROUP BY json_extract(body, '$.run.agent'), json_extract(body, '$.run.queue'))"
    )
    return _results(db, f"WHERE run_id IN ({newest}) ORDER BY ended_at, run_id")


def oldest(db: Database) -> RunResult | None:
    """The run that ended first of those that are kept."""
    return next(iter(_results(db, "ORDER BY ended_at LIMIT 1")), None)


def spent(db: Database, since: float) -> tuple[Spent, ...]:
    """What agents say that they spent in runs that ended after that time (seconds since the epoch), by agent."""
    rows = db.rows(
        "SELECT json_extract(body, '$.run.agent'), json_extract(body, '$.run.queue'), count(*), "
        "coalesce(sum(json_extract(body, '$.usage.total_tokens')), 0), sum(json_extract(body, '$.usage.cost_usd')) "
        "FROM runs WHERE ended_at > ? AND json_extract(body, '$.usage') IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2",
        (since,),
    )
    names = ("agent", "queue", "runs", "total_tokens", "cost_usd")
    return tuple(msgspec.convert(dict(zip(names, row, strict=True)), Spent) for row in rows)


def prune(db: Database, *, before: float, besides: Collection[str] = ()) -> int:
    """Drop acknowledged runs that ended before a time (seconds since the epoch). Returns how many rows went.

    A task's runs go together, when its newest one is that old: a retry asks for the ones before it. `besides`: runs
    of which something is still there, so that their settling may be repeated.
    """
    with db.transaction():
        old = [str(run_id) for (run_id,) in db.rows(f"SELECT run_id {_OLD}", (before, before))]
        gone = [run_id for run_id in old if run_id not in besides]
        for run_id in gone:
            db.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
    return len(gone)


_OLD = """
FROM runs WHERE acknowledged = 1 AND ended_at < ?
AND task_id NOT IN (SELECT task_id FROM runs WHERE ended_at >= ? OR acknowledged = 0)
"""


def _results(db: Database, where: str, *values: object) -> tuple[RunResult, ...]:
    rows = db.rows(f"SELECT body, acknowledged FROM runs {where}", values)
    return tuple(
        replace(db.decode(body, RunResult, "a finished run"), acknowledged=bool(taken)) for body, taken in rows
    )


def _counted(db: Database, where: str, *values: object) -> tuple[RunResult, ...]:
    rows = db.rows(f"SELECT body FROM runs {where}", values)
    return tuple(db.decode(body, RunResult, "a finished run") for (body,) in rows)
