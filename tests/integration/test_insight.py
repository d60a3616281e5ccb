"""Commands that look at work, over real databases that are filled as a runner fills them."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli_call import Call, caller
from tests.work import fill, result, run
from tsched.model.fleet import Agent, Fleet, Pool
from tsched.model.history import Sample
from tsched.model.run import Outcome, RunResult, Usage
from tsched.sqlite import open_database
from tsched.state import history
from tsched.state.database import MIGRATIONS, Database

OLD, NEW = "a" * 40, "b" * 40
HOUR, DAY = 3600.0, 86400.0


def fleet() -> Fleet:
    def pool(name: str, *agents: str) -> Pool:
        made = tuple(Agent(name=one, limit=2, recipe=f"recipes/{one}.yaml") for one in agents)
        return Pool(name=name, queue=name, agents=made)

    return Fleet(revision=NEW, pools=(pool("dev", "ada", "ben"), pool("qa", "cy")))


def work(now: float) -> list[RunResult]:
    """Ada: 11 good runs and a bad one today, an old bad one; ben: 2; cy: nothing but a run of long ago."""
    today = [
        result(f"a{number}", at=now - HOUR + 60 * number, took=60.0, task_id=str(number), first=True, revision=NEW,
               queued_at=now - HOUR + 60 * number - 30, usage=Usage(total_tokens=10, cost_usd=0.5))
        for number in range(11)
    ]  # fmt: skip
    return [
        result("c1", at=now - 9 * DAY, agent="cy", pool="qa", queue="qa", outcome=Outcome.UNPROVEN, revision=OLD),
        *(result(f"o{n}", at=now - 3 * DAY + n, outcome=Outcome.FAILED, revision=OLD) for n in range(12)),
        *today,
        result("a11", at=now - 900, took=30.0, outcome=Outcome.FAILED, exit_code=3, revision=NEW, task_id="0"),
        result("b0", at=now - 800, took=120.0, agent="ben", task_id="20", revision=NEW),
        result("b1", at=now - 700, took=120.0, agent="ben", task_id="21", outcome=Outcome.CANCELLED, revision=NEW),
    ]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)
    now = time.time()
    depths = [Sample(time=now - 2 * HOUR, queue="dev", idle=8, blocked=0, working=0),
              Sample(time=now - HOUR / 2, queue="dev", idle=2, blocked=0, working=1, oldest=now - 600)]  # fmt: skip
    fill(tmp_path / "state", results=work(now), samples=depths, fleet=fleet(), first_pass=now - 10 * DAY)
    return caller(capsys)


def asked(call: Call, *arguments: str) -> Any:
    said = call(*arguments, "--json")
    assert (said.code, said.err) == (0, "")
    return said.json()


def named(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(one for one in found if one["name"] == name)


def stamps(folder: Path) -> Mapping[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*") if path.is_file()}


def test_agents_are_shown_beside_what_they_did(call: Call) -> None:
    found = asked(call, "agents")
    ada, cy = named(found, "ada"), named(found, "cy")
    assert (ada["pool"], ada["queue"], ada["state"], ada["running"], ada["limit"]) == ("dev", "dev", "active", 0, 2)
    assert (ada["last"]["outcome"], ada["last"]["run_id"]) == ("failed", "a11")
    day = ada["last_24h"]
    assert (day["failed"]["number"], day["failed"]["of"], day["runs"]) == (1, 12, 12)
    assert (day["tokens"], day["cost_usd"], day["duration_seconds"]["mean"]) == (110, 5.5, 57.5)
    assert (cy["last"]["outcome"], cy["last_24h"]["runs"]) == ("unproven", 0)
    words = call("agents", "--pool", "dev").out
    assert "8% (1 of 12)" in words
    assert "0 of 1, too few to tell" in words
    assert "cy" not in words
    assert "there are dev, qa" in call("agents", "--pool", "ops").err


def test_pools_count_their_agents_by_state(call: Call) -> None:
    (dev, _) = asked(call, "pools")
    assert (dev["name"], dev["running"], dev["slots"], dev["agents"]) == ("dev", 0, 4, {"active": 2})
    assert (dev["suspended"], dev["drains"], dev["last_24h"]["failed"]["of"]) == (False, [], 13)
    assert "2 active" in call("pools").out


def test_queues_show_their_depth_over_time_and_what_was_done(call: Call) -> None:
    found = asked(call, "queues", "--since", "1h")
    dev = named(found["queues"], "dev")
    assert dev["average_idle"] == pytest.approx(5.0, abs=0.1), "half an hour of 8, half an hour of 2"
    assert (dev["most_idle"], dev["depth"][0], dev["depth"][-1]) == (8, 8, 2)
    assert dev["outcomes"]["complete"] == 12
    assert dev["assigned"] == 13, "one of them was started just before the hour"
    assert found["asked_since"] == found["since"]
    assert "█" in call("queues").out
    beyond = asked(call, "queues", "--since", "30d")
    assert beyond["asked_since"] < beyond["since"], "the window begins no earlier than the history"


def test_a_report_has_every_run_of_its_window_once(call: Call) -> None:
    week = asked(call, "report")
    assert (week["total"]["runs"], week["total"]["tasks"]) == (26, 13)
    assert sum(bar[outcome] for bar in week["throughput"]["bars"] for outcome in Outcome if outcome in bar) == 26
    for by in ("pool", "agent", "recipe"):
        assert sum(one["runs"] for one in week["by"][by]) == 26
    assert week["total"]["wait_seconds"] == {"number": 11, "mean": 30.0, "p50": 30.0, "p95": 30.0}
    assert [(one["runs"], one["exit_code"]) for one in week["total"]["failures"]] == [(12, 0), (1, 3)]
    assert list(asked(call, "report", "--by", "pool")["by"]) == ["pool"]
    lines = list(csv.DictReader(io.StringIO(call("report", "--format", "csv", "--since", "1d").out)))
    assert (lines[0]["by"], lines[0]["runs"]) == ("all", "14")
    assert call("report", "--format", "html").out.startswith("<!doctype html>")
    assert "Failures by kind" in call("report").out


def test_capacity_is_reasoned_from_what_was_measured(call: Call) -> None:
    (dev,) = asked(call, "capacity", "--queue", "dev", "--since", "2h")["queues"]
    assert (dev["first_runs"], dev["depth_growth"], dev["arrivals"]) == (11, -6, 5)
    assert dev["slots"] == 4
    assert any("Little's law" in sentence for sentence in dev["reasoning"])
    words = call("capacity").out
    assert "No run of it has ended" not in words[: words.index("qa:")]
    assert "No depth of the queue is recorded" in words[words.index("qa:") :]
    assert "there are dev, qa" in call("capacity", "--queue", "ops").err
    assert "10s" in call("capacity", "--wait", "0s").err


def test_a_revision_is_compared_with_the_one_before_even_where_its_commit_is_gone(call: Call) -> None:
    found = asked(call, "blame", "--revision", "bbbb")
    assert (found["revision"], found["commit"], found["before"]["revision"]) == (NEW, None, OLD)
    assert found["all"]["verdict"] == "better"
    assert (found["all"]["complete"]["before"]["number"], found["all"]["complete"]["now"]["of"]) == (0, 13)
    assert found["changes_unknown"]
    words = call("blame", "--revision", "bbbb").out
    assert "0 of 13" in words
    assert "better: the difference lies between" in words
    assert asked(call, "blame", "20")["attempts"][0]["agent"] == "ben"


def test_what_can_not_be_blamed_is_said_in_a_line(call: Call) -> None:
    assert "no run of a task '99'" in call("blame", "99").err
    assert "--revision REV" in call("blame").err
    assert "--revision REV" in call("blame", "7", "--revision", "x").err
    assert call("blame", "--revision", "cccc").code == 2
    assert "--recipe" in call("blame", "--revision", "bbbb", "--recipe").err
    assert "--balance is by pool" in call("report", "--balance", "--format", "csv").err


def test_looking_changes_nothing(call: Call, tmp_path: Path) -> None:
    before = stamps(tmp_path)
    for words in ("agents", "pools", "queues", "report", "capacity", "blame 20", "blame --revision bbbb"):
        assert call(*words.split()).code == 0
    assert stamps(tmp_path) == before


def test_before_the_first_pass_every_command_has_an_answer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call = caller(capsys)
    for words in ("agents", "pools", "queues", "report", "report --format html", "capacity", "history", "errors"):
        said = call(*words.split())
        assert said.code == 0
        assert said.out, "nothing is an answer that has to be said"
    assert list(tmp_path.iterdir()) == []


def test_watching_repeats_until_interrupted(call: Call, tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "tsched", "queues", "--watch", "--json"]
    with subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        lines = [watching.stdout.readline() for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=30) == 130
    assert all('"queues": [{"name": "dev"' in line for line in lines)


def test_a_query_that_would_never_end_is_ended_by_ctrl_c(call: Call, tmp_path: Path) -> None:
    endless = (
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
        "SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT max(x) FROM c"
    )
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "tsched", "sql", endless, "--json"]
    with subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == '{"n": 0}\n'
        asking.send_signal(signal.SIGINT)
        try:
            assert asking.wait(timeout=30) == 130
        finally:
            asking.kill()


@pytest.mark.parametrize("words", ["history --limit", "errors --limit", "events --limit"])
def test_a_limit_past_all_sense_is_refused_in_words(call: Call, words: str) -> None:
    said = call(*words.split(), "9" * 30)
    assert said.code == 2
    assert "range" in said.err


# the reading side


def test_runs_are_read_by_their_end_their_revision_and_their_agent(tmp_path: Path) -> None:
    runs = [
        result("a", at=1.0, took=9.0, revision=OLD),
        result("b", at=2.0, took=1.0, revision=NEW),
        result("c", at=5.0, took=1.0, revision=NEW, queue="qa"),
    ]
    with closing(Database.open(fill(tmp_path / "state", results=runs).db)) as db:
        assert [one.run.run_id for one in history.ended_since(db, 3.0)] == ["c", "a"]
        assert [one.run.run_id for one in history.of_revision(db, NEW)] == ["b", "c"]
        assert history.revisions(db) == ((OLD, 1.0), (NEW, 2.0)), "by their first run's start, not its end"
        assert {(one.run.queue, one.run.run_id) for one in history.last_of_agents(db)} == {("dev", "a"), ("qa", "c")}
        first = history.oldest(db)
        assert first is not None
        assert first.run == run("b", at=2.0, revision=NEW)
        plan = str(db.rows("EXPLAIN QUERY PLAN SELECT body FROM runs WHERE ended_at > 1 ORDER BY ended_at"))
        assert "runs_by_end" in plan
        assert "TEMP B-TREE" not in plan


def test_a_file_from_before_the_indexes_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "tsched.db"
    open_database(path, migrations=MIGRATIONS[:2]).close()
    with closing(Database.open(path)) as db:
        history.record(db, result("a", at=1.0))
        assert [one.run.run_id for one in history.ended_since(db, 0.0)] == ["a"]
