"""Runs without progress, and recipes that fail: what stops them, what is said, what ends it."""

import json
import sqlite3

from tests.e2e.world import LIMITS, RECIPE, World, pool, until
from tsched.schedule.breaker import FAILURES


def test_a_task_whose_agents_make_no_progress_twice_is_parked(world: World) -> None:
    stuck = LIMITS.replace("exit}\n", 'exit}\n  stuck: {argv: [sleep, "300"]}\n').replace(
        "attempts: 2", "attempts: 5"
    )
    world.fleet(dev=pool("dev", "ada, runtime: stuck, stall: 500ms"), limits=stuck)
    task = world.add("a task")
    with world.daemon():
        shown = world.wait_status(task, "parked")
    assert [run["outcome"] for run in shown["runs"]] == ["failed", "failed"]
    assert "it made no progress: no output, no new process" in shown["runs"][0]["reason"]
    assert shown["runs"][1]["reason"].endswith("as the attempt before")
    world.settled()


def test_a_recipe_whose_runs_all_fail_rests_until_it_is_mended(world: World) -> None:
    patient = LIMITS.replace("attempts: 2", "attempts: 50")
    world.fleet(dev=pool("dev", "ada", "ben, recipe: ada.yaml"), limits=patient)
    failing = [world.add("fail") for _ in range(3)]
    with world.daemon():
        until(lambda: world.events("breaker.opened"), "the breaker opens")
        until(lambda: not world.leases(), "the last runs ended")
        runs = sum(len(world.task(task)["runs"]) for task in failing)
        assert runs in (FAILURES, FAILURES + 1), "two agents: one run may have been under way"
        waiting = world.add("quick", "--priority", "1")  # before those that fail, and would trip it again
        seen = len(world.events("run.started"))
        cycle = world.status()["runner"]["last_cycle"]
        until(lambda: world.status()["runner"]["last_cycle"] > cycle, "another pass")
        assert len(world.events("run.started")) == seen, "nothing starts while it rests"
        world.recipes("ada", text=RECIPE.replace("Do it.", "Do it well."))
        world.push()
        world.wait_status(waiting, "complete")
    opened = world.events("breaker.opened")[0]
    assert opened["subject"] == "recipe/recipes/ada.yaml"
    assert "failed: no more start before" in opened["message"]


def test_after_the_rest_one_run_tries_and_its_success_closes_the_breaker(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"), limits=LIMITS.replace("attempts: 2", "attempts: 50"))
    failing = [world.add("fail") for _ in range(2)]
    with world.daemon():
        until(lambda: world.events("breaker.opened"), "the breaker opens")
    for task in failing:
        world.run("task", "cancel", task, check=0)
    waiting = world.add("quick")
    with sqlite3.connect(world.state / "tsched.db") as db:  # the rest is over
        ((body,),) = db.execute("SELECT body FROM breakers")
        db.execute("UPDATE breakers SET body = ?", (json.dumps({**json.loads(body), "until": 1.0}),))
    db.close()
    with world.daemon():
        world.wait_status(waiting, "complete")
        until(lambda: world.events("breaker.closed"), "the breaker closes")
