"""`tsched validate` and `validate-config` over real folders and a real bare remote."""

import json
import os
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.integration.cli_call import Call, caller
from tsched.model.fleet import Agent, Fleet, Limits, Pool, Recipe, Runtime
from tsched.runner.needs import needs
from tsched.validate.codes import CODES

POOL = """\
apiVersion: tsched/v1
kind: Pool
name: dev
runtime: script
agents:
  - name: vaela
    limit: 2
"""
LIMITS = """\
apiVersion: tsched/v1
kind: Limits
runtimes:
  script:
    argv: [ "{program}" ]
    env: [ "{variable}" ]
    evidence: exit
"""
RECIPE = """\
version: 1.0.0
title: Vaela
description: Does a task.
prompt: Do the task.
"""


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)
    return caller(capsys)


def fleet(root: Path, *, program: str = "sh", variable: str = "HOME", pool: str = POOL) -> Path:
    for folder in ("pools", "recipes"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "pools" / "dev.yaml").write_text(pool)
    limits = LIMITS.replace("{program}", program).replace("{variable}", variable)
    (root / "pools" / "limits.yaml").write_text(limits)
    (root / "recipes" / "vaela.yaml").write_text(RECIPE)
    return root


def remote(tmp_path: Path) -> Path:
    """A bare repository whose tip has an unknown key, and whose first commit is sound."""
    work, bare = fleet(tmp_path / "work"), tmp_path / "fleet.git"

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
        environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        subprocess.run(["git", *identity, *arguments], cwd=work, env=environ, check=True, capture_output=True)

    git("init", "-b", "main")
    git("add", "-A")
    git("commit", "-m", "sound")
    (work / "pools" / "dev.yaml").write_text(POOL + "limti: 3\n")
    git("commit", "-am", "bad")
    git("clone", "--bare", str(work), str(bare))
    return bare


def test_a_sound_folder(call: Call, tmp_path: Path) -> None:
    fleet(tmp_path / "f")
    said = call("validate", "f")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[-1] == "1 agent, 0 errors, 0 warnings"
    assert json.loads(call("validate", "f", "--json").out) == []


def test_the_current_folder_is_checked_where_it_holds_pools(call: Call, tmp_path: Path) -> None:
    fleet(tmp_path)
    assert call("validate").code == 0


def test_findings_are_code_1_with_their_place(call: Call, tmp_path: Path) -> None:
    fleet(tmp_path / "f", pool=POOL + "limti: 3\n")
    said = call("validate", "f")
    assert said.code == 1
    assert "pools/dev.yaml:8:1: TS" in said.out
    assert "    limti: 3\n    ^\n" in said.out
    assert "1 error" in said.out.splitlines()[-1]
    for arguments in (("--json",), ("--format", "json")):
        (found,) = json.loads(call("validate", "f", *arguments).out)
        assert (found["path"], found["line"], found["severity"]) == ("pools/dev.yaml", 8, "error")


def test_what_is_quoted_can_not_drive_a_terminal(call: Call, tmp_path: Path) -> None:
    fleet(tmp_path / "f", pool=POOL + 'queue: "\x1b[31m"\n')
    said = call("validate", "f")
    assert said.code == 1
    assert "\x1b" not in said.out


def test_the_tip_and_any_revision_of_the_fleet_repo(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSCHED_REPO", str(remote(tmp_path)))
    assert call("validate").code == 1
    assert call("validate", "--revision", "main~1").code == 0
    said = call("validate", "--revision", "nowhere")
    assert said.code == 2
    assert "nowhere" in said.err
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("validate",), "TSCHED_REPO"),
        (("validate", "nowhere"), "nowhere"),
        (("validate", ".", "--revision", "main"), "give one"),
        (("validate", ".", "--format", "xml"), "write one of text, json, github, sarif, junit"),
    ],
)
def test_nothing_sensible_to_check_is_usage(call: Call, arguments: tuple[str, ...], words: str) -> None:
    said = call(*arguments)
    assert said.code == 2
    assert words in said.err


