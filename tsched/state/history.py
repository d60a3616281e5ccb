"""Finished runs, keyed by run id. The first decided outcome stands."""

from dataclasses import replace

import msgspec

from tsched.model.run import RunResult
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
    """The newest results, newest first."""
    return _results(db, "ORDER BY ended_at DESC LIMIT ?", limit)


def _results(db: Database, where: str, *values: object) -> tuple[RunResult, ...]:
    rows = db.rows(f"SELECT body, acknowledged FROM runs {where}", values)
    return tuple(
        replace(db.decode(body, RunResult, "a finished run"), acknowledged=bool(taken)) for body, taken in rows
    )
