"""Real agents under a real runner: a task is taken, worked on and completed; and never completed falsely.

The model alone is a small server of our own (model_server.py). Everything else is what a team would run.
"""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agents.model_server import Call, Script, results, serving
from tests.e2e.world import World, until

AGENTS = ("goose", "claude", "codex", "opencode")
PATIENCE = 120.0  # seconds; an agent of 400 MB starts slowly on a cold disk
LIMITS = """\
apiVersion: tsched/v1
kind: Limits
loop_interval: 200ms
heartbeat: 1s
stop_grace: 2s
stall: 10s
max_runtime: 25s
retry: {attempts: 1}
"""
RECIPE = """\
title: Mender
description: Mends what it is asked to mend.
prompt: "Do task {{ task_id }}: {{ task_title }}"
parameters:
  - {key: task_id, input_type: string, requirement: required, description: Its id}
  - {key: task_title, input_type: string, requirement: required, description: What to do}
"""
# What docs/agents.md says for goose, where the task server wants a token.
TASKS = """\
extensions:
  - type: streamable_http
    name: tasks
    uri: {mcp}
    headers: {{Authorization: "Bearer ${{TSCHED_TASKS_TOKEN}}"}}
    env_keys: [TSCHED_TASKS_TOKEN]
"""
# How each is pointed at a model server: what an operator would put into the runner's environment.
HOST = {
    "goose": {
        "GOOSE_PROVIDER": "openai", "GOOSE_MODEL": "tester", "OPENAI_HOST": "{base}", "OPENAI_API_KEY": "x",
        "GOOSE_MODE": "auto", "GOOSE_DISABLE_KEYRING": "1",
    },
    "claude": {"ANTHROPIC_BASE_URL": "{base}", "ANTHROPIC_API_KEY": "x", "DISABLE_AUTOUPDATER": "1"},
    "codex": {"TESTER_KEY": "x"},
    "opencode": {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_CONFIG_CONTENT": "{config}"},
}  # fmt: skip
CODEX = """\
model = "tester"
model_provider = "tester"
[model_providers.tester]
name = "tester"
base_url = "{base}/v1"
wire_api = "responses"
env_key = "TESTER_KEY"
"""


def opencode_config(base: str) -> str:
    options = {"baseURL": f"{base}/v1", "apiKey": "x"}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {"tester": {}}}
    return json.dumps({"provider": {"tester": provider}, "model": "tester/tester"})


def shell(schema: Mapping[str, Any]) -> dict[str, str]:
    """The arguments of whatever the agent calls its shell."""
    words = {"command": "echo mended > gate", "cmd": "echo mended > gate", "description": "Mend the gate"}
    return {key: value for key, value in words.items() if key in schema["properties"]}


def oil(schema: Mapping[str, Any]) -> Mapping[str, object]:
    return {key: value.replace("echo mended > gate", "touch oil") for key, value in shell(schema).items()}


def commenting(text: str) -> Call:
    return Call(("add_comment",), lambda _: {"task_id": 1, "content": text, "created_by": "the model"})


SHELL = Call(("shell", "Bash", "exec_command", "bash"), shell)
OIL = Call(SHELL.names, oil)
FIND = Call(("ToolSearch",), lambda _: {"query": "select:mcp__tasks__add_comment,mcp__tasks__update_task"})
COMPLETE = Call(("update_task",), lambda _: {"id": 1, "status": "complete"})


def script_of(agent: str, *calls: Call, answer: str = "The gate is mended.") -> Script:
    """Claude Code offers the tools of MCP servers only once they were searched for."""
    return Script(calls=(FIND, *calls) if agent == "claude" else calls, answer=answer)


