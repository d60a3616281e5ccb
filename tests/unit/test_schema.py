"""The fast validator and the arbiter give the same verdict, so the arbiter is asked for reasons alone."""

import copy
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tsched.validate.schema import arbiter, first_look, schema_of
from tsched.validate.source import Value, parse

DURATION = {"deadline": "2h", "on_deadline": "requeue"}
SOUND: dict[str, list[Value]] = {
    "pool": [
        {
            "apiVersion": "tsched/v1", "kind": "Pool", "name": "dev", "queue": "work", "max_running": 8,
            "runtime": "x",
            "suspend": {"until": "2026-12-01T08:00:00Z", "reason": "r"}, "drain": {**DURATION},
            "defaults": {"limit": 2, "runtime": "goose", "max_runtime": "1h", "priority_floor": -1},
            "workspace": {"repo": "../x", "ref": "main", "keep": "always"},
            "agents": [
                {"name": "ada", "limit": 0, "recipe": "a/b.yaml", "max_runtime": "5m"},
                {"name": "b_1-c", "resources": {"cpus": 0.5}, "executor": "local"},
            ],
        },
        {"apiVersion": "tsched/v1", "kind": "Pool", "name": "dev", "suspend": True},
    ],
    "limits": [
        {
            "apiVersion": "tsched/v1", "kind": "Limits", "max_running": 3, "spawn_per_cycle": 1,
            "loop_interval": "1s",
            "executor": "slurm", "slurm": {"partition": "a,b", "constraint": "(x|y)&z", "time": "2h"},
            "resources": {"cpus": 2, "memory": "4Gi", "processes": 512, "open_files": 4096, "file_size": "10Gi"},
            "retry": {"attempts": 3, "backoff": "1s"}, "guard": {"max_agents_removed": "50%"},
            "runtimes": {"tests": {"argv": ["make", "{workspace}"], "env": ["CI"], "evidence": "exit"}},
        },
        {"apiVersion": "tsched/v1", "kind": "Limits", "guard": {"max_agents_removed": 2}},
        {
            "apiVersion": "tsched/v1", "kind": "Limits",
            "alerts": {
                "rules": [
                    {"type": "depth", "name": "a", "above": 3, "queue": "dev", "for": "1m", "severity": "critical"},
                    {"type": "no_assignment", "name": "b", "passes": 3, "repeat": "1h"},
                ],
                "notify": [{"type": "webhook", "url": "https://a.example"}, {"type": "command", "argv": ["a"]}],
            },
        },
    ],
    "recipe": [
        {
            "version": "1.0.0", "title": "T", "description": "D", "prompt": "P", "instructions": "I",
            "extensions": [
                {"type": "stdio", "name": "x", "cmd": "y", "args": ["a"], "env_keys": ["A"], "envs": {"B": "c"}},
                {"type": "builtin", "name": "developer", "timeout": 300, "bundled": True},
                {"type": "streamable_http", "name": "x", "uri": "u", "headers": {"h": "v"}},
            ],
            "settings": {"goose_model": "m", "temperature": 0.5, "max_turns": 3},
            "parameters": [{"key": "k", "input_type": "string", "requirement": "required", "description": "d"}],
            "response": {"json_schema": {"type": "object"}}, "activities": ["a"], "author": {"contact": "c"},
            "sub_recipes": [{"name": "s", "path": "s.yaml", "values": {"a": "b"}}],
            "retry": {"max_retries": 1, "checks": [{"type": "shell", "command": "true"}]},
        },
    ],
}  # fmt: skip

Step = str | int
ODD: st.SearchStrategy[Value] = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from(("dev\n", "1h\n", "50%\n", "Dev", "1.5h", "parked", "tsched/v1", "101%", "x" * 64, "é", "")),
    st.just([]), st.just({}), st.lists(st.integers(), max_size=2), st.sampled_from((1.0, 1e300, 2**70, -0.0)),
)  # fmt: skip


def places(value: Value, path: tuple[Step, ...] = ()) -> list[tuple[Step, ...]]:
    """Every place in a value, outermost first."""
    inner: list[tuple[Step, Value]] = []
    if isinstance(value, dict):
        inner += value.items()
    elif isinstance(value, list):
        inner += enumerate(value)
    return [path, *(place for step, one in inner for place in places(one, (*path, step)))]


@st.composite
def mutants(draw: st.DrawFn) -> tuple[str, Value]:
    """A schema's name and a sound value of it with up to three things changed, taken away or put in."""
    name = draw(st.sampled_from(sorted(SOUND)))
    value = copy.deepcopy(draw(st.sampled_from(SOUND[name])))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(places(value)))
        if not path:
            continue
        holder: Value = value
        for step in path[:-1]:
            holder = holder[step]  # type: ignore[index]  # places() says so
        key = path[-1]
        match draw(st.sampled_from(("change", "remove", "add"))):
            case "change":
                holder[key] = draw(ODD)  # type: ignore[index]
            case "remove":
                del holder[key]  # type: ignore[arg-type,union-attr]
            case _ if isinstance(holder, dict):
                holder[draw(st.sampled_from(("x", "limit", "name", "env_keys", "uri", "type")))] = draw(ODD)
            case _ if isinstance(holder, list):
                holder.append(draw(ODD))
    return name, value


@settings(max_examples=1000)
@given(mutants())
@example(("pool", {"apiVersion": "tsched/v1", "kind": "Pool", "name": "dev\n"}))
def test_both_validators_give_one_verdict(mutant: tuple[str, Value]) -> None:
    name, value = mutant
    assert first_look(name)(value) is arbiter(name).is_valid(value)


@pytest.mark.parametrize("name", SOUND)
def test_sound_values_are_sound_and_a_line_end_is_no_part_of_a_name(name: str) -> None:
    for value in SOUND[name]:
        assert arbiter(name).is_valid(value)
    assert not arbiter("pool").is_valid({"apiVersion": "tsched/v1", "kind": "Pool", "name": "dev\n"})


@pytest.mark.parametrize("name", ["pool", "limits", "recipe", "status"])
def test_a_schema_is_itself_sound(name: str) -> None:
    arbiter(name).check_schema(schema_of(name))


def test_numbers_are_read_so_that_both_can_judge_them() -> None:
    value = parse("x.yaml", b"a: 9999999999999999999999999999999999999999").value
    assert isinstance(value, dict)
    assert isinstance(value["a"], int)
    assert not math.isinf(value["a"])
    sound: Value = {"apiVersion": "tsched/v1", "kind": "Pool", "name": "dev", "max_running": value["a"]}
    assert first_look("pool")(sound)
