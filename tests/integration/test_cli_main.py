"""The command line as a whole: help, usage, exit codes, one line for each error, no tracebacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tsched
from tests.integration.cli_call import Call, caller
from tsched.cli.main import COMMANDS, GROUPS
from tsched.model.errors import FatalError


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)
    return caller(capsys)


def test_help_names_every_command(call: Call) -> None:
    said = call("--help")
    assert said.code == 0
    for name in (*COMMANDS, *GROUPS):
        assert f"  {name} " in said.out
    assert "\x1b" not in said.out


@pytest.mark.parametrize("name", [*COMMANDS, *GROUPS])
def test_each_command_has_help(call: Call, name: str) -> None:
    said = call(name, "--help")
    assert said.code == 0
    assert "Usage: tsched" in said.out


def test_version(call: Call) -> None:
    assert call("--version").out == f"tsched {tsched.__version__}\n"


def test_no_command_is_usage_with_the_help(call: Call) -> None:
    said = call()
    assert said.code == 2
    assert "Commands:" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), "nonsense"),
        (("task", "add"), "TITLE"),
        (("task", "add", "x"), "--queue"),
        (("task", "add", "x", "--queue", "dev", "--priority", "high"), "--priority"),
        (("events", "--limit", "-1"), "--limit"),
        (("--env-file", "nowhere.env", "config"), "nowhere.env"),
        (("--log-level", "LOUD", "config"), "--log-level"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(call: Call, arguments: tuple[str, ...], words: str) -> None:
    said = call(*arguments)
    assert said.code == 2
    assert said.err.startswith("tsched: ")
    assert said.err.count("\n") == 1
    assert words in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (FatalError("the lock is held by pid 7"), 2, "tsched: the lock is held by pid 7"),
        (PermissionError(13, "Permission denied", "/x"), 2, "tsched: /x: Permission denied"),
        (ZeroDivisionError("division\nby zero"), 1, "internal error: ZeroDivisionError: division\\nby zero"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_no_error_shows_a_traceback(
    call: Call, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("tsched.settings.load", fail)
    said = call("config")
    assert said.code == code
    assert words in said.err
    assert "Traceback" not in said.err
    assert said.err.count("\n") == (1 if words else 0)


def test_a_traceback_for_who_asks(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSCHED_TRACEBACK", "1")
    monkeypatch.setenv("TSCHED_LOG_LEVEL", "LOUD")
    assert "Traceback" in call("config").err


def test_a_reader_that_goes_away_is_told_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as out:
        ran = subprocess.run(
            [sys.executable, "-m", "tsched", "config"], cwd=tmp_path, stdout=out, stderr=subprocess.PIPE, check=False
        )
    assert (ran.returncode, ran.stderr) == (1, b"")


def test_a_narrow_locale_garbles_but_does_not_fail(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    program = [sys.executable, "-m", "tsched", "task"]
    subprocess.run([*program, "add", "grüße", "--queue", "dev"], cwd=tmp_path, env=environ, check=True)
    ran = subprocess.run([*program, "list"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert "gr\\xfc\\xdfe" in ran.stdout


def loaded(*arguments: str) -> set[str]:
    """The modules that are there once the program has answered."""
    program = f"import sys; from tsched.cli.main import main; main({arguments}); print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(ran.stderr.split())


def test_help_imports_nothing_heavy() -> None:
    heavy = {"jsonschema", "git", "pygit2", "minijinja", "msgspec", "yaml", "sqlite3", "rich.table"}
    assert not heavy & loaded("--help")


def test_a_command_does_not_wait_for_the_others() -> None:
    there = loaded("rules", "--json")
    assert "tsched.cli.rules" in there
    assert not {f"tsched.cli.{name}" for name in ("demo", "edits", "task", "validate")} & there
