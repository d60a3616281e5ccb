"""Ten thousand leases of a dead machine: one pass handles them, with one look at all processes, and few words."""

import os
from dataclasses import asdict
from pathlib import Path

import msgspec
import pytest

from tests.integration.passes import Runner, World, pool, runner
from tsched.executors import durable, local
from tsched.executors.recovery import Census, census
from tsched.model.run import Lease, LeaseState, Run
from tsched.runner import record


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


def idle(one: Runner) -> int:
    return sum(depth.idle for depth in one.host.tasks.depths())


@pytest.fixture
def world(tmp_path: Path) -> World:
    one = World(tmp_path)
    one.recipes("ada")
    one.push("fleet", dev=pool("dev", "ada", limit=0))
    return one


def test_ten_thousand_leases_without_runs_are_dropped_in_one_pass(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "BUDGET", 600.0)
    with runner(world) as one:
        one.once()
        tasks = fill(one, 10_000, folders=False)
        said = one.once()
        assert idle(one) == len(tasks)
        assert one.world.leases() == []
        assert said.count("Dropped the lease of task ") == len(tasks)
        assert said.count("Requeued task ") == len(tasks)


def test_of_many_lost_runs_a_pass_takes_its_share_and_says_how_many_are_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Census] = []

    def counted() -> Census:
        looks.append(census())
        return looks[-1]

    monkeypatch.setattr(local, "census", counted)
    with runner(world) as one:
        one.once()
        tasks = fill(one, 120, folders=True)
        monkeypatch.setattr(record, "BUDGET", 0.0)
        said = one.once()
        assert len(looks) == 1, "one look at all processes, however many runs are lost"
        assert "70 more stale leases are left to the next pass" in said
        assert one.world.leases() != []
        monkeypatch.setattr(record, "BUDGET", 60.0)
        said += one.once()
        assert len(looks) == 2
        assert idle(one) == len(tasks)
        assert said.count("Stale lease detected: task=") == len(tasks)
        assert one.world.leases() == []
        assert one.runs() == []
