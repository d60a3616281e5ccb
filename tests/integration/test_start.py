"""`tsched init` and `tsched import`: repositories that pass their own gate, and an import that loses nothing."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.cli_call import Call, caller
from tsched.gitops.imported import convert
from tsched.model.errors import ConfigurationError
from tsched.model.files import RepoFile, RepoFiles
from tsched.model.fleet import Fleet
from tsched.validate.fleet import load_fleet
from tsched.validate.folder import read_folder

CONTROL = """\
[
  {"agentName": "vaela", "agentType": "dev"},
  {"agentName": "damien", "agentType": "dev"},
  {"agentName": "oscar", "agentType": "qa"}
]
"""
ENV = """\
# TinyScheduler
export TINYSCHEDULER_AGENT_LIMITS='{
  "vaela": 3,
  "damien": 2,
  "oscar": 1
}'
TINYSCHEDULER_LOOP_INTERVAL_SEC=30
TINYSCHEDULER_MAX_RUNTIME_SEC=7200
TINYSCHEDULER_MCP_ENDPOINT=http://tasks.example:3000
TINYSCHEDULER_LOG_LEVEL=DEBUG
TINYSCHEDULER_BIN_DIR=scripts
ANTHROPIC_API_KEY=sk-ant-canary
"""
RECIPE = "title: T\ndescription: D\nprompt: Do it.\n"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GIT_AUTHOR_NAME", raising=False)
    return caller(capsys)


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def picture(folder: Path) -> Mapping[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_init_makes_passes_its_own_gate(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = call("init", "new/fleet")
    assert said.code == 0
    folder = tmp_path / "new/fleet"
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "log", "--format=%s by %an") == "A fleet of one agent by tsched"
    assert git(folder, "branch", "--show-current") == "main"
    checked = call("validate", "new/fleet", "--strict")
    assert checked.out == "1 agent, 0 errors, 0 warnings\n"
    monkeypatch.chdir(folder)
    assert call("ci", "--strict").code == 0
    for line in re.findall(r"^  (tsched .*)$", said.out, re.MULTILINE):
        assert call(*line.split()[1:]).code == 0, line
    assert yaml.safe_load((folder / ".github/workflows/fleet.yml").read_text())["permissions"] == {}
    assert {path.name for path in (folder / "schemas").iterdir()} >= {"pool.schema.json", "recipe.schema.json"}


def test_init_never_overwrites(call: Call, tmp_path: Path) -> None:
    call("init", "fleet", "--no-git")
    assert not (tmp_path / "fleet/.git").exists()
    before = picture(tmp_path)
    again = call("init", "fleet")
    assert again.code == 2
    assert "fleet holds .github, .gitignore, README.md already: name a new or empty folder" in again.err
    assert picture(tmp_path) == before
    (tmp_path / "file").touch()
    assert "is a file" in call("init", "file").err


def installation(root: Path, *, control: str = CONTROL, env: str = ENV, agents: str = "vaela damien oscar") -> None:
    (root / "recipes").mkdir()
    for name in agents.split():
        (root / f"recipes/{name}.yaml").write_text(RECIPE)
    (root / "control.json").write_text(control)
    (root / "tinyscheduler.env").write_text(env)


IMPORT = (
    "import",
    "--control-file",
    "control.json",
    "--env-file",
    "tinyscheduler.env",
    "--recipes",
    "recipes",
    "--into",
    "f",
)


def shape(fleet: Fleet) -> dict[str, tuple[str, int]]:
    """Agents with queue and limit."""
    return {agent.name: (pool.queue, agent.limit) for pool, agent in fleet.agents()}


def test_the_guides_installation_becomes_a_fleet(call: Call, tmp_path: Path) -> None:
    installation(tmp_path)
    said = call(*IMPORT)
    assert said.code == 0, said.out + said.err
    fleet = load_fleet(read_folder(tmp_path / "f")).fleet
    assert fleet is not None
    assert shape(fleet) == {"vaela": ("dev", 3), "damien": ("dev", 2), "oscar": ("qa", 1)}
    assert (fleet.limits.loop_interval, fleet.limits.max_runtime, fleet.limits.heartbeat) == (30.0, 7200.0, 15.0)
    assert (tmp_path / "f/recipes/vaela.yaml").read_text() == RECIPE
    host = (tmp_path / "f/tsched.env.example").read_text()
    assert 'TSCHED_TASKS="tinytask+http://tasks.example:3000"\n' in host
    assert 'TINYSCHEDULER_LOG_LEVEL="DEBUG"\n' in host
    assert "TSCHED_PASS_ENV=ANTHROPIC_API_KEY\nANTHROPIC_API_KEY=\n" in host
    assert "TINYSCHEDULER_BIN_DIR: no wrapper script is needed" in said.out
    assert all(b"canary" not in data for data in picture(tmp_path / "f").values())
    assert "canary" not in said.out + said.err
    assert git(tmp_path / "f", "log", "--format=%s") == "Import from TinyScheduler"


def test_a_dry_run_makes_nothing(call: Call, tmp_path: Path) -> None:
    installation(tmp_path)
    assert "would write pools/dev.yaml" in call(*IMPORT, "--dry-run").out
    assert not (tmp_path / "f").exists()


def test_what_needs_a_person_is_said_and_the_rest_is_made(call: Call, tmp_path: Path) -> None:
    control = json.loads(CONTROL)
    control += [{"agentName": "Big Bob", "agentType": "QA.team", "note": 1}, {"agentName": "x"}]
    control += [{"agentName": "oscar", "agentType": "dev"}]
    env = ENV.replace('"oscar": 1', '"oscar": "many", "lone": 2').replace("=30", "=soon")
    installation(tmp_path, control=json.dumps(control), env=env, agents="vaela damien")
    (tmp_path / "recipes/Big Bob.yml").write_text(RECIPE)
    (tmp_path / "recipes/notes.txt").write_text("x")
    said = call(*IMPORT)
    assert said.code == 1
    for words in (
        "renamed: agent 'Big Bob' is now big-bob",
        "renamed: queue 'QA.team' is now qa-team",
        "renamed: recipe Big Bob.yml is now Big Bob.yaml",
        "dropped: agent Big Bob: TinyScheduler never used note: 1",
        "problem: entry 5 of the control file lacks agentName or agentType",
        "dropped: agent oscar stands twice: the last entry, queue dev, counts (not qa)",
        'problem: agent oscar: its limit "many" is no number of slots',
        "problem: agent oscar has no recipe oscar.yaml",
        "mapped: agent Big Bob has no limit, which TinyScheduler reads as 0",
        "mapped: lone had a limit but no queue, so no work: they are in the suspended pool legacy",
        "dropped: notes.txt is no recipe",
        "problem: TINYSCHEDULER_LOOP_INTERVAL_SEC is 'soon'",
        "error: pools/dev.yaml:",
    ):
        assert words in said.out, (words, said.out)
    for name in ("oscar", "lone"):
        (tmp_path / f"f/recipes/{name}.yaml").write_text(RECIPE)
    fleet = load_fleet(read_folder(tmp_path / "f")).fleet
    assert fleet is not None
    assert shape(fleet) == {
        "vaela": ("dev", 3), "damien": ("dev", 2), "oscar": ("dev", 0), "big-bob": ("qa-team", 0),
        "lone": ("legacy", 2),
    }  # fmt: skip
    assert fleet.find("big-bob") is not None
    assert fleet.recipes["recipes/Big Bob.yaml"].prompt == "Do it."


def test_legacy_mode_is_one_pool(call: Call, tmp_path: Path) -> None:
    installation(tmp_path, env="TINYSCHEDULER_AGENT_LIMITS=vaela:3,damien:2\n")
    said = call("import", "--env-file", "tinyscheduler.env", "--recipes", "recipes", "--into", "f")
    assert said.code == 0, said.out
    fleet = load_fleet(read_folder(tmp_path / "f")).fleet
    assert fleet is not None
    assert shape(fleet) == {"vaela": ("legacy", 3), "damien": ("legacy", 2)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"control": "[{]"}, "the control file is no JSON: 1:3"),
        ({"control": "{}"}, "is no list of agents"),
        ({"env": "TINYSCHEDULER_AGENT_LIMITS='{\"a\": }'\n"}, "TINYSCHEDULER_AGENT_LIMITS is no JSON: 1:7"),
        ({"env": "what is this\n"}, "tinyscheduler.env:1: this is no setting"),
        (
            {"control": '[{"agentName": "A", "agentType": "q"}, {"agentName": "a", "agentType": "q"}]'},
            "agents 'A' and 'a' would both be named a",
        ),
    ],
)
def test_what_can_not_be_read_makes_nothing(call: Call, tmp_path: Path, change: dict[str, str], words: str) -> None:
    installation(tmp_path, **change)
    said = call(*IMPORT)
    assert (said.code, said.out) == (2, "")
    assert words in said.err
    assert not (tmp_path / "f").exists()


NAMES = st.text(st.sampled_from("abzA9_-. é"), min_size=1, max_size=6)


@given(
    st.lists(st.fixed_dictionaries({"agentName": NAMES, "agentType": NAMES}), max_size=6),
    st.dictionaries(NAMES, st.integers(0, 5), max_size=6),
)
def test_every_agent_comes_along_with_its_queue_and_limit(
    control: list[dict[str, str]], limits: dict[str, int]
) -> None:
    agents = {entry["agentName"]: entry["agentType"] for entry in control}
    recipes = {f"{name}.yaml": RECIPE.encode() for name in {*agents, *limits}}
    try:
        made = convert(json.dumps(control), {"TINYSCHEDULER_AGENT_LIMITS": json.dumps(limits)}, recipes)
    except ConfigurationError as error:
        assert "would both be named" in str(error)
        return
    became = {
        match[1]: match[2]
        for remark in made.remarks
        if (match := re.match(r"(\w+ '.*') is now ([\w-]+):", remark.text))
    }
    entries = {path: RepoFile(path=path, blob=path, size=len(data)) for path, data in made.files.items()}
    loaded = load_fleet(RepoFiles(revision="r", entries=entries, read=lambda file: made.files[file.path]))
    if loaded.fleet is None:  # recipes whose names differ only by case: for a person, as it says
        assert {one.code for one in loaded.diagnostics if one.severity == "error"} <= {"TS309", "TS313"}
        return
    found = shape(loaded.fleet)
    for name, queue in agents.items():
        now, its = became.get(f"agent {name!r}", name), became.get(f"queue {queue!r}", queue)
        assert found[now] == (its, limits.get(name, 0))
    for name, slots in limits.items():
        assert found[became.get(f"agent {name!r}", name)][1] == slots


def test_nobody_needs_a_git_identity(call: Call, tmp_path: Path) -> None:
    assert not os.environ.get("GIT_COMMITTER_NAME")
    call("init", "fleet")
    assert git(tmp_path / "fleet", "log", "--format=%ce") == "tsched@localhost"
