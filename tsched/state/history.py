"""Finished runs, keyed by run id. The first decided outcome stands."""

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
    return _results(db, "WHERE acknowledged = 0")


def of_task(db: Database, task_id: str) -> tuple[RunResult, ...]:
    """The runs of a task, oldest first."""
    return _results(db, "WHERE task_id = ? ORDER BY ended_at, run_id", task_id)


def recent(db: Database, limit: int) -> tuple[RunResult, ...]:
    """The results that were decided last, newest first."""
    return _results(db, "ORDER BY rowid DESC LIMIT ?", limit)


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


def _results(db: Database, where: str, *values: object) -> tuple[RunResult, ...]:
    rows = db.rows(f"SELECT body, acknowledged FROM runs {where}", values)
    return tuple(
        replace(db.decode(body, RunResult, "a finished run"), acknowledged=bool(taken)) for body, taken in rows
    )