class Team(World):
    """A world whose agents are real ones: `point_at` a model server, then `task`."""

    def __init__(self, root: Path, agent: str, programs: Path) -> None:
        super().__init__(root)
        self.name = agent
        self.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
        app = root / "app"
        subprocess.run(["git", "init", "-q", "-b", "main", app], check=True, env=self.environ)
        (app / "gate").write_text("squeaks\n")
        for words in (["add", "."], ["commit", "-qm", "first"]):
            subprocess.run(["git", "-C", app, *words], check=True, env=self.environ)
        self.file("recipes/ada.yaml", RECIPE)
        head = f"apiVersion: tsched/v1\nkind: Pool\nname: dev\nruntime: {agent}\n"
        self.push(
            limits=LIMITS, dev=f"{head}workspace: {{repo: {app}, ref: main, keep: never}}\nagents: [{{name: ada}}]\n"
        )

    def point_at(self, base: str) -> None:
        given = HOST[self.name]
        self.environ |= {
            name: value.replace("{base}", base).replace("{config}", opencode_config(base))
            for name, value in given.items()
        }
        self.environ["TSCHED_PASS_ENV"] = ",".join(given)
        (self.root / ".codex").mkdir(exist_ok=True)
        (self.root / ".codex" / "config.toml").write_text(CODEX.replace("{base}", base))

    @contextmanager
    def serving_tasks(self) -> Iterator[None]:
        """`tsched tasks serve` beside the runner, and agents told of it."""
        with subprocess.Popen(
            [sys.executable, "-m", "tsched", "tasks", "serve", "--port", "0"], env=self.environ, cwd=self.root,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        ) as server:  # fmt: skip
            assert server.stdout is not None
            address = re.search(r"MCP at (\S+)", server.stdout.readline())
            assert address is not None
            self.environ["TSCHED_TASKS_MCP"] = address[1]
            try:
                yield
            finally:
                server.terminate()

    def ended(self, task: str, *, limit: float = PATIENCE) -> dict[str, Any]:
        """The task once a run of it is decided."""
        until(lambda: self.decided(task), f"a run of task {task} is decided", limit=limit)
        self.settled()
        return self.task(task)

    def decided(self, task: str) -> int:
        """How many runs of the task are over and decided."""
        return sum(run["outcome"] is not None for run in self.task(task)["runs"])

    def log(self, task: dict[str, Any]) -> str:
        return (self.state / "logs" / "runs" / f"{task['runs'][-1]['run_id']}.log").read_text()

    def saved_gate(self, task: str) -> str:
        (cache,) = (self.state / "workspaces" / ".repos").glob("*.git")
        words = ["git", "-C", str(cache), "show", f"refs/tsched/salvage/{task}/1:gate"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(params=AGENTS)
def team(request: pytest.FixtureRequest, tmp_path: Path, programs: Path) -> Team:
    return Team(tmp_path, request.param, programs)


def test_it_takes_a_task_comments_by_mcp_works_in_its_worktree_and_completes(team: Team) -> None:
    with serving(script_of(team.name, commenting("I am at it."), SHELL)) as model, team.serving_tasks():
        team.point_at(model.base)
        number = team.add("Mend the gate")
        with team.daemon():
            task = team.ended(number)
    assert task["status"] == "complete", team.log(task)
    (run,) = task["runs"]
    assert (run["outcome"], run["exit_code"]) == ("complete", 0)
    assert run["usage"]["total_tokens"] >= 42 * 3, "three requests to the model"
    assert "I am at it." in team.run("task", "show", number, check=0).stdout
    assert team.saved_gate(number) == "mended"
    asked = json.dumps(model.script.requests)
    assert f"Do task {number}: Mend the gate" in asked


def test_its_own_word_on_the_task_stands(team: Team) -> None:
    """It completes its task by MCP; that its recipe's check would fail does not matter any more."""
    team.file(
        "recipes/ada.yaml", RECIPE + "retry: {max_retries: 1, checks: [{type: shell, command: test -e nothing}]}\n"
    )
    team.push()
    with serving(script_of(team.name, COMPLETE)) as model, team.serving_tasks():
        team.point_at(model.base)
        number = team.add("Mend the gate")
        with team.daemon():
            task = team.ended(number)
    assert task["status"] == "complete", team.log(task)
    assert task["runs"][0]["reason"] == "the task was completed by the agent itself"


def test_it_shows_the_task_server_its_token_where_it_was_given_it(team: Team) -> None:
    team.environ["TSCHED_TASKS_TOKEN"] = "s3cret-for-tasks"
    with serving(script_of(team.name, COMPLETE)) as model, team.serving_tasks():
        team.point_at(model.base)
        team.environ["TSCHED_PASS_ENV"] += ",TSCHED_TASKS_TOKEN"
        if team.name == "goose":  # it takes no header by a flag
            team.file("recipes/ada.yaml", RECIPE + TASKS.format(mcp=team.environ.pop("TSCHED_TASKS_MCP")))
            team.push()
        number = team.add("Mend the gate")
        with team.daemon():
            task = team.ended(number)
    assert task["runs"][0]["reason"] == "the task was completed by the agent itself", team.log(task)


def test_a_retry_goes_on_with_its_conversation_and_its_files(team: Team) -> None:
    check = "grep -q mended gate && test -e oil"
    team.file("recipes/ada.yaml", f"{RECIPE}retry: {{max_retries: 1, checks: [{{type: shell, command: {check}}}]}}\n")
    limits = LIMITS.replace("retry: {attempts: 1}", "retry: {attempts: 2, backoff: 4s}")
    pool = (team.clone / "pools/dev.yaml").read_text().replace("{name: ada}", "{name: ada, session: continue}")
    team.push(limits=limits, dev=pool)
    with serving(script_of(team.name, SHELL, answer="Half done.")) as model:
        team.point_at(model.base)
        number = team.add("Mend the gate")
        with team.daemon():
            until(lambda: team.decided(number) == 1, "the first run is decided", limit=PATIENCE)
            before = len(model.script.requests)
            model.script.calls, model.script.answer = (*model.script.calls, OIL), "All done."
            until(lambda: team.decided(number) == 2, "the second run is decided", limit=PATIENCE)
        task = team.task(number)
    first, second = task["runs"]
    assert (first["outcome"], second["outcome"], task["status"]) == ("unproven", "complete", "complete"), team.log(
        task
    )
    asked = json.dumps(model.script.requests[before:])
    assert "Half done." in asked
    assert "Go on with the task" in asked
    assert first["usage"]["total_tokens"] > 0
    assert 0 < second["usage"]["total_tokens"] <= first["usage"]["total_tokens"], "its own figures alone"


def test_the_documents_block_can_be_pasted(team: Team) -> None:
    text = (Path(__file__).parents[2] / "docs/agents.md").read_text(encoding="utf-8")
    blocks = [re.findall(rf"<!-- run {name} -->\n```sh\n(.*?)```", text, re.DOTALL) for name in (team.name, "all")]
    assert [len(one) for one in blocks] == [1, 1]
    folder = team.root / "reader"
    folder.mkdir()
    with serving(script_of(team.name, COMPLETE)) as model:
        team.point_at(model.base)
        environ = {name: value for name, value in team.environ.items() if not name.startswith("TSCHED_")}
        environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", "set -eu\n" + blocks[0][0] + blocks[1][0]], cwd=folder, env=environ, capture_output=True,
            text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the task was completed by the agent itself" in done.stdout


def test_a_failed_check_of_the_recipe_is_no_success_whatever_the_agent_says(team: Team) -> None:
    team.file(
        "recipes/ada.yaml", RECIPE + "retry: {max_retries: 1, checks: [{type: shell, command: test -e nothing}]}\n"
    )
    team.push()
    with serving(script_of(team.name)) as model:
        team.point_at(model.base)
        number = team.add("Mend the gate")
        with team.daemon():
            task = team.ended(number)
    assert (task["status"], task["runs"][0]["outcome"]) == ("parked", "unproven"), team.log(task)
    assert "the recipe's check `test -e nothing`: exit status 1" in task["runs"][0]["reason"]


@pytest.mark.parametrize(("answer", "status"), [('{"mended": true}', "complete"), ("Mended, I think.", "parked")])
def test_an_answer_has_to_fit_the_recipes_response(team: Team, answer: str, status: str) -> None:
    schema = "{type: object, required: [mended], properties: {mended: {type: boolean}}}"
    team.file("recipes/ada.yaml", f"{RECIPE}response: {{json_schema: {schema}}}\n")
    team.push()
    calls = [Call(("final_output",), lambda _: {"mended": True})] if status == "complete" else []
    with serving(script_of(team.name, *calls, answer=answer)) as model:
        team.point_at(model.base)
        number = team.add("Mend the gate")
        with team.daemon():
            task = team.ended(number)
    assert task["status"] == status, team.log(task)
    if status == "parked":  # goose itself asks its model again and again for an answer that fits
        reason = (
            "max_runtime passed" if team.name == "goose" else "its answer is not what the recipe's response asks for"
        )
        assert reason in task["runs"][0]["reason"]


@pytest.mark.parametrize("fault", ["down", "refused", "hanging"])
def test_no_task_is_completed_falsely_where_the_model_does_not_answer(team: Team, fault: str) -> None:
    script = Script(status=401 if fault == "refused" else 200, hang=fault == "hanging")
    with serving(script) as model:
        base = model.base
        if fault == "down":
            with socket.create_server(("127.0.0.1", 0)) as taken:
                base = f"http://127.0.0.1:{taken.getsockname()[1]}"
        team.point_at(base)
        number = team.add("Mend the gate")
        with team.daemon():
            task = team.ended(number)
    (run,) = task["runs"]
    assert (task["status"], run["outcome"] in ("unproven", "failed")) == ("parked", True), team.log(task)
    assert run["usage"] is None or run["usage"]["output_tokens"] == 0


@pytest.mark.parametrize("fault", ["down", "refused", "hanging"])
def test_nor_where_it_stops_answering_midway(team: Team, fault: str) -> None:
    """Tokens were spent and work was done by then: neither proves that the rest of it was."""
    team.push(limits=LIMITS.replace("stall: 10s", "stall: 25s").replace("max_runtime: 25s", "max_runtime: 100s"))
    script = script_of(team.name, SHELL)
    script.after = len(script.calls)
    script.status = {"down": 0, "refused": 400, "hanging": 200}[fault]
    script.hang = fault == "hanging"
    with serving(script) as model:
        team.point_at(model.base)
        number = team.add("Mend the gate")
        with team.daemon():
            task = team.ended(number, limit=1.5 * PATIENCE)
    (run,) = task["runs"]
    assert (task["status"], run["outcome"] in ("unproven", "failed")) == ("parked", True), team.log(task)
    assert any(results(body) == script.after for body in script.requests), "it got that far"
    assert team.saved_gate(number) == "mended"
