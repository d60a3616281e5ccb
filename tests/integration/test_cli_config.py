"""`tsched config`, as the operations guide reads it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.cli_call import Call, caller
from tsched.model.fleet import Agent, Fleet, Limits, Pool
from tsched.state import applied
from tsched.state.applied import Applied
from tsched.state.database import Database
from tsched.state.folder import StateFolder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)
    return caller(capsys)


def test_text_has_the_agent_limits_line_with_an_agent_a_line(call: Call, tmp_path: Path) -> None:
    (tmp_path / "tinyscheduler.env").write_text('TINYSCHEDULER_AGENT_LIMITS=\'{\n"vaela": 3,\n"damien": 2\n}\'\n')
    for arguments in (("config",), ("config", "--show")):
        said = call(*arguments)
        assert said.code == 0
        lines = said.out.splitlines()
        assert lines[lines.index("Agent Limits:") + 1 :] == ["  damien: 2", "  vaela: 3"]
        assert any("env file TINYSCHEDULER_AGENT_LIMITS" in line for line in lines)


def test_the_guides_commands_read_it(tmp_path: Path) -> None:
    (tmp_path / "tinyscheduler.env").write_text('TINYSCHEDULER_AGENT_LIMITS={"vaela": 3}\n')
    command = f"{sys.executable} -m tsched config --show | grep -A 20 'Agent Limits' | grep -i vaela"
    ran = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == "  vaela: 3\n"


def test_json_shows_the_applied_fleets_limits_and_figures(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    agents = (Agent(name="vaela", limit=3, recipe="r"), Agent(name="damien", limit=1, recipe="r"))
    fleet = Fleet(
        revision="a" * 40, pools=(Pool(name="dev", queue="dev", agents=agents),), limits=Limits(heartbeat=4.0)
    )
    db = Database.open(folder.db)
    applied.adopt(db, Applied(), fleet=fleet, lifecycles={})
    db.close()
    monkeypatch.setenv("TSCHED_REPO", "https://bot:hunter2@host/fleet.git")
    monkeypatch.setenv("TINYSCHEDULER_AGENT_LIMITS", '{"vaela": 9}')
    said = call("config", "--json")
    shown = json.loads(said.out)
    assert shown["agent_limits"] == {"vaela": 3, "damien": 1}
    assert shown["heartbeat_interval_sec"] == 4.0
    assert shown["repo"] == "https://bot:********@host/fleet.git"
    assert "hunter2" not in said.out + said.err
    assert any("TINYSCHEDULER_AGENT_LIMITS is not used" in note for note in shown["notes"])


def test_global_options_stand_before_the_command(call: Call, tmp_path: Path) -> None:
    (tmp_path / "my.env").write_text("TSCHED_BRANCH=mine\n")
    base = tmp_path / "base"
    base.mkdir()
    said = call("--env-file", "my.env", "--base-path", str(base), "--log-level", "debug", "config", "--json")
    shown = json.loads(said.out)
    assert (shown["branch"], shown["base_path"], shown["log_level"]) == ("mine", str(base), "DEBUG")
    assert shown["sources"]["base_path"] == "flag --base-path"
