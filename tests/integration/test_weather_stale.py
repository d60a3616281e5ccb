"""Ten thousand leases of a dead machine: one pass handles them, with one look at all processes, and few words."""

import os
from dataclasses import asdict

import msgspec

from tests.integration.passes import Runner
from tsched.executors import durable
from tsched.model.run import Lease, LeaseState, Run


def fill(one: Runner, number: int, *, folders: bool) -> list[str]:
    """So many tasks that are being worked on by runs whose shims are dead; `folders`: what they left is there."""
    db = one.host.tasks._db  # type: ignore[attr-defined]  # a claim a call would take the test's whole time
    runner_id, now = one.host.runner_id, one.host.clock()
    db.execute("BEGIN")
    ids = []
    for number_ in range(1, number + 1):
        run_id = f"{number_}-1-{'0' * 10}"
        db.execute(
            "INSERT INTO tasks (title, queue, status, assigned_to, created_at, updated_at, claim_run, claim_runner, "
            "claim_agent, claim_queue) VALUES ('quick', 'dev', 'working', 'ada', ?, ?, ?, ?, 'ada', 'dev')",
            (now, now, run_id, runner_id),
        )
        ids.append(str(number_))
    db.execute("COMMIT")
    folder = one.host.folder
    for task_id in ids:
        run_id = f"{task_id}-1-{'0' * 10}"
        lease = Lease(
            task_id=task_id, agent="ada", pid=1, recipe="ada.yaml", started_at="2026-01-20T10:15:00.000Z",
            heartbeat="2026-01-20T10:15:00.000Z", host="here", state=LeaseState.RUNNING, run_id=run_id, attempt=1,
            revision="a" * 40, pool="dev", queue="dev", executor="local",
        )  # fmt: skip
        (folder.running / f"task_{task_id}.json").write_bytes(msgspec.json.encode(lease))
        os.symlink(f"task_{task_id}.json", folder.running / f"agent_ada.task_{task_id}")
        if folders:
            run = Run(
                run_id=run_id, task_id=task_id, agent="ada", pool="dev", queue="dev", attempt=1, revision="a" * 40,
                executor="local", recipe="recipes/ada.yaml", runtime="work", evidence="exit", created_at=now,
            )  # fmt: skip
            place = folder.runs / run_id
            place.mkdir()
            durable.write(place / "run.json", msgspec.json.encode(asdict(run)), lasting=False)
            durable.write(place / "started", b"{}", lasting=False)
            durable.write(place / "lock", b"", lasting=False)
    return ids
