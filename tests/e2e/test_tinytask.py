"""The runner over a task server: real passes, real agents, claims as comments, the server down in between."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.world import World, pool, until
from tests.integration.tinytask_servers import OldServer, old_server


@pytest.fixture
def server() -> Iterator[OldServer]:
    with old_server() as one:
        yield one


@pytest.fixture
def world(tmp_path: Path, server: OldServer) -> World:
    one = World(tmp_path)
    one.environ["TINYSCHEDULER_MCP_ENDPOINT"] = f"{server.base}/mcp"
    one.fleet(dev=pool("dev", "ada"))
    return one


def passes_until(world: World, server: OldServer, number: int, **facts: object) -> None:
    """Run passes until the server's task has these facts."""

    def seen() -> bool:
        world.run("run", "--once")
        return all(server.tasks[number][key] == value for key, value in facts.items())

    until(seen, f"task {number}: {facts}")


def words(server: OldServer, number: int) -> list[str]:
    return [str(one["content"]) for one in server.comments if one["task_id"] == number]


def test_a_task_is_done_and_its_comments_tell_the_story(world: World, server: OldServer) -> None:
    number = server.add("quick", assigned_to="ada")
    passes_until(world, server, number, status="complete", assigned_to="ada")
    claim, end = words(server, number)
    runner = (world.state / "runner_id").read_text().strip()
    assert claim.startswith("tsched-claim 1-1-")
    assert f" runner={runner} agent=ada " in claim
    assert end.startswith(f"tsched-end {claim.split()[1]} attempts=1 runs=1 ")
    assert list((world.state / "running").glob("task_*")) == []


def test_a_task_that_keeps_failing_is_parked_for_a_person_and_can_be_given_back(
    world: World, server: OldServer
) -> None:
    number = server.add("fail", assigned_to="ada")
    passes_until(world, server, number, status="idle", assigned_to="parked")
    said = "\n".join(words(server, number))
    assert said.count("tsched-claim") == 2
    assert "cannot do it" in said
    assert "exit status 3" in said
    world.run("run", "--once", check=0)
    assert server.tasks[number]["assigned_to"] == "parked"
    server.tasks[number]["assigned_to"] = "ada"  # a person gives it back: it has all its attempts again
    passes_until(world, server, number, status="idle", assigned_to="parked")
    assert "\n".join(words(server, number)).count("tsched-claim") == 4


def test_a_result_waits_while_the_server_is_down(world: World, server: OldServer) -> None:
    number = server.add("hold", assigned_to="ada")
    world.run("run", "--once", check=0)
    assert server.tasks[number]["status"] == "working"
    server.down = True
    server.drop_sessions()
    (world.gates / str(number)).touch()

    def said() -> bool:
        done = world.run("run", "--once", check=1)
        assert f"{server.base} answers 503" in done.stdout
        return "results of 1 run wait for it" in done.stdout

    until(said, "the run's result waits")
    assert json.loads(world.run("status", "--json", check=0).stdout)["queues"] == []
    server.down = False
    passes_until(world, server, number, status="complete")
    assert sum("tsched-end" in one for one in words(server, number)) == 1


def test_a_task_archived_under_its_run_stops_it_and_stays_archived(world: World, server: OldServer) -> None:
    number = server.add("hold", assigned_to="ada")
    world.run("run", "--once", check=0)
    server.tasks[number]["archived_at"] = "2026-11-24 10:00:00"

    def ended() -> bool:
        world.run("run", "--once", check=0)
        return any("tsched-end" in one for one in words(server, number))

    until(ended, "the run is stopped and its claim let go")
    assert server.tasks[number]["status"] == "working"  # as it was: the person's word stands
    assert list((world.state / "running").glob("task_*")) == []


def test_work_of_others_is_named_and_never_touched(world: World, server: OldServer) -> None:
    number = server.add("theirs", assigned_to="ada")
    server.tasks[number]["status"] = "working"
    done = world.run("run", "--once", check=0)
    assert words(server, number) == []
    assert f"Task {number} is left alone: it is being worked on without a claim" in done.stdout
    assert "is left alone" not in world.run("run", "--once", check=0).stdout, "it is said once"
    assert (server.tasks[number]["status"], server.tasks[number]["assigned_to"]) == ("working", "ada")


def test_a_dry_run_writes_nothing_anywhere(world: World, server: OldServer) -> None:
    server.add("quick", assigned_to="ada")
    world.run("run", "--once", "--dry-run", check=0)
    assert not world.state.exists()
    assert set(server.calls) <= {"list_tasks", "get_task"}
