"""Runtimes: placeholders, prompts, environments, programs; and what proves that tokens were spent."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsched.executors.evidence import evidence, usage
from tsched.executors.runtimes import (
    MOST,
    Paths,
    Told,
    arguments,
    bounded,
    clean,
    environment,
    merged,
    program,
    prompt,
)
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Parameter, Recipe, Runtime
from tsched.model.run import Run, Usage
from tsched.model.runtimes import BUILT_IN
from tsched.model.task import Task

PATHS = Paths(recipe=Path("/r/recipe/vaela.yaml"), task_file=Path("/r/task.json"), workspace=Path("/w"))
TASK = Task(id="7", title="Mend the gate", queue="dev", description="It squeaks", priority=3)
RECIPE = Recipe(path="recipes/vaela.yaml", title="Vaela", prompt="Do it")
RUN = Run(
    run_id="r1",
    task_id="7",
    agent="vaela",
    pool="dev",
    queue="dev",
    attempt=1,
    revision="a" * 40,
    executor="local",
    recipe=RECIPE.path,
    runtime="goose",
    evidence="exit",
    created_at=0.0,
)


def argv(*items: str, recipe: Recipe = RECIPE, task: Task = TASK, parameters: str = "") -> tuple[str, ...]:
    runtime = Runtime(name="r", argv=items, parameters=parameters)
    return arguments(runtime, recipe=recipe, task=task, agent="vaela", paths=PATHS)


def declared(*keys: str, text: str = "Do it") -> Recipe:
    parameters = tuple(Parameter(key=key) for key in keys)
    return replace(RECIPE, prompt=text, parameters=parameters)


# -- arguments -------------------------------------------------------------------------------------------------------


def test_the_six_placeholders_stand_for_whole_or_part_arguments() -> None:
    assert argv("{prompt}", "--r={recipe}", "{task_id}", "a{task_file}b", "{workspace}/x", "{agent}{agent}") == (
        *("Do it", "--r=/r/recipe/vaela.yaml", "7", "a/r/task.jsonb", "/w/x", "vaelavaela"),
    )


@pytest.mark.parametrize(
    "text", ["{x}", "{}", "{{x}}", "{ prompt }", "{Prompt}", "${HOME}", "{queue}", "{task_title}"]
)
def test_other_braces_are_literal(text: str) -> None:
    assert argv("p", text) == ("p", text)


@given(st.text(alphabet="{}promtecisk_aw ", max_size=40))
def test_text_that_was_put_in_is_not_looked_at_again(title: str) -> None:
    recipe = declared("task_title", text="{{ task_title }}")
    assert argv("p", "x{prompt}", recipe=recipe, task=replace(TASK, title=title)) == ("p", f"x{title}")


def test_parameters_are_given_only_where_the_recipe_declares_them_and_in_its_order() -> None:
    recipe = declared("queue", "task_title", "task_id")
    assert argv("goose", recipe=recipe, parameters="--params") == (
        *("goose", "--params", "queue=dev", "--params", "task_title=Mend the gate", "--params", "task_id=7"),
    )
    assert argv("goose", parameters="--params") == ("goose",)


def test_a_parameter_that_nobody_supplies_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"recipes/vaela.yaml: parameter `colour` has no value"):
        argv("goose", recipe=declared("colour"), parameters="--params")
    optional = replace(RECIPE, parameters=(Parameter(key="colour", requirement="optional", default="red"),))
    assert argv("goose", recipe=optional, parameters="--params") == ("goose",)


@given(st.text(max_size=30))
def test_task_text_never_begins_an_argument_like_a_flag(title: str) -> None:
    recipe = declared("task_title", text="{{ task_title }}")
    _, item = argv("p", "{prompt}", recipe=recipe, task=replace(TASK, title=title))
    assert not item.startswith("-")
    assert item.removeprefix("\n") == clean(title).removeprefix("\n")


def test_a_flag_of_the_template_stays_a_flag() -> None:
    assert argv("p", "-m{prompt}", "--", "-x") == ("p", "-mDo it", "--", "-x")


@given(st.text(alphabet="aü\0🛠\ud800", min_size=0, max_size=50), st.sampled_from([1, 900, 5000]))
def test_bounded_text_fits_and_is_text(text: str, times: int) -> None:
    whole = clean(text * times)
    cut = bounded(text * times)
    assert len(cut.encode()) <= MOST
    assert "\0" not in cut
    assert cut == whole or (cut.endswith("TSCHED_TASK_FILE names]") and whole.startswith(cut[:100]))


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_built_in_runtime_makes_a_command(name: str) -> None:
    recipe = declared("task_title", text="{{ task_title }}")
    command = arguments(BUILT_IN[name], recipe=recipe, task=TASK, agent="vaela", paths=PATHS)
    assert command[0] == name
    assert sum("Mend the gate" in item for item in command) == 1


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_an_agent_is_told_the_form_of_its_answer(name: str) -> None:
    recipe = replace(RECIPE, response='{"type": "object"}')
    command = arguments(BUILT_IN[name], recipe=recipe, task=TASK, agent="vaela", paths=PATHS)
    told = any('matches this JSON Schema:\n{"type": "object"}' in item for item in command)
    assert told == (name != "goose"), "goose reads the recipe itself"


# -- prompts ---------------------------------------------------------------------------------------------------------


def rendered(recipe: Recipe, **supplied: str) -> str:
    return prompt(recipe, supplied=supplied, folder=Path("/r/recipe"))


def test_a_prompt_is_the_instructions_and_the_prompt_with_parameters_defaults_and_recipe_dir() -> None:
    recipe = Recipe(
        path="recipes/v.yaml",
        title="V",
        instructions="You are {{ agent }}.",
        prompt="{% if mood %}Be {{ mood }}. {% endif %}Mend {{ task_title }}, see {{ recipe_dir }}.\n",
        parameters=(
            Parameter(key="agent"),
            Parameter(key="task_title"),
            Parameter(key="mood", requirement="optional", default="kind"),
        ),
    )
    text = rendered(recipe, agent="vaela", task_title="{{ agent }} <b>")
    assert text == "You are vaela.\n\nBe kind. Mend {{ agent }} <b>, see /r/recipe.\n"


@pytest.mark.parametrize(
    "text",
    [
        "{{ colour }}",
        "{% if %}",
        "{{ 'x' * 2000000000 }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
        "{% for i in range(10000) %}{{ task_title }}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include '/etc/passwd' %}",
        "{{ ''.__class__ }}",
    ],
)
def test_a_template_that_is_wrong_or_unbounded_is_one_line_for_its_author(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^recipes/vaela.yaml: its prompt can't be rendered: [^\n]*$"):
        rendered(declared("task_title", text=text), task_title="x" * 1000)


# -- environment -----------------------------------------------------------------------------------------------------


def env(
    host: dict[str, str], *passed: str, runtime: Runtime | None = None, recipe: Recipe = RECIPE
) -> dict[str, str]:
    return environment(
        host,
        passed=passed,
        runtime=runtime or Runtime(name="tests", argv=("x",)),
        recipe=recipe,
        task=TASK,
        run=RUN,
        task_file=PATHS.task_file,
    )


def test_an_environment_is_an_allow_list() -> None:
    host = {"PATH": "/p", "HOME": "/h", "LANG": "C", "TZ": "UTC", "TMPDIR": "/t", "TOKEN": "t", "OTHER": "o"}
    own = {
        "TSCHED_TASK_ID": "7",
        "TSCHED_TASK_TITLE": "Mend the gate",
        "TSCHED_TASK_DESCRIPTION": "It squeaks",
        "TSCHED_TASK_QUEUE": "dev",
        "TSCHED_TASK_PRIORITY": "3",
        "TSCHED_TASK_FILE": "/r/task.json",
        "TSCHED_RUN_ID": "r1",
    }
    assert env(host, "TOKEN", "ABSENT") == {k: v for k, v in host.items() if k != "OTHER"} | own
    assert set(env({})) == {"PATH", *own}


def test_the_host_can_not_speak_for_the_task() -> None:
    assert env({"TSCHED_RUN_ID": "other"}, "TSCHED_RUN_ID")["TSCHED_RUN_ID"] == "r1"


@pytest.mark.parametrize(
    ("host", "passed", "mend"),
    [
        ({}, (), "set it in the runner's environment and add it to TSCHED_PASS_ENV"),
        ({"KEY": "k"}, (), "add it to TSCHED_PASS_ENV"),
        ({}, ("KEY",), "set it in the runner's environment"),
    ],
)
def test_a_missing_variable_is_named_with_who_needs_it_and_the_mend(
    host: dict[str, str], passed: tuple[str, ...], mend: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^runtime `tests` needs the variable KEY: .*{mend}$"):
        env(host, *passed, runtime=Runtime(name="tests", argv=("x",), env=("KEY",)))
    with pytest.raises(ConfigurationError, match=f"^recipe recipes/vaela.yaml needs the variable KEY: .*{mend}$"):
        env(host, *passed, recipe=replace(RECIPE, env_keys=("KEY",)))


@pytest.mark.parametrize(
    ("theirs", "merged_"),
    [
        (None, {"mcp": {"tasks": {"url": "u"}}}),
        ('{"model": "m", "mcp": {"web": 1}}', {"model": "m", "mcp": {"tasks": {"url": "u"}, "web": 1}}),
        ('{"mcp": {"tasks": {"url": "own"}}}', {"mcp": {"tasks": {"url": "own"}}}),
    ],
)
def test_a_config_that_the_host_has_set_is_kept(theirs: str | None, merged_: object) -> None:
    assert json.loads(merged('{"mcp": {"tasks": {"url": "u"}}}', theirs)) == merged_


def test_a_config_that_can_not_be_read_is_left_alone() -> None:
    assert merged("{}", "// mine\n{}") == "// mine\n{}"


# -- programs --------------------------------------------------------------------------------------------------------


def test_a_program_is_looked_for_on_the_path_of_the_run(tmp_path: Path) -> None:
    for name, mode in (("agent", 0o755), ("text", 0o644)):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    assert program("agent", f"/nowhere:{tmp_path}") == str(tmp_path / "agent")
    assert program(str(tmp_path / "agent"), "") == str(tmp_path / "agent")
    assert program("./later", "") == "./later"
    for name in ("text", "none"):
        with pytest.raises(ConfigurationError, match=f"no program `{name}` on PATH"):
            program(name, str(tmp_path))
        with pytest.raises(ConfigurationError, match="no program at"):
            program(str(tmp_path / name), "")


# -- evidence --------------------------------------------------------------------------------------------------------

GOOSE = {
    "messages": [{"role": "assistant", "content": 'she said "total_tokens": 9'}],
    "metadata": {"total_tokens": 5},
}


def lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


@pytest.mark.parametrize(
    ("runtime", "output"),
    [
        ("goose", lines(GOOSE)),
        ("goose", "starting\n" + json.dumps(GOOSE, indent=2) + "\ngoodbye"),
        ("goose", json.dumps(GOOSE, indent=2)[40:]),
        ("goose", lines({"type": "message"}, {"type": "complete", "total_tokens": 12})),
        ("codex", lines({"type": "turn.completed", "usage": {"input_tokens": 9, "output_tokens": 2}})),
        ("claude", lines({"type": "result", "is_error": False, "usage": {"output_tokens": 3}})),
        ("claude", lines({"type": "result", "total_cost_usd": 0.01})),
        ("opencode", "noise {\n" + lines({"type": "step_finish", "part": {"tokens": {"output": 3}}})),
        ("own", lines({"type": "turn.completed", "usage": {"output_tokens": 2}})),
        ("goose", "x" * 3_000_000 + "\n" + lines(GOOSE)),
    ],
)
def test_spent_tokens_are_proof(runtime: str, output: str) -> None:
    assert evidence(runtime, output)


@pytest.mark.parametrize(
    ("runtime", "output"),
    [
        ("goose", ""),
        ("goose", lines({**GOOSE, "metadata": {"total_tokens": 0, "status": "completed"}})),
        ("goose", lines({**GOOSE, "metadata": {"total_tokens": None}})),
        ("goose", json.dumps({**GOOSE, "metadata": {"total_tokens": 0}}, indent=2)[40:]),
        ("goose", lines({"type": "complete", "total_tokens": 0})),
        ("goose", 'I wrote "total tokens": many\n'),
        ("goose", lines({"type": "turn.completed", "usage": {"output_tokens": 2}})),
        ("codex", lines({"type": "turn.started"}, {"type": "turn.failed"})),
        ("codex", lines({"type": "turn.completed", "usage": {"input_tokens": 9, "output_tokens": 0}})),
        ("claude", lines({"type": "result", "is_error": True, "usage": {"output_tokens": 3}})),
        ("claude", lines({"type": "result", "usage": {"output_tokens": True}, "total_cost_usd": 0})),
        ("own", "done\n[1, 2]\nnull\n{\n{}\n"),
        ("own", "{" * 100_000),
        ("own", '{"a":\n' * 100_000),
    ],
)
def test_nothing_else_is(runtime: str, output: str) -> None:
    assert not evidence(runtime, output)


@given(st.sampled_from(["goose", "codex", "own"]), st.text(max_size=200))
def test_no_output_at_all_upsets_it(runtime: str, output: str) -> None:
    assert isinstance(evidence(runtime, output), bool)


CODEX_TURN = {"type": "turn.completed", "usage": {"input_tokens": 9, "cached_input_tokens": 4, "output_tokens": 2}}
OPENCODE_STEP = {"type": "step_finish", "part": {"cost": 0.25, "tokens": {"input": 5, "output": 3, "reasoning": 1}}}


@pytest.mark.parametrize(
    ("runtime", "output", "figures"),
    [
        ("goose", lines(GOOSE), Usage(total_tokens=5)),
        (
            "goose",
            lines({"type": "complete", "total_tokens": 12, "input_tokens": 10, "output_tokens": 2}),
            Usage(input_tokens=10, output_tokens=2, total_tokens=12),
        ),
        ("goose", lines({"type": "complete", "total_tokens": 0}), Usage()),
        ("codex", lines(CODEX_TURN, CODEX_TURN), Usage(input_tokens=18, output_tokens=4, total_tokens=22)),
        (
            "claude",
            lines({"type": "result", "usage": {"input_tokens": 4, "output_tokens": 3}, "total_cost_usd": 0.5}),
            Usage(input_tokens=4, output_tokens=3, total_tokens=7, cost_usd=0.5),
        ),
        (
            "opencode",
            lines(OPENCODE_STEP, OPENCODE_STEP),
            Usage(input_tokens=10, output_tokens=6, total_tokens=16, cost_usd=0.5),
        ),
        ("own", lines(CODEX_TURN), Usage(input_tokens=9, output_tokens=2, total_tokens=11)),
        ("codex", lines(GOOSE), None),
        ("claude", "nothing of the kind", None),
        ("claude", lines({"type": "result", "usage": {"output_tokens": "many"}, "total_cost_usd": True}), Usage()),
        ("goose", lines({"type": "complete", "total_tokens": 1e300}), Usage()),
    ],
)
def test_what_a_run_spent_is_read_from_its_output(runtime: str, output: str, figures: Usage | None) -> None:
    assert usage(runtime, output) == figures


def test_agents_are_told_of_the_task_servers_tools_in_their_own_way() -> None:
    for name in ("goose", "claude", "codex"):
        told = arguments(
            BUILT_IN[name],
            recipe=RECIPE,
            task=TASK,
            agent="vaela",
            paths=PATHS,
            told=Told(mcp="http://127.0.0.1:3000/mcp"),
        )
        assert sum("http://127.0.0.1:3000/mcp" in item for item in told) == 1
        assert not any("{mcp" in item for item in told)
    plain = arguments(BUILT_IN["claude"], recipe=RECIPE, task=TASK, agent="vaela", paths=PATHS)
    assert "--mcp-config" not in plain
