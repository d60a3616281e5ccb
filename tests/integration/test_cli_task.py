"""`tsched task …` and `tsched events` over real databases."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.integration.cli_call import Call, caller
from tsched.model.event import Event
from tsched.model.fleet import Agent, Fleet, Pool
from tsched.model.run import ExitReason, Lease, LeaseState, Outcome, Run, RunExit, RunResult
from tsched.model.task import Settlement, Verdict
from tsched.state import applied, events, history
from tsched.state.applied import Applied
from tsched.state.database import Database
from tsched.state.folder import StateFolder
from tsched.state.leases import Leases


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)
    return caller(capsys)


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    made = StateFolder(tmp_path / "state")
    made.create()
    return made


def run_of(task: str, run_id: str) -> Run:
    return Run(
        run_id=run_id, task_id=task, agent="vaela", pool="dev", queue="dev", attempt=1, revision="a" * 40,
        executor="local", recipe="recipes/vaela.yaml", runtime="goose", evidence="exit", created_at=1000.0,
    )  # fmt: skip


def finish(folder: StateFolder, task: str, run_id: str) -> None:
    result = RunResult(
        run=run_of(task, run_id),
        exit=RunExit(run_id=run_id, reason=ExitReason.EXITED, started=True, exit_code=3, ended_at=2000.0),
        outcome=Outcome.FAILED,
        reason="exit code 3",
        settlement=Settlement(verdict=Verdict.RETRY),
    )
    db = Database.open(folder.db)
    history.record(db, result)
    db.close()


def lease_of(task: str, run_id: str) -> Lease:
    return Lease(
        task_id=task, agent="damien", pid=1, recipe="r", started_at="2026-01-20T09:00:00.000Z",
        heartbeat="2026-01-20T09:00:00.000Z", host="h", state=LeaseState.RUNNING, run_id=run_id, attempt=2,
        revision="b" * 40, pool="dev", queue="dev", executor="local",
    )  # fmt: skip


def test_add_prints_the_id_alone(call: Call) -> None:
    said = call("task", "add", "fix the login", "--queue", "dev")
    assert (said.code, said.out, said.err) == (0, "1\n", "")
    assert call("task", "add", "next", "--queue", "any-queue").out == "2\n"


def test_add_takes_everything_that_a_task_has(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call("task", "add", "first", "--queue", "dev")
    monkeypatch.setattr("sys.stdin", io.StringIO("long\ntext"))
    said = call(
        "task", "add", "second", "--queue", "dev", "--priority", "-3", "--blocked-by", "1", "--assign", "vaela",
        "--description", "-",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert call("task", "show", "2", "--json").json() == {
        "id": "2",
        "title": "second",
        "queue": "dev",
        "status": "idle",
        "assigned_to": "vaela",
        "priority": -3,
        "blocked_by_task_id": "1",
        "is_currently_blocked": True,
        "runs": [],
        "description": "long\ntext",
        "comments": [],
    }


@pytest.mark.parametrize(
    "arguments",
    [("", "--queue", "dev"), ("x", "--queue", "Dev!"), ("x", "--queue", "dev", "--blocked-by", "99")],
)
def test_a_bad_task_is_refused(call: Call, arguments: tuple[str, ...]) -> None:
    said = call("task", "add", *arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("tsched: ")


def test_a_queue_that_nobody_serves_is_a_warning_once_a_fleet_is_applied(call: Call, folder: StateFolder) -> None:
    pool = Pool(name="dev", queue="dev", agents=(Agent(name="vaela", recipe="recipes/vaela.yaml"),))
    db = Database.open(folder.db)
    applied.adopt(db, Applied(), fleet=Fleet(revision="a" * 40, pools=(pool,)), lifecycles={})
    db.close()
    assert call("task", "add", "x", "--queue", "dev").err == ""
    said = call("task", "add", "x", "--queue", "qa")
    assert (said.code, said.out) == (0, "2\n")
    assert "warning" in said.err
    assert "qa" in said.err
    assert "no agent oscar" in call("task", "add", "x", "--queue", "dev", "--assign", "oscar").err


def test_list_filters(call: Call) -> None:
    for title, queue in (("a", "dev"), ("b", "qa"), ("c", "dev")):
        call("task", "add", title, "--queue", queue)
    call("task", "cancel", "3")

    def titles(*arguments: str) -> list[str]:
        return [str(task["title"]) for task in json.loads(call("task", "list", "--json", *arguments).out)]

    assert titles() == ["a", "b", "c"]
    assert titles("--queue", "dev") == ["a", "c"]
    assert titles("--status", "cancelled") == ["c"]
    assert titles("--queue", "dev", "--status", "idle") == ["a"]
    assert titles("--assigned-to", "vaela") == []
    assert titles("--limit", "1") == ["c"]
    said = call("task", "list", "--status", "done")
    assert said.code == 2
    assert "parked" in said.err


def test_looking_makes_no_file(call: Call, tmp_path: Path) -> None:
    assert json.loads(call("task", "list", "--json").out) == []
    assert call("task", "list").out == ""
    assert call("task", "show", "1").code == 2
    assert call("events").out == ""
    assert call("config").code == 0
    assert list(tmp_path.iterdir()) == []


def test_list_is_plain_where_piped_and_titles_stay_data(call: Call) -> None:
    call("task", "add", "[red]x\x1b[31m\ny", "--queue", "dev")
    lines = call("task", "list").out.splitlines()
    assert len(lines) == 2
    assert lines[1].endswith("[red]x\\x1b[31m\\ny")


def test_cancel_reopen_comment(call: Call) -> None:
    call("task", "add", "x", "--queue", "dev")
    assert call("task", "cancel", "1").code == 0
    assert "cancelled" in call("task", "show", "1").out
    assert call("task", "reopen", "1").code == 0
    assert call("task", "comment", "1", "look at\nthis").code == 0
    said = call("task", "show", "1")
    assert "status:       idle" in said.out
    assert "  look at\n  this\n" in said.out
    for arguments in (("cancel", "9"), ("reopen", "x"), ("comment", "9", "hello"), ("show", "9")):
        assert call("task", *arguments).code == 2


def test_show_has_runs_the_live_one_and_the_end_of_its_log(call: Call, folder: StateFolder) -> None:
    call("task", "add", "x", "--queue", "dev")
    finish(folder, "1", "run-1")
    Leases(folder.running).write(lease_of("1", "run-2"))
    (folder.run_logs / "run-2.log").write_text("".join(f"line {n}\n" for n in range(100)) + "\x1b[31mred")
    shown = json.loads(call("task", "show", "1", "--json").out)
    assert shown["runs"] == [
        {
            "run_id": "run-1",
            "agent": "vaela",
            "attempt": 1,
            "revision": "a" * 40,
            "outcome": "failed",
            "exit_code": 3,
            "reason": "exit code 3",
            "usage": None,
        },
        {
            "run_id": "run-2",
            "agent": "damien",
            "attempt": 2,
            "revision": "b" * 40,
            "outcome": None,
            "exit_code": None,
            "reason": "running",
            "usage": None,
        },
    ]
    said = call("task", "show", "1").out
    assert "  line 99\n  \\x1b[31mred\n" in said
    assert "line 81\n" in said
    assert "line 80\n" not in said
    assert "failed" in said
    finish(folder, "1", "run-2")  # its lease not cleared away yet
    assert len(json.loads(call("task", "show", "1", "--json").out)["runs"]) == 2


def test_a_task_server_elsewhere_is_said(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TSCHED_TASKS", "tinytask+http://host:3000")
    said = call("task", "add", "x", "--queue", "dev")
    assert said.code == 2
    assert "TSCHED_TASKS" in said.err
    assert list(tmp_path.iterdir()) == []


def test_many_processes_add_at_once(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tsched", "task", "add", "x", "--queue", "dev"]
    started = [subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    printed = sorted(process.communicate()[0].strip() for process in started)
    assert printed == ["1", "2", "3", "4"]


# --- events ---


def happened(folder: StateFolder, *messages: str) -> None:
    db = Database.open(folder.db)
    events.append(
        db,
        [
            Event(time=1000.0, kind="run.failed", subject="task/1", message=text, revision="a" * 40,
                  fields={"exit_code": 3, "kind": "never"})
            for text in messages
        ],
    )  # fmt: skip
    db.close()


def test_events_as_words_and_as_json_lines(call: Call, folder: StateFolder) -> None:
    happened(folder, "one\ntwo", "three")
    lines = call("events").out.splitlines()
    assert [line.endswith(end) for line, end in zip(lines, ("one\\ntwo", "three"), strict=True)] == [True, True]
    first, second = (json.loads(line) for line in call("events", "--json").out.splitlines())
    assert first == {
        "time": "1970-01-01T00:16:40.000Z",
        "kind": "run.failed",
        "subject": "task/1",
        "revision": "a" * 40,
        "message": "one\ntwo",
        "exit_code": 3,
    }
    assert second["message"] == "three"
    assert call("events", "--limit", "1").out.splitlines() == lines[1:]
    assert call("events", "--limit", "0").out == ""


def test_follow_goes_on_with_new_events_until_interrupted(folder: StateFolder, tmp_path: Path) -> None:
    happened(folder, "before")
    program = [sys.executable, "-m", "tsched", "events", "--follow", "--json"]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(program, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        rescue = threading.Timer(60, process.kill)  # a line that never comes fails the test, not the whole suite
        rescue.start()
        try:
            assert json.loads(process.stdout.readline())["message"] == "before"
            happened(folder, "after")
            assert json.loads(process.stdout.readline())["message"] == "after"
            many = [f"many {number}" for number in range(6000)]  # more than a look takes from the history at once
            happened(folder, *many)
            assert [json.loads(process.stdout.readline())["message"] for _ in many] == many
        finally:
            rescue.cancel()
            process.send_signal(signal.SIGINT)
    assert process.returncode == 130
