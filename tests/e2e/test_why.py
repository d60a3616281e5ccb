"""`tsched why`, of situations that are set up for real: what it names is what stands in the way."""

import json
from typing import Any

from tests.e2e.world import LIMITS, World, pool, until


def why(world: World, *words: str, holds: bool = True) -> dict[str, dict[str, Any]]:
    """The links by kind."""
    answer = json.loads(world.run("why", *words, "--json", check=int(holds)).stdout)
    assert answer["holds"] is holds
    return {one["kind"]: one for one in answer["reasons"]}


def holding(found: dict[str, dict[str, Any]]) -> set[str]:
    return {kind for kind, one in found.items() if one["holds"]}


def test_a_task_that_the_next_pass_starts_is_held_by_nothing(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    world.add("quick")
    found = why(world, "task", "1", holds=False)
    assert "ada" in found["turn"]["words"]
    world.once()
    until(lambda: world.once() and world.task("1")["status"] == "complete", "it is complete")
    assert "complete" in why(world, "task", "1")["status"]["words"]


def test_each_thing_that_stands_in_the_way_is_named_with_its_mend(world: World) -> None:
    world.fleet(
        dev=pool("dev", "ada"), qa=pool("qa", "ben", limit=0), docs=pool("docs", "cy", extra="suspend: true\n")
    )
    for title, queue, *flags in (
        ("hold it", "dev"), ("waits its turn", "dev"), ("waits for 1", "dev", "--blocked-by", "1"),
        ("waits for 3", "dev", "--blocked-by", "3"), ("no slot", "qa"), ("suspended", "docs"), ("nobody", "ops"),
        ("stranger's", "dev", "--assign", "eve"),
    ):  # fmt: skip
        world.add(title, *flags, queue=queue)
    world.once()
    world.wait_running("1")
    assert "worked on by ada" in why(world, "task", "1")["status"]["words"]
    assert "1 of 1 slot in use" in why(world, "task", "2")["slots"]["words"]
    chain = why(world, "task", "4")
    assert holding(chain) >= {"blocked"}
    assert "3 (idle) ← 1 (working" in chain["blocked"]["words"]
    assert "ben has limit 0" in why(world, "task", "5")["limit"]["words"]
    assert "tsched pool resume docs" in why(world, "task", "6")["pool"]["mend"]
    assert "no pool of this runner serves queue ops" in why(world, "task", "7")["queue"]["words"]
    assert "eve" in why(world, "task", "8")["assignee"]["words"]
    world.run("stop", "--pool", "dev", "--reason", "deploy", check=0)
    assert "deploy" in why(world, "task", "2")["pool"]["words"]
    assert "tsched resume --pool dev" in world.run("why", "queue", "dev", check=1).stdout
    said = world.run("why", "queue", "ops", check=1).stdout
    assert "no pool of this runner serves queue ops" in said
    assert "no task 99" in world.run("why", "task", "99", check=2).stderr


def test_a_failing_recipe_and_a_backed_off_task_are_named(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.push(limits=LIMITS.replace("backoff: 50ms", "backoff: 1h"))
    world.add("fail")
    until(lambda: world.once() and world.outcomes("1") == ["failed"], "it has failed once")
    assert "backs off" in why(world, "task", "1")["backoff"]["words"]


def test_it_touches_nothing_and_answers_before_anything_is_applied(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.add("quick")
    assert holding(why(world, "task", "1")) == {"revision"}
    assert not (world.state / "tsched.db").exists()
