"""`tsched init` and `tsched import`: repositories that pass their own gate, and an import that loses nothing."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.cli_call import Call, caller
from tsched.gitops import imported, template
from tsched.gitops.imported import convert
from tsched.model.errors import ConfigurationError
from tsched.model.files import RepoFile, RepoFiles
from tsched.model.fleet import Fleet
from tsched.settings.envfile import parse_env_file
from tsched.settings.host import resolve
from tsched.settings.variables import VARIABLES
from tsched.validate.fleet import load_fleet
from tsched.validate.folder import read_folder

# The guide's agents, queues and figures ("Mixed Workloads", "Pool Health", "Performance Tuning"), one limit a line as
# its `grep "$agent" tinyscheduler.env | cut -d: -f2` expects, and the entry of its "Adding Agents to a Pool".
GUIDE = {
    "vaela": ("dev", 5), "damien": ("dev", 5), "oscar": ("qa", 3), "kalis": ("qa", 2), "sage": ("product", 1),
    "atlas": ("docs", 2), "newagent": ("dev", 2),
}  # fmt: skip
GUIDE_CONTROL = """\
[
  {"agentName": "vaela", "agentType": "dev"},
  {"agentName": "damien", "agentType": "dev"},
  {"agentName": "oscar", "agentType": "qa"},
  {"agentName": "kalis", "agentType": "qa"},
  {"agentName": "sage", "agentType": "product"},
  {"agentName": "atlas", "agentType": "docs"},
  {
    "agentName": "newagent",
    "agentType": "dev"
  }
]
"""
GUIDE_ENV = """\
# High-frequency (for fast task assignment):
TINYSCHEDULER_LOOP_INTERVAL_SEC=30
# Reduce file I/O:
TINYSCHEDULER_HEARTBEAT_SEC=30
TINYSCHEDULER_AGENT_CONTROL_FILE=/home/user/workspace/calypso/docs/technical/agent-control.json
TINYSCHEDULER_AGENT_LIMITS='{
  "vaela": 5,
  "damien": 5,
  "oscar": 3,
  "kalis": 2,
  "sage": 1,
  "atlas": 2,
  "newagent": 2
}'
TINYSCHEDULER_DISABLE_BLOCKING=1
"""
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
TINYSCHEDULER_RUNNING_DIR=${HOME}/a b
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


def test_the_program_itself_finds_nothing_in_what_init_makes(call: Call, tmp_path: Path) -> None:
    assert call("init", "fleet").code == 0
    program = [sys.executable, "-m", "tsched", "validate", str(tmp_path / "fleet")]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 agent, 0 errors, 0 warnings\n", "")


def test_the_commands_that_init_prints_can_be_pasted(call: Call, tmp_path: Path) -> None:
    said = call("init", "my $fleet's")
    line = re.search("^  (cd .*)$", said.out, re.MULTILINE)
    assert line is not None
    assert shlex.split(line[1]) == ["cd", "my $fleet's"]
    assert (tmp_path / "my $fleet's/pools/dev.yaml").is_file()


def test_init_needs_git_for_a_repository_alone(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert call("init", "fleet", "--no-git").code == 0
    other = call("init", "other")
    assert (other.code, other.err) == (2, "tsched: git: No such file or directory\n")


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
    installation(tmp_path)
    assert call(*IMPORT[:-1], "fleet").code == 2
    for kept in ("recipes", "control.json", "tinyscheduler.env", "file"):
        assert (tmp_path / kept).exists()
    assert {path: data for path, data in picture(tmp_path).items() if path in before} == before


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
    installation(tmp_path, control=GUIDE_CONTROL, env=GUIDE_ENV, agents=" ".join(GUIDE))
    said = call(*IMPORT)
    assert said.code == 0, said.out + said.err
    loaded = load_fleet(read_folder(tmp_path / "f"))
    assert loaded.diagnostics == ()
    assert loaded.fleet is not None
    assert shape(loaded.fleet) == GUIDE
    assert [pool.name for pool in loaded.fleet.pools] == ["dev", "docs", "product", "qa"]
    limits = loaded.fleet.limits
    assert (limits.loop_interval, limits.heartbeat, limits.max_runtime) == (30.0, 30.0, 3600.0)
    assert call("validate", "f", "--strict").out == "7 agents, 0 errors, 0 warnings\n"
    assert "TSCHED_DISABLE_BLOCKING=1\n" in (tmp_path / "f/tsched.env.example").read_text()


def test_what_belongs_to_a_host_is_kept_beside_the_fleet(call: Call, tmp_path: Path) -> None:
    installation(tmp_path)
    said = call(*IMPORT)
    assert said.code == 0, said.out + said.err
    fleet = load_fleet(read_folder(tmp_path / "f")).fleet
    assert fleet is not None
    assert shape(fleet) == {"vaela": ("dev", 3), "damien": ("dev", 2), "oscar": ("qa", 1)}
    assert (fleet.limits.loop_interval, fleet.limits.max_runtime, fleet.limits.heartbeat) == (30.0, 7200.0, 15.0)
    assert (tmp_path / "f/recipes/vaela.yaml").read_text() == RECIPE
    host = (tmp_path / "f/tsched.env.example").read_text()
    assert "TSCHED_TASKS=tinytask+http://tasks.example:3000\n" in host
    assert "TSCHED_LOG_LEVEL=DEBUG\n" in host
    assert f"TSCHED_RUNNING_DIR='{tmp_path}/a b'\n" in host
    assert "TSCHED_PASS_ENV=ANTHROPIC_API_KEY\n# ANTHROPIC_API_KEY=\n" in host
    assert "mapped: TINYSCHEDULER_LOG_LEVEL is TSCHED_LOG_LEVEL in tsched.env.example\n" in said.out
    assert "dropped: TINYSCHEDULER_BIN_DIR: no wrapper script is needed\n" in said.out
    assert all(b"canary" not in data for data in picture(tmp_path / "f").values())
    assert "canary" not in said.out + said.err
    assert git(tmp_path / "f", "log", "--format=%s") == "Import from TinyScheduler"
    read = parse_env_file(host, name="example")
    values = resolve({}, host, {}, cwd=tmp_path)
    assert (values.tasks, values.running_dir) == (read["TSCHED_TASKS"], tmp_path / "a b")


def test_a_dry_run_makes_nothing(call: Call, tmp_path: Path) -> None:
    installation(tmp_path)
    said = call(*IMPORT, "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert not (tmp_path / "f").exists()
    assert call(*IMPORT).out == said.out.replace("would write ", "wrote ")
    made = {path.relative_to(tmp_path / "f").as_posix() for path in (tmp_path / "f").rglob("*") if path.is_file()}
    listed = {line.removeprefix("would write ") for line in said.out.splitlines() if line.startswith("would write ")}
    assert {path for path in made if not path.startswith(".git/")} == listed
    assert call(*IMPORT, "--dry-run").code == 2


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
        "dropped: the control file: Agent Big Bob has the extra field note, which is not used: 1.",
        "problem: the control file: Entry 5 lacks agentName or agentType",
        "problem: the control file: Agent oscar stands twice: the last entry, queue dev, counts (not qa)",
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
    assert {pool.name for pool in fleet.pools if pool.suspend is not None} == {"legacy"}
    assert fleet.recipes["recipes/Big Bob.yaml"].prompt == "Do it."


def test_legacy_mode_is_one_pool(call: Call, tmp_path: Path) -> None:
    installation(tmp_path, env="TINYSCHEDULER_AGENT_LIMITS=vaela:3,damien:2\n")
    said = call("import", "--env-file", "tinyscheduler.env", "--recipes", "recipes", "--into", "f")
    assert said.code == 0, said.out
    fleet = load_fleet(read_folder(tmp_path / "f")).fleet
    assert fleet is not None
    assert shape(fleet) == {"vaela": ("legacy", 3), "damien": ("legacy", 2)}
    assert fleet.pools[0].suspend is None


def test_where_no_limits_are_set_tinyschedulers_own_count(call: Call, tmp_path: Path) -> None:
    control = [{"agentName": "dispatcher", "agentType": "orchestrator"}, {"agentName": "vaela", "agentType": "dev"}]
    installation(tmp_path, control=json.dumps(control), env="", agents="dispatcher vaela")
    said = call(*IMPORT)
    assert said.code == 0, said.out
    fleet = load_fleet(read_folder(tmp_path / "f")).fleet
    assert fleet is not None
    assert shape(fleet) == {"dispatcher": ("orchestrator", 1), "vaela": ("dev", 0)}
    assert "TSCHED_TASKS=tinytask+http://localhost:3000\n" in (tmp_path / "f/tsched.env.example").read_text()
    assert "mapped: TINYSCHEDULER_AGENT_LIMITS is not set, which TinyScheduler reads as dispatcher: 1" in said.out


def test_no_queue_takes_the_place_of_another_file(call: Call, tmp_path: Path) -> None:
    queues = {"a": "limits", "b": "limits-pool", "c": "legacy", "d": "legacy-agents"}
    control = [{"agentName": name, "agentType": queue} for name, queue in queues.items()]
    env = 'TINYSCHEDULER_AGENT_LIMITS={"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}\nTINYSCHEDULER_HEARTBEAT_SEC=9\n'
    installation(tmp_path, control=json.dumps(control), env=env, agents="a b c d e")
    said = call(*IMPORT)
    assert said.code == 0, said.out
    fleet = load_fleet(read_folder(tmp_path / "f")).fleet
    assert fleet is not None
    assert shape(fleet) == {name: (queue, 1) for name, queue in (queues | {"e": "legacy-agents-agents"}).items()}
    assert fleet.limits.heartbeat == 9.0


def test_recipes_come_along_byte_for_byte_wherever_they_are(call: Call, tmp_path: Path) -> None:
    installation(tmp_path, agents="vaela")
    held = tmp_path / "recipes"
    (held / "oscar.yaml").write_bytes(RECIPE.replace("\n", "\r\n").encode())
    (held / "damien.yaml").symlink_to("vaela.yaml")
    (held / "gone.yaml").symlink_to("nowhere")
    (held / "state").mkdir()
    (held / "state/part.json").write_text('{"title": "T", "description": "D", "prompt": "P"}')
    (held / ".git").mkdir()
    (held / ".git/HEAD").touch()
    (held / "others").symlink_to(tmp_path)
    (tmp_path / ".gitconfig").write_text("[core]\nautocrlf = true\nexcludesFile = ~/ignored\n")
    (tmp_path / "ignored").write_text("*.yaml\n")
    said = call(*IMPORT)
    for words in (
        "mapped: recipe damien.yaml was a link to vaela.yaml: it is a file of its own now\n",
        "dropped: gone.yaml is a link to no file: it stays where it is\n",
        "dropped: .git is no plain file: it stays where it is\n",
        "dropped: others is a link to no file: it stays where it is\n",
    ):
        assert words in said.out, said.out
    assert said.code == 0, said.out
    (tmp_path / "f/recipes/state/more.yaml").touch()
    (tmp_path / "f/state").mkdir()
    (tmp_path / "f/state/run").touch()
    (tmp_path / ".gitconfig").unlink()
    assert git(tmp_path / "f", "status", "--porcelain") == "?? recipes/state/more.yaml"
    tree = git(tmp_path / "f", "ls-tree", "-r", "--name-only", "HEAD", "recipes").split()
    assert tree == [f"recipes/{name}" for name in ("damien.yaml", "oscar.yaml", "state/part.json", "vaela.yaml")]
    for name in tree:
        blob = subprocess.run(["git", "-C", tmp_path / "f", "show", f"HEAD:{name}"], capture_output=True, check=True)
        assert blob.stdout == (held / name.removeprefix("recipes/")).read_bytes()


def test_two_recipes_for_one_name_are_said(call: Call, tmp_path: Path) -> None:
    installation(tmp_path)
    (tmp_path / "recipes/vaela.yml").write_text("title: other\n")
    (tmp_path / "recipes/x.yml").write_text(RECIPE)
    (tmp_path / "recipes/x.yaml").mkdir()
    (tmp_path / "recipes/x.yaml/y.yaml").write_text(RECIPE)
    said = call(*IMPORT)
    assert said.code == 1
    assert "problem: recipe vaela.yml is left out: vaela.yaml is there too\n" in said.out
    assert "problem: recipe x.yml is left out: x.yaml is there too\n" in said.out
    assert (tmp_path / "f/recipes/vaela.yaml").read_text() == RECIPE


def test_a_recipe_that_our_gate_refuses_is_said_with_its_place(call: Call, tmp_path: Path) -> None:
    installation(tmp_path)
    (tmp_path / "recipes/oscar.yaml").write_text("title: T\ndescription: D\nprompt: Do {{ it }}.\n")
    said = call(*IMPORT)
    assert said.code == 1
    assert re.search(r"^error: recipes/oscar\.yaml:3:\d+: TS\d+ .*it", said.out, re.MULTILINE), said.out
    assert git(tmp_path / "f", "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "TINYSCHEDULER_MCP_ENDPOINT=http://me:canary@tasks:3000",
            "problem: TINYSCHEDULER_MCP_ENDPOINT seems to hold",
        ),
        (
            "TINYSCHEDULER_MCP_ENDPOINT=http://tasks/?token=canary",
            "problem: TINYSCHEDULER_MCP_ENDPOINT seems to hold",
        ),
        ("TINYSCHEDULER_MCP_ENDPOINT=tasks:3000", "'tasks:3000', which is no http address"),
        ("TINYSCHEDULER_API_TOKEN=canary", "dropped: TINYSCHEDULER_API_TOKEN is no setting of TinyScheduler's"),
        ("TSCHED_WEBHOOK_SECRET=canary", "dropped: TSCHED_WEBHOOK_SECRET is no setting of TinyScheduler's"),
        ("LOG_LEVEL=canary", "mapped: LOG_LEVEL: agents see them by TSCHED_PASS_ENV"),
        ("TINYSCHEDULER_LOOP_INTERVAL_SEC=0", "problem: TINYSCHEDULER_LOOP_INTERVAL_SEC is '0'"),
        (
            "TINYSCHEDULER_AGENT_LIMITS='{\"vaela\": 1.5}'",
            "problem: agent vaela: its limit 1.5 is no number of slots",
        ),
        ("TINYSCHEDULER_AGENT_LIMITS='{\"vaela\": true}'", "problem: agent vaela: its limit true is no number"),
        ("TINYSCHEDULER_AGENT_LIMITS=vaela:10001", 'problem: agent vaela: its limit "10001" is no number of slots'),
        ("TINYSCHEDULER_AGENT_LIMITS='{\"vaela\": -1}'", "problem: agent vaela: its limit -1 is no number"),
        ("TINYSCHEDULER_AGENT_LIMITS='{\"\": 1}'", "problem: TINYSCHEDULER_AGENT_LIMITS names no agent for 1"),
        ("TINYSCHEDULER_AGENT_LIMITS=vaela:1,vaela:2", "vaela stands twice, the last counts, not 1"),
        ('TINYSCHEDULER_AGENT_LIMITS=\'{"vaela": 1, "vaela": 2}\'', "vaela stands twice, the last counts, not 1"),
    ],
)
def test_a_setting_that_does_not_fit_is_said(call: Call, tmp_path: Path, line: str, words: str) -> None:
    installation(tmp_path, env=f"{line}\n")
    said = call(*IMPORT)
    assert said.code == ("problem: " in said.out)
    assert words in said.out
    assert "canary" not in said.out + said.err
    assert all(b"canary" not in data for data in picture(tmp_path / "f").values())
    assert load_fleet(read_folder(tmp_path / "f")).fleet is not None


def test_every_setting_of_tinyschedulers_has_its_place() -> None:
    known = {name for names in VARIABLES.values() for name in names}
    names = {name for name in known if name.startswith("TINYSCHEDULER_")}
    fleets = {*imported.FIGURES, imported.LIMITS}
    hosts = {*template.HOST, *template.REPLACED, template.ENDPOINT}
    assert fleets | hosts == names
    assert {name.replace("TINYSCHEDULER_", "TSCHED_") for name in template.HOST} < known


@given(st.text(st.sampled_from("ab /\\\"'#$ é\n😀"), max_size=8).filter(lambda text: text == text.strip()))
def test_a_hosts_setting_reads_as_it_was(value: str) -> None:
    made = convert("[]", {"TINYSCHEDULER_LOG_DIR": value}, {})
    assert parse_env_file(made.files["tsched.env.example"].decode(), name="e").get("TSCHED_LOG_DIR") == value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"control": "[{]"}, "the control file:1:3: TS101 It is no JSON"),
        ({"control": '[\n  {"agentName": "a", // first\n'}, "the control file:2:22: TS101 It is no JSON"),
        ({"control": "[" * 100_000}, "the control file:1:1: TS105 It is nested too deep"),
        ({"control": ""}, "the control file:1:1: TS101 It is no JSON"),
        ({"control": "{}"}, "is no list of agents"),
        ({"env": "TINYSCHEDULER_AGENT_LIMITS='{\"a\": }'\n"}, "TINYSCHEDULER_AGENT_LIMITS is no JSON: 1:7"),
        ({"env": "TINYSCHEDULER_AGENT_LIMITS='{\"a\": 1, ...}'\n"}, "TINYSCHEDULER_AGENT_LIMITS is no JSON: 1:10"),
        ({"env": f"TINYSCHEDULER_AGENT_LIMITS='{{\"a\": {'9' * 5000}}}'\n"}, "a number of thousands of digits"),
        ({"env": "TINYSCHEDULER_AGENT_LIMITS=[1]\n"}, "TINYSCHEDULER_AGENT_LIMITS is no JSON object"),
        ({"env": "TINYSCHEDULER_AGENT_LIMITS=vaela\n"}, "'vaela' is no limit: write agent:slots, or JSON"),
        ({"env": "what is this\n"}, "tinyscheduler.env:1: this is no setting"),
        (
            {"control": '[{"agentName": "A", "agentType": "q"}, {"agentName": "a", "agentType": "q"}]'},
            "agents 'A' and 'a' would both be named a",
        ),
        (
            {"control": '[{"agentName": "a", "agentType": "Q"}, {"agentName": "b", "agentType": "q"}]'},
            "queues 'Q' and 'q' would both be named q",
        ),
    ],
)
def test_what_can_not_be_read_makes_nothing(call: Call, tmp_path: Path, change: dict[str, str], words: str) -> None:
    installation(tmp_path, **change)
    said = call(*IMPORT)
    assert (said.code, said.out) == (2, "")
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("control.json", "control.json: No such file or directory"),
        ("tinyscheduler.env", "tinyscheduler.env: No such file or directory"),
        ("recipes", "recipes is no folder of recipes"),
    ],
)
def test_what_is_not_there_makes_nothing(call: Call, tmp_path: Path, missing: str, words: str) -> None:
    installation(tmp_path)
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    said = call(*IMPORT)
    assert (said.code, said.out, said.err) == (2, "", f"tsched: {words}\n")
    (tmp_path / "elsewhere").rename(tmp_path / missing)
    (tmp_path / "control.json").write_bytes(b"\xff\xfe")
    assert "control.json is not UTF-8 text" in call(*IMPORT).err
    assert call("import", "--recipes", "recipes", "--into", "f").code == 2
    assert not (tmp_path / "f").exists()


def test_a_name_that_no_text_holds_is_no_traceback(call: Call, tmp_path: Path) -> None:
    installation(tmp_path, control='[{"agentName": "\\ud800", "agentType": "dev"}]')
    said = call(*IMPORT)
    assert said.code == 1
    assert "renamed: agent '\\ud800' is now agent" in said.out
    assert "internal error" not in said.err


NAMES = st.text(st.sampled_from("abzA9_-. é😀\x7f\u2028"), min_size=1, max_size=6) | st.sampled_from(
    ["dispatcher", "legacy", "limits", "limits-pool", "parked", "true", "a" * 64]
)


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
    assert "user" not in (tmp_path / "fleet/.git/config").read_text(), "the next commits would be nobody's too"


def test_who_has_a_git_identity_makes_the_commit(call: Call, tmp_path: Path) -> None:
    (tmp_path / ".gitconfig").write_text("[user]\nname = Ada\nemail = ada@example\n")
    call("init", "fleet")
    assert git(tmp_path / "fleet", "log", "--format=%an %ce") == "Ada ada@example"


def test_a_commit_that_git_refuses_is_said_and_the_files_are_there(call: Call, tmp_path: Path) -> None:
    (tmp_path / ".gitconfig").write_text("[commit]\ngpgSign = true\n[gpg]\nprogram = false\n")
    said = call("init", "fleet")
    assert said.code == 2
    assert said.err.startswith("tsched: the files are in fleet, but not in git: ")
    assert said.err.count("\n") == 1
    assert (tmp_path / "fleet/pools/dev.yaml").is_file()
