"""Finished runs to look at, made by value, and state folders filled with them."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tsched.model.fleet import Fleet
from tsched.model.history import PassRecord, Sample
from tsched.model.lifecycle import Lifecycle
from tsched.model.run import ExitReason, Outcome, Run, RunExit, RunResult, Usage
from tsched.model.task import Settlement, Verdict
from tsched.state import applied, history, passes
from tsched.state.applied import Applied
from tsched.state.database import Database
from tsched.state.folder import StateFolder


def run(run_id: str = "r", *, at: float = 0.0, **rest: object) -> Run:
    """A run that was started at a time."""
    known: dict[str, object] = {
        "task_id": "1", "agent": "ada", "pool": "dev", "queue": "dev", "attempt": 1, "revision": "a" * 40,
        "executor": "local", "recipe": "recipes/ada.yaml", "runtime": "work", "evidence": "exit",
    }  # fmt: skip
    return Run(run_id=run_id, created_at=at, **{**known, **rest})  # type: ignore[arg-type]


def result(
    run_id: str = "r", *, at: float = 0.0, took: float = 1.0, outcome: Outcome = Outcome.COMPLETE, reason: str = "",
    exit_reason: ExitReason = ExitReason.EXITED, exit_code: int | None = 0, started: bool = True,
    usage: Usage | None = None, **rest: object,
) -> RunResult:  # fmt: skip
    """A run that was started at a time and took so many seconds."""
    end = RunExit(
        run_id=run_id, reason=exit_reason, started=started, exit_code=exit_code,
        started_at=at if started else 0.0, ended_at=at + took,
    )  # fmt: skip
    return RunResult(
        run=run(run_id, at=at, **rest), exit=end, outcome=outcome, reason=reason or str(outcome),
        settlement=Settlement(verdict=Verdict.COMPLETE), usage=usage,
    )  # fmt: skip


def fill(
    state: Path, *, results: Iterable[RunResult] = (), samples: Iterable[Sample] = (), fleet: Fleet | None = None,
    first_pass: float | None = None,
) -> StateFolder:  # fmt: skip
    """A state folder as a runner leaves it: real databases, with these in them."""
    folder = StateFolder(state)
    folder.create()
    with closing(Database.open(folder.db)) as db, db.transaction():
        if fleet is not None:
            rows = [Lifecycle(agent=agent.name, queue=pool.queue, pool=pool.name, limit=agent.limit)
                    for pool, agent in fleet.agents()]  # fmt: skip
            applied.adopt(db, Applied(), fleet=fleet, lifecycles={row.key: row for row in rows})
        for one in results:
            history.record(db, replace(one, acknowledged=True))
            history.acknowledge(db, one.run.run_id)
    made, note = passes.open_passes(folder.history_db)
    assert not note
    with closing(made), made.transaction():
        if first_pass is not None:
            passes.append(made, PassRecord(time=first_pass, seconds=0.1, revision=None, generation=1))
        for sample in samples:
            record = PassRecord(time=sample.time, seconds=0.1, revision=None, generation=1)
            passes.append(made, record, samples=[sample])
    return folder
