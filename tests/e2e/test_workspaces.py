"""Worktrees through the whole program: hooks from the fleet repo, what is kept, listed and removed."""

import json
import subprocess
from pathlib import Path

from tests.e2e.world import World, pool, until


def app(world: World) -> Path:
    """A repository that the agents work on."""
    folder = world.root / "app"
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True, env=world.environ)
    (folder / "gate").write_text("squeaks\n")
    for words in (["add", "."], ["commit", "-qm", "first"]):
        subprocess.run(["git", "-C", folder, *words], check=True, env=world.environ)
    return folder


def test_hooks_of_the_pool_run_around_the_agent_and_a_fatal_one_is_named_on_the_task(world: World) -> None:
    repo = app(world)
    before = """'test "$TSCHED_TASK_PRIORITY" = 0 || { echo "too important"; exit 4; }'"""
    hooks = f"before_run: {before}, after_run: echo after"
    world.fleet(dev=pool("dev", "ada", extra=f"workspace: {{repo: {repo}, ref: main, hooks: {{{hooks}}}}}\n"))
    good, bad = world.add("quick"), world.add("quick", "--priority", "3")
    with world.daemon():
        world.wait_status(good, "complete")
        until(lambda: world.task(bad)["runs"], "the other has had a run")
    (run,) = world.task(good)["runs"]
    log = (world.state / "logs" / "runs" / f"{run['run_id']}.log").read_text()
    assert log.endswith("after\n")
    assert "hook before_run failed: exit status 4: too important" in world.task(bad)["runs"][0]["reason"]


def test_a_failed_runs_folder_is_kept_listed_and_removed_on_demand(world: World) -> None:
    repo = app(world)
    world.fleet(dev=pool("dev", "ada", extra=f"workspace: {{repo: {repo}, ref: main}}\n"))
    assert world.run("workspace", "list", check=0).stdout == "No work folder is left over\n"
    task = world.add("fail")
    with world.daemon():
        world.wait_status(task, "parked")
        world.settled()
    kept = json.loads(world.run("workspace", "list", "--json", check=0).stdout)
    assert [(one["task_id"], one["agent"], one["reason"]) for one in kept] == [(task, "ada", "keep: on-failure")] * 2
    first = kept[0]["run_id"]
    assert first in world.run("workspace", "list", check=0).stdout
    (Path(kept[0]["folder"]) / "gate").write_text("mended\n")
    assert world.run("workspace", "remove", first, check=0).stdout == f"Removed the work folder of {first}\n"
    assert len(json.loads(world.run("workspace", "list", "--json", check=0).stdout)) == 1
    (cache,) = (world.state / "workspaces" / ".repos").glob("*.git")
    saved = subprocess.run(
        ["git", "-C", cache, "show", f"refs/tsched/salvage/{task}/1:gate"], capture_output=True, text=True, check=True
    )
    assert saved.stdout == "mended\n"
    refused = world.run("workspace", "remove", first, check=1)
    assert refused.stderr == f"tsched: {first}: no workspace of that run is kept\n"


def test_a_review_shows_the_commands_that_hooks_bring(world: World) -> None:
    repo = app(world)
    before = world.fleet(dev=pool("dev", "ada", extra=f"workspace: {{repo: {repo}, ref: main}}\n"))
    hooks = f"workspace: {{repo: {repo}, ref: main, hooks: {{after_create: make deps}}}}\n"
    world.push(dev=pool("dev", "ada", extra=hooks))
    shown = world.run("diff", before, "HEAD", cwd=world.clone).stdout
    assert "after_create: make deps" in shown
