"""What a review found could end or wedge a runner for good: an agent's words, a commit's names, a killed git."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.world import LIMITS, World, pool, until

CLAUDE = """\
#!/bin/sh
printf '%s\\n' '{"type":"result","is_error":true,"result":"cut off \\ud83d and \\u0000","total_cost_usd":1{zeros}}'
exit 1
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def done_by_passes(world: World, seen: Callable[[], bool]) -> None:
    def after_a_pass() -> bool:
        world.run("run", "--once")
        return seen()

    until(after_a_pass, "passes bring it about")


def test_half_a_character_in_an_agents_last_words_ends_nothing(world: World) -> None:
    programs = world.root / "programs"
    programs.mkdir()
    (programs / "claude").write_text(CLAUDE.replace("{zeros}", "0" * 400))
    (programs / "claude").chmod(0o755)
    world.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
    world.fleet(dev=pool("dev", "ada, runtime: claude"), qa=pool("qa", "ben"))
    broken, sound = world.add("speak"), world.add("quick", queue="qa")
    with world.daemon() as daemon:
        world.wait_status(broken, "parked")
        world.wait_status(sound, "complete")
        assert daemon.poll() is None
    shown = world.task(broken)
    assert "cut off" in shown["comments"][0]["text"]
    assert [run["outcome"] for run in shown["runs"]] == ["failed", "failed"]


def test_a_file_whose_name_is_no_text_is_rejected_like_any_other(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    task = world.add("quick")
    name = os.fsencode(world.clone) + b"/pools/caf\xe9.yaml"
    with open(name, "w") as file:
        file.write("kind: Nothing\n")
    world.push("a name")
    said = world.run("run", "--once", check=1).stdout
    assert "rejected, the applied one keeps running: pools/caf\\xe9.yaml:1:1" in said
    done_by_passes(world, lambda: world.task(task)["status"] == "complete")


def test_a_plan_trailer_that_is_none_holds_and_stops_nothing(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben"))
    world.once()
    task = world.add("quick")
    world.push("less\n\nTsched-Plan: agents= runs=5 of=abc", dev=pool("dev", "ada", "ben", limit=2))
    done_by_passes(world, lambda: world.task(task)["status"] == "complete")
    assert "can't be read" in world.status()["revision"]["held"]["reason"]


def test_the_lock_of_a_git_that_was_killed_does_not_stop_fetching(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    (world.state / "mirror.git/refs/tsched/tip.lock").touch()
    tip = world.push(dev=pool("dev", "ada", "ben"))
    world.once()
    assert world.applied() == tip


def test_a_damaged_object_of_the_mirror_is_fetched_anew(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    world.recipes("ada", text="title: T\ndescription: D\nprompt: Do it better.\n")
    blob = world.git("hash-object", "recipes/ada.yaml")
    world.push("better")
    world.once()
    damaged = world.state / "mirror.git/objects" / blob[:2] / blob[2:]
    data = damaged.read_bytes()
    damaged.chmod(0o600)
    damaged.write_bytes(data[: len(data) // 2] + b"\0" * (len(data) - len(data) // 2))
    tip = world.push(limits=LIMITS.replace("100ms", "200ms"))
    done_by_passes(world, lambda: world.applied() == tip)


def test_accepting_a_rewritten_history_shows_what_else_it_does(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben", "cy"))
    world.push(dev=pool("dev", "ada", "ben", "cy", limit=2))
    world.once()
    world.git("reset", "-q", "--hard", "HEAD~1")
    world.push("other", dev=pool("dev"))
    world.once()
    held = world.status()["revision"]["held"]["reason"]
    assert "history was rewritten" in held
    assert "removes 3 of 3 agents" in held


def test_a_switched_off_runner_starts_nothing(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    task = world.add("quick")
    done = world.run("run", "--once", check=0, TINYSCHEDULER_ENABLED="false")
    assert "TINYSCHEDULER_ENABLED is false: nothing new is started" in done.stdout
    assert world.task(task)["runs"] == []


def test_a_pass_that_fails_in_an_unforeseen_way_is_tried_again(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon() as daemon:
        world.wait_status(world.add("quick"), "complete")
        view = world.state / "agent-control.json"
        view.unlink()
        view.mkdir()
        until(lambda: "ERROR" in (world.root / "daemon.log").read_text(), "it is said")
        view.rmdir()
        world.wait_status(world.add("quick too"), "complete")
        assert daemon.poll() is None