def test_host_finds_missing_programs_and_variables(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet(tmp_path / "f", program="no-such-program", variable="API_KEY")
    assert call("validate", "f").code == 0
    said = call("validate", "f", "--host")
    assert said.code == 1
    assert "TS501" in said.out
    assert "no-such-program" in said.out
    assert "TS502" in said.out
    fleet(tmp_path / "f", variable="API_KEY")
    monkeypatch.setenv("API_KEY", "k")
    assert "Add API_KEY to TSCHED_PASS_ENV" in call("validate", "f", "--host").out
    monkeypatch.setenv("TSCHED_PASS_ENV", "API_KEY")
    assert call("validate", "f", "--host").code == 0


def test_needs_are_told_once_each_with_who_has_them() -> None:
    runtime = Runtime(name="r", argv=("no-such",), env=("A", "HOME", "TSCHED_TASK_ID"))
    agents = tuple(Agent(name=name, recipe=f"recipes/{name}.yaml", runtime="r") for name in ("a", "b"))
    recipes = {
        agent.recipe: Recipe(path=agent.recipe, title="t", prompt="p", env_keys=("A", "B")) for agent in agents
    }
    limits = Limits(runtimes={"r": runtime})
    found = list(
        needs(
            Fleet(revision="", pools=(Pool(name="p", queue="p", agents=agents),), limits=limits, recipes=recipes),
            {"HOME": "/"},
            (),
        )
    )
    assert [(one.code, one.path) for one in found] == [
        ("TS501", "recipes/a.yaml"),
        ("TS502", "recipes/a.yaml"),
        ("TS502", "recipes/a.yaml"),
    ]
    assert [next(word for word in ("no-such", " A,", " B,") if word in one.message) for one in found] == [
        "no-such",
        " A,",
        " B,",
    ]


def test_validate_config_says_it_in_the_old_words(call: Call, tmp_path: Path) -> None:
    fleet(tmp_path)
    said = call("validate-config", "--fix")
    assert said.code == 0
    assert said.out.startswith("Validating TinyScheduler configuration...\n")
    assert said.out.endswith("✅ All validations passed\n")
    assert (tmp_path / "state" / "running").is_dir()
    fleet(tmp_path, program="no-such-program")
    said = call("validate-config")
    assert said.code == 1
    assert said.out.endswith("❌ Validation FAILED\n")


def test_choosing_among_findings(call: Call, tmp_path: Path) -> None:
    fleet(tmp_path / "f", pool=POOL + "limti: 3\n")
    (tmp_path / "f/recipes/old.yaml").write_text(RECIPE)

    def codes(*arguments: str) -> tuple[int, list[str]]:
        said = call("validate", "f", "--json", *arguments)
        return said.code, [one["code"] for one in json.loads(said.out)]

    assert codes() == (1, ["TS201"])
    assert codes("--ignore", "ts2") == (0, [])
    (tmp_path / "f/pools/dev.yaml").write_text(POOL)
    assert codes() == (0, ["TS310"])
    assert codes("--strict") == (1, ["TS310"])
    assert codes("--strict", "--ignore", "TS1,TS310") == (0, [])
    assert codes("--strict", "--select", "TS304", "--select", "TS1") == (0, [])
    assert codes("--select", "TS31") == (0, ["TS310"])
    refused = call("validate", "f", "--select", "TS9")
    assert (refused.code, refused.out) == (2, "")
    assert "--select 'TS9' fits no rule" in refused.err


def test_formats_for_other_programs(call: Call, tmp_path: Path) -> None:
    fleet(tmp_path / "f", pool=POOL + "limti: 3\n")
    assert call("validate", "f", "--format", "github").out.startswith("::error file=pools/dev.yaml,line=8,col=1,")
    (result,) = json.loads(call("validate", "f", "--format", "sarif").out)["runs"][0]["results"]
    assert result["ruleId"] == "TS201"
    suite = ET.fromstring(call("validate", "f", "--format", "junit").out)
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")


def test_rules_and_their_explanation(call: Call) -> None:
    listed = call("rules").out
    assert all(code in listed for code in CODES)
    assert {one["code"] for one in json.loads(call("rules", "--json").out)} == set(CODES)
    for code in CODES:
        said = call("explain", code.lower())
        assert said.code == 0
        assert said.out.startswith(f"{code} (")
    assert "recipe: adda.yaml" in call("explain", "TS304").out
    refused = call("explain", "TS3044")
    assert refused.code == 2
    assert "did you mean TS304?" in refused.err


CONTROL = '[\n  {"agentName": "vaela", "agentType": "dev"},\n  {"agentName": "oscar", "agentType": "qa"}\n]\n'


def installation(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without a fleet repo: limits, recipes, a program as goose. Returns its control file."""
    monkeypatch.setenv("TINYSCHEDULER_AGENT_LIMITS", "vaela:2,oscar:1")
    monkeypatch.setenv("TINYSCHEDULER_GOOSE_BIN", "/bin/sh")
    file = root / "docs/technical/agent-control.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(CONTROL)
    (root / "recipes").mkdir(exist_ok=True)
    for name in ("vaela", "oscar"):
        (root / f"recipes/{name}.yaml").write_text(RECIPE)
    return file


def test_without_a_fleet_repo_the_hosts_own_files_are_checked(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = installation(tmp_path, monkeypatch)
    said = call("validate", "--host")
    assert (said.code, said.out) == (0, "2 agents, 0 errors, 0 warnings\n")
    (tmp_path / "recipes/oscar.yaml").unlink()
    said = call("validate")
    assert said.code == 1
    assert f"TS304 error: Recipe not found: {tmp_path}/recipes/oscar.yaml" in said.out
    file.write_text(CONTROL.replace("},", "};"))
    found = json.loads(call("validate", "--json").out)
    assert f'"path": "{file}"' in json.dumps(found)
    assert "TS101" in json.dumps(found)
    assert '"agentType": "dev"};' in call("validate").out  # the line itself is shown
    monkeypatch.setenv("TSCHED_REPO", str(remote(tmp_path)))
    assert "agent-control.json" not in call("validate").out  # then the repo is what counts
    assert not (tmp_path / "state").exists()


def test_validate_config_has_the_old_line_about_the_control_file(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = installation(tmp_path, monkeypatch)
    said = call("validate-config")
    assert said.code == 0
    assert "✓ Agent control file is valid (2 agents configured)\n✅ All validations passed\n" in said.out
    file.write_text("[{}]")
    said = call("validate-config")
    assert said.code == 1
    assert "✗ Agent control file is not valid: " in said.out
    file.rename(f"{file}.disabled")
    said = call("validate-config", "--fix")
    assert said.code == 0
    assert f"Agent control file not found: {file}\nQueue-based processing will be disabled." in said.out
    assert not file.exists()  # it was rolled back on purpose, and there are limits


def test_fix_writes_the_default_control_file_where_nothing_names_an_agent(call: Call, tmp_path: Path) -> None:
    said = call("validate-config", "--fix")
    file = tmp_path / "docs/technical/agent-control.json"
    assert f"✓ wrote a default {file}" in said.out
    assert {row["agentName"]: row["agentType"] for row in json.loads(file.read_text())} == {
        "dispatcher": "orchestrator",
        "architect": "architect",
    }
    assert "✓ Agent control file is valid (2 agents configured)" in said.out
    assert "Recipe not found" in said.out
