"""What passes leave in history, asked as an operator asks."""

import json
from typing import Any

import pytest

from tests.e2e.world import LIMITS, World, pool, until


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_passes_errors_and_depths_are_there_to_be_asked(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.add("hold it")
    world.add("wait for it")
    world.add("never", "--blocked-by", "1")
    world.once()
    world.wait_running("1")
    world.remote.rename(world.root / "away.git")
    world.once(check=1)
    (world.root / "away.git").rename(world.remote)
    passes = lines(world.run("history", "--json", check=0).stdout)
    assert [one["counters"]["tasks_spawned"] for one in passes] == [1, 0]
    assert passes[0]["steps"].keys() >= {"fetch", "check", "apply", "reap", "drain", "match", "launch", "report"}
    assert passes[0]["revision"] == world.applied()
    (slowest,) = lines(world.run("history", "--slow", "-n", "1", "--json", check=0).stdout)
    assert slowest["seconds"] == max(one["seconds"] for one in passes)
    (error,) = lines(world.run("errors", "--json", check=0).stdout)
    assert error["kind"] == "remote"
    assert "remote.git" in error["message"]
    assert "remote.git" in world.run("errors", "--by", "kind", check=0).stdout
    depths = lines(world.run("sql", "SELECT idle, blocked, working, oldest FROM samples", "--json", check=0).stdout)
    assert (depths[0]["idle"], depths[0]["blocked"], depths[0]["working"]) == (2, 1, 1)
    assert depths[0]["oldest"] is not None


@pytest.mark.parametrize("harm", ["no file can be made", "its pages are damaged"])
def test_history_that_is_lost_stops_no_work(world: World, harm: str) -> None:
    rules = "{type: no_assignment, name: nothing, passes: 3}, {type: errors, name: many, above: 9}"
    world.fleet(dev=pool("dev", "ada"))
    world.push(limits=f"{LIMITS}alerts:\n  rules: [{rules}]\n")
    world.once()
    path = world.state / "history.db"
    pages = path.stat().st_size
    if harm == "no file can be made":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (pages - 4096))
    world.add("hold it")
    out = world.once()
    assert str(path) in out
    assert world.wait_running("1")
    if path.is_dir():
        assert "in memory alone" in out
        path.rmdir()
    else:
        assert path.with_name("history.db.damaged").stat().st_size == pages
    world.once()
    assert len(lines(world.run("history", "--json", check=0).stdout)) == 1


def test_events_are_found_by_what_they_say(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.add("quick")
    until(lambda: world.once() and world.task("1")["status"] == "complete", "the task is complete")
    found = lines(world.run("events", "--grep", r"run\.(complete|started)", "--json", check=0).stdout)
    assert [one["kind"] for one in found] == ["run.started", "run.complete"]
    assert "yet to come" in world.run("events", "--since", "2100-01-01T00:00:00Z", check=2).stderr
    assert "no regular expression" in world.run("events", "--grep", "(", check=2).stderr
    assert "how long ago" in world.run("events", "--since", "yesterday", check=2).stderr


def test_sql_answers_and_says_what_it_can_be_asked(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.add("quick")
    until(lambda: world.once() and world.task("1")["status"] == "complete", "the task is complete")
    query = "SELECT r.agent, r.outcome, r.title, t.status FROM runs r JOIN tasks t ON r.task_id = t.id"
    assert lines(world.run("sql", query, "--json", check=0).stdout) == [
        {"agent": "ada", "outcome": "complete", "title": "quick", "status": "complete"}
    ]
    assert "SELECT over" in world.run("sql", "DELETE FROM runs", check=2).stderr
    assert "total_tokens" in world.run("sql", "--tables", check=0).stdout
