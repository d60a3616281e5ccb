"""Retries that go on: the conversation and the unsaved work of the run before. goose's part is played by a script
that says what goose 1.52.0 says; the real programs do the same in tests/agents."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.world import LIMITS, World, pool, until

# Attempt by attempt, as $GATE/plan says: fail (work, exit 3), down (no model, exit 0), else done.
GOOSE = """\
#!/bin/sh
number=$(ls "$GATE" | grep -c '^argv')
for word in "$@"; do printf '%s\\n' "$word"; done > "$GATE/argv.$number"
git status --porcelain > "$GATE/status.$number"
git log -1 --format=%s > "$GATE/head.$number"
plan=$(sed -n "$((number + 1))p" "$GATE/plan")
total=$(( (number + 1) * 42 ))
model='{"userVisible":true,"inference":{"provider":"openai"}}'
if [ "$plan" = down ]; then model='{"userVisible":true}'; total=$((number * 42)); fi
said='"role":"assistant","content":[{"type":"text","text":"Hm."}]'
echo '{"type":"message","message":{"id":"m",'"$said"',"metadata":'"$model"'}}'
echo '{"type":"complete","total_tokens":'$total',"input_tokens":'$((total - 2))',"output_tokens":2}'
case "$plan" in
  fail) echo better >> gate; echo new > left; git rm -q --cached old; rm old; exit 3;;
esac
"""


RECIPE = """\
title: T
description: D
prompt: "Do {{ task_title }}."
parameters: [{key: task_title, input_type: string, requirement: required, description: What}]
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    one = World(tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "goose").write_text(GOOSE)
    (programs / "goose").chmod(0o755)
    one.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
    app = tmp_path / "app"
    subprocess.run(["git", "init", "-q", "-b", "main", app], check=True, env=one.environ)
    (app / "gate").write_text("squeaks\n")
    (app / "old").write_text("old\n")
    for words in (["add", "."], ["commit", "-qm", "first"]):
        subprocess.run(["git", "-C", app, *words], check=True, env=one.environ)
    extra = f"workspace: {{repo: {app}, ref: main, keep: never}}\n"
    one.fleet(dev=pool("dev", "ada, runtime: goose, session: continue", extra=extra))
    one.recipes("ada", text=RECIPE)
    one.push(limits=LIMITS.replace("attempts: 2", "attempts: 4"))
    return one


def worked(world: World, *plan: str, status: str = "complete") -> dict[str, Any]:
    """The task once it is in that status, its attempts gone as planned."""
    (world.gates / "plan").write_text("\n".join(plan) + "\n")
    number = world.add("Mend the gate")
    with world.daemon():
        return world.wait_status(number, status)


def said(world: World, name: str, number: int) -> str:
    return (world.gates / f"{name}.{number}").read_text()


def test_a_retry_goes_on_with_the_conversation_and_the_work_as_it_was_left(world: World) -> None:
    task = worked(world, "fail", "done")
    first, _ = task["runs"]
    begun, resumed = (said(world, "argv", number).split("\n") for number in range(2))
    assert begun[:2] == ["run", "--recipe"]
    assert begun[begun.index("--name") + 1] == first["run_id"]
    assert "--no-session" not in begun
    assert resumed[:4] == ["run", "--resume", "--name", first["run_id"]]
    assert "--recipe" not in resumed
    words = said(world, "argv", 1)
    assert "That run ended so: exit status 3" in words
    assert f"Your working folder, {world.state / 'workspaces' / first['run_id']}, is as you left it" in words
    assert "Do Mend the gate." in words
    assert "--params" in begun
    assert "--params" not in resumed
    assert said(world, "status", 1).split("\n") == [" M gate", " D old", "?? left", ""]
    assert said(world, "head", 1) == "first\n"
    assert [run["usage"]["total_tokens"] for run in task["runs"]] == [42, 42]
    assert world.status()["usage"] == [
        {"agent": "ada", "queue": "dev", "runs": 2, "total_tokens": 84, "cost_usd": None}
    ]
    assert "Spent in the last 24 hours" in world.run("status", check=0).stdout
    assert "ada goes on with task 1, attempt 2" in [event["message"] for event in world.events("run.started")]


def test_a_resumed_run_without_an_answer_proves_nothing_and_the_next_begins_anew(world: World) -> None:
    task = worked(world, "fail", "down", "done")
    assert [run["outcome"] for run in task["runs"]] == ["failed", "unproven", "complete"]
    assert "--resume" in said(world, "argv", 1)
    assert "--resume" not in said(world, "argv", 2)
    assert task["runs"][2]["run_id"] in said(world, "argv", 2)


def test_a_run_that_never_got_to_start_ends_no_conversation(world: World) -> None:
    (world.gates / "plan").write_text("fail\ndone\n")
    number = world.add("Mend the gate")

    def decided(count: int) -> bool:
        world.run("run", "--once")
        return len([one for one in world.outcomes(number) if one != "None"]) == count

    until(lambda: decided(1), "the first run failed")
    app = world.root / "app"
    app.rename(world.root / "away")  # the workspace's repository can't be fetched
    until(lambda: decided(2), "the second could not be started")
    (world.root / "away").rename(app)
    until(lambda: decided(3), "the third is done")
    assert "--resume" in said(world, "argv", 1)
    assert " M gate" in said(world, "status", 1)
    assert world.task(number)["status"] == "complete"


def test_a_task_that_a_person_reopens_begins_anew(world: World) -> None:
    worked(world, "fail", "done")
    world.run("task", "reopen", "1", check=0)
    with world.daemon():
        world.wait_status("1", "complete")
    assert "--resume" not in said(world, "argv", 2)


def test_a_changed_recipe_begins_anew(world: World) -> None:
    (world.gates / "plan").write_text("fail\ndone\n")
    world.add("Mend the gate")
    while not world.outcomes("1"):
        world.run("run", "--once", check=0)
    world.recipes("ada", text="title: T\ndescription: D\nprompt: Do it well.\n")
    world.push("a better recipe")
    with world.daemon():
        world.wait_status("1", "complete")
    assert "--resume" not in said(world, "argv", 1)


def test_without_the_key_nothing_of_the_run_before_comes_along(world: World) -> None:
    extra = f"workspace: {{repo: {world.root / 'app'}, ref: main, keep: never}}\n"
    world.push(dev=pool("dev", "ada, runtime: goose", extra=extra))
    worked(world, "fail", "done")
    for number in range(2):
        assert "--no-session" in said(world, "argv", number)
        assert said(world, "status", number) == ""


def test_a_runtime_that_can_not_go_on_is_said_at_once(world: World) -> None:
    world.push(dev=pool("dev", "ada, session: continue"))
    found = world.run("validate", ".", cwd=world.clone, check=0).stdout
    assert "TS317" in found
