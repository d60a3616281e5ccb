"""`tsched runtimes`: the built-in ones and the applied fleet's own, with what proves success."""

import json
from pathlib import Path

import pytest

from tests.integration.cli_call import Call, caller
from tsched.model.fleet import Evidence, Fleet, Limits, Runtime
from tsched.state import applied
from tsched.state.applied import Applied
from tsched.state.database import Database
from tsched.state.folder import StateFolder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)
    return caller(capsys)


def test_each_runtime_says_what_proves_success(call: Call, tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    own = Runtime(name="tests", argv=("make", "a b"), env=("CI",), evidence=Evidence.EXIT)
    replaced = Runtime(name="goose", argv=("mine",))
    limits = Limits(runtimes={"tests": own, "goose": replaced})
    db = Database.open(folder.db)
    applied.adopt(db, Applied(), fleet=Fleet(revision="a" * 40, limits=limits), lifecycles={})
    db.close()
    shown = {one["name"]: one for one in json.loads(call("runtimes", "--json").out)}
    assert list(shown) == ["goose", "claude", "codex", "opencode", "tests"]
    assert shown["goose"]["rule"] == "the agent completes or hands over its task", "the fleet's own replaces it"
    assert shown["goose"]["resume"] is None
    assert shown["claude"]["rule"].startswith("exit status 0 and a `result` that is no error")
    assert "{session}" in shown["claude"]["resume"]
    assert shown["tests"] == {
        "name": "tests", "argv": ["make", "a b"], "env": ["CI"], "evidence": "exit", "rule": "exit status 0",
        "resume": None,
    }  # fmt: skip
    assert "make 'a b'" in call("runtimes").out
