"""Looking at work that real runs left: reports, advice that applies, and who made what ran."""

import json
from typing import Any

from tests.e2e.world import RECIPE, World, pool, until


def asked(world: World, *arguments: str) -> Any:
    return json.loads(world.run(*arguments, "--json", check=0).stdout)


def test_what_ran_is_counted_as_it_ended(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben"))
    for title in ("quick one", "quick two", "fail it", "hold it"):
        world.add(title)
    world.add("never", "--blocked-by", "4")
    with world.daemon():
        world.wait_status("3", "parked")
        world.wait_status("2", "complete")
        world.wait_running("4")
    report = asked(world, "report")
    assert report["total"]["tasks"] == 3
    outcomes = {name: number for name, number in report["total"]["outcomes"].items() if number}
    assert outcomes == {"complete": 2, "failed": 2}, "two attempts at the failing task"
    (kind,) = report["total"]["failures"]
    assert (kind["runs"], kind["reason"], kind["exit_code"]) == (2, "exited", 3)
    assert report["total"]["wait_seconds"]["number"] == 3, "of first runs alone"
    (dev,) = asked(world, "queues")["queues"]
    assert (dev["assigned"], dev["outcomes"]["complete"], dev["outcomes"]["failed"]) == (5, 2, 2)
    assert (dev["idle"], dev["blocked"], dev["working"]) == (1, 1, 1)
    agents = asked(world, "agents")
    assert sum(one["last_24h"]["failed"]["number"] for one in agents) == 2
    assert sum(one["running"] for one in agents) == 1
    (capacity,) = asked(world, "capacity")["queues"]
    assert (capacity["runs"], capacity["slots"], capacity["runs_per_task"]) == (4, 2, 1.333)
    world.open("4")
    until(lambda: not world.running("4"), "the held task's run has ended")
    (dev,) = asked(world, "queues")["queues"]
    assert dev["assigned"] == 5, "a run that has ended and waits for a pass to reap it is not forgotten"


def test_a_run_is_counted_before_any_pass_is_on_record(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    task = world.add("hold it")
    world.once()
    world.wait_running(task)
    (world.state / "history.db").unlink()
    (dev,) = asked(world, "queues")["queues"]
    assert (dev["assigned"], dev["working"]) == (1, 1)


def test_the_suggested_limits_apply_as_a_patch(world: World) -> None:
    text = pool("dev", "ada, limit: 2", "ben, limit: 2, priority_floor: 100").rstrip("\n")  # the file's last line too
    world.fleet(dev=text)
    tasks = [world.add("hold one"), world.add("hold two")]
    world.once()
    for task in tasks:
        world.wait_running(task)
    (dev,) = asked(world, "report", "--balance")["pools"]
    assert {one["name"]: (one["burden"], one["suggested"]) for one in dev["agents"]} == {
        "ada": ("overloaded", 3), "ben": ("idle", 1),
    }  # fmt: skip
    patch = world.root / "all.patch"
    patch.write_text(world.run("report", "--balance", check=0).stdout)
    world.git("apply", str(patch))
    assert world.git("diff", "--stat").endswith("1 file changed, 2 insertions(+), 2 deletions(-)")
    assert (world.clone / "pools/dev.yaml").read_text() == text.replace("ada, limit: 2", "ada, limit: 3").replace(
        "ben, limit: 2", "ben, limit: 1"
    )
    world.run("validate", str(world.clone), check=0)
    world.push("even it out")
    world.once()
    assert [agent["limit"] for agent in asked(world, "agents")] == [3, 1]
    world.open(*tasks)
    until(lambda: not any(map(world.running, tasks)), "the held tasks' runs have ended")


def test_a_run_is_traced_to_the_commit_and_the_words_that_it_ran(world: World) -> None:
    first = world.fleet(dev=pool("dev", "ada"))
    sharper = RECIPE.replace("Do it.", "Do it well.")
    with world.daemon():
        world.add("quick")
        world.wait_status("1", "complete")
        world.recipes("ada", text=sharper)
        world.environ |= {"GIT_AUTHOR_NAME": "Grace", "GIT_AUTHOR_EMAIL": "grace@example.org"}
        second = world.push("Sharper words (#12)")
        world.environ |= {"GIT_AUTHOR_NAME": "op", "GIT_AUTHOR_EMAIL": "op@example.org"}
        until(lambda: world.applied() == second, "the words are applied")
        world.add("fail it")
        world.wait_status("2", "parked")
        third = world.push("More slots", dev=pool("dev", "ada", limit=2))
        until(lambda: world.applied() == third, "the slots are applied")
        world.add("hold it")
        world.wait_running("3")
    (attempt,) = asked(world, "blame", "1", "--recipe")["attempts"]
    assert (attempt["revision"], attempt["commit"]["author"], attempt["pull_request"]) == (first, "op", None)
    assert attempt["recipe"]["text"] == RECIPE, "as it was then"
    before, after = asked(world, "blame", "2", "--recipe")["attempts"]
    assert before["revision"] == after["revision"] == second
    assert (after["attempt"], after["outcome"], after["exit_code"]) == (2, "failed", 3)
    assert (after["commit"]["author"], after["commit"]["subject"]) == ("Grace", "Sharper words (#12)")
    assert after["pull_request"] == {"number": 12, "url": None}, "the address of a path says no forge"
    assert after["recipe"]["text"] == sharper
    assert after["recipe"]["blob"] == world.git("rev-parse", f"{second}:recipes/ada.yaml")
    (live,) = asked(world, "blame", "3")["attempts"]
    assert (live["outcome"], live["revision"]) == (None, third)
    assert live["recipe"]["changed"]["id"] == second, "the commit that wrote these words, not the newest"
    words = world.run("blame", "2", "--recipe", check=0).stdout
    assert "by Grace <grace@example.org>" in words
    assert words.count("Do it well.") == 1, "the same words are shown once"

    found = asked(world, "blame", "--revision", "HEAD~1")
    assert (found["revision"], found["before"]["revision"]) == (second, first)
    assert ("recipe.changed", "recipe/ada.yaml") in [(one["kind"], one["subject"]) for one in found["changes"]]
    assert found["all"]["verdict"] == "too few to tell"
    (recipe,) = found["by"]["recipe"]
    assert (recipe["recipe_changed"], recipe["complete"]["before"]["number"], recipe["complete"]["now"]["of"]) == (
        True, 1, 2,
    )  # fmt: skip
    words = world.run("blame", "--revision", second[:10], check=0).stdout
    assert "too few to tell: only 1 run on a side" in words
    assert "recipe changed" in words
    world.open("3")
    until(lambda: not world.running("3"), "the held task's run has ended")
