"""`tsched simulate` and `profile` over real databases, a real git repository and files of tasks."""

import json
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.cli_call import Call, Said, caller
from tests.work import fill, result
from tsched.model.fleet import Agent, Fleet, Limits, Pool
from tsched.model.history import PassRecord
from tsched.schedule.profile import REST, WHOLE, profiled
from tsched.state import passes

HOUR = 3600.0
POOL = "apiVersion: tsched/v1\nkind: Pool\nname: dev\nagents: [{name: ada, limit: %d}]\n"
LIMITS = "apiVersion: tsched/v1\nkind: Limits\nloop_interval: 1s\n"
RECIPE = "title: T\ndescription: D\nprompt: P\n"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Stands in a repository where ada's limit went from 1 to 2 to 4."""
    monkeypatch.chdir(tmp_path)
    for name in ("pools", "recipes"):
        (tmp_path / name).mkdir()
    (tmp_path / "recipes/ada.yaml").write_text(RECIPE)
    (tmp_path / "pools/limits.yaml").write_text(LIMITS)
    git("init", "-q", "-b", "main")
    for limit in (1, 2, 4):
        (tmp_path / "pools/dev.yaml").write_text(POOL % limit)
        git("add", "pools", "recipes")
        git("-c", "user.name=me", "-c", "user.email=me@example.org", "commit", "-qm", f"limit {limit}")
    return caller(capsys)


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True)


def tasks(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def slots(said: Said) -> list[int | None]:
    """Of the pool dev, before and after."""
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    return [None if found[key] is None else found[key]["pools"][0]["slots"] for key in ("before", "after")]


def test_fleets_are_the_applied_one_a_revision_its_parent_or_a_base(call: Call, tmp_path: Path) -> None:
    file = tasks(tmp_path / "load.jsonl", *({"queue": "dev", "at": 0, "seconds": 10} for _ in range(8)))
    look = ("simulate", "--tasks", file, "--json")
    assert slots(call(*look, "HEAD")) == [2, 4]
    assert slots(call(*look, "HEAD", "--base", "HEAD~2")) == [1, 4]
    assert slots(call(*look)) == [4, None]
    there = Pool(name="dev", queue="dev", agents=(Agent(name="ada", limit=3, recipe="recipes/ada.yaml"),))
    fill(tmp_path / "state", fleet=Fleet(revision="a" * 40, pools=(there,), limits=Limits(loop_interval=1.0)))
    assert slots(call(*look)) == [3, None]
    assert slots(call(*look, "HEAD")) == [3, 4]
    assert slots(call(*look, "HEAD", "--base", "HEAD~1")) == [2, 4]
    words = call("simulate", "HEAD", "--tasks", file).out
    assert "Estimate: " in words
    assert "3 → 4" in words


def test_the_recorded_load_is_last_weeks_and_can_be_taken_elsewhere(call: Call, tmp_path: Path) -> None:
    now = time.time()
    ended = [
        result(f"r{n}", at=now - HOUR + n, took=60.0, task_id=str(n), queued_at=now - HOUR, first=True)
        for n in range(20)
    ]
    there = Pool(name="dev", queue="dev", agents=(Agent(name="ada", limit=2, recipe="recipes/ada.yaml"),))
    fill(tmp_path / "state", fleet=Fleet(revision="a" * 40, pools=(there,)), results=ended, first_pass=now - HOUR)
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "state").rglob("*"))
    found = json.loads(call("simulate", "--json", "--save", "load.jsonl").out)
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "state").rglob("*")) == before
    (queue,) = found["before"]["queues"]
    assert (found["estimate"], found["load"]["tasks"], queue["tasks"]) == (True, 20, 20)
    assert queue["wait_seconds"]["p95"] >= 540.0, "20 tasks of a minute at once, on two slots"
    again = json.loads(call("simulate", "--json", "--tasks", "load.jsonl").out)
    assert again["before"]["queues"][0]["wait_seconds"] == queue["wait_seconds"]
    twice = json.loads(call("simulate", "--json", "--scale", "2").out)
    assert (twice["load"]["tasks"], twice["before"]["runs"]) == (40, 40)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tasks", "bad.jsonl"], "bad.jsonl:2: at is soon, which is no time: write seconds since 1970"),
        (["--tasks", "none.jsonl"], "none.jsonl: No such file"),
        (["--tasks", "empty.jsonl"], "empty.jsonl has no task: a line is {queue, at, seconds"),
        ([], "no run has ended here since then: give --since"),
        (["nosuch", "--tasks", "SYNTHETIC"], "'nosuch' names no commit"),
        (["--base", "HEAD", "--tasks", "SYNTHETIC"], "--base is what a revision is compared with"),
        (["HEAD", "--agents", "5"], "--agents makes up a fleet"),
        (["--scale", "0"], "--scale is 0: give a number above 0"),
        (["--scale", "nan"], "--scale is nan: give a number above 0"),
        (["--agents", "5", "--tasks", "SYNTHETIC", "--rate", "dev=1"], "write QUEUE=N:TIME"),
        (["--agents", "5", "--tasks", "SYNTHETIC", "--rate", "dev=1e9:1s", "--for", "9d"], "more than 10,000,000"),
        (["--busy", "some"], "--busy is 'some': give a percentage"),
        (["--for", "0s"], "--for is 0s: give a time above 0"),
    ],
)
def test_what_makes_no_sense_is_one_clear_line(call: Call, tmp_path: Path, arguments: list[str], words: str) -> None:
    good = {"queue": "dev", "at": "2026-01-20T10:15:00Z", "seconds": 1}
    tasks(tmp_path / "bad.jsonl", good, {**good, "at": "soon"})
    tasks(tmp_path / "empty.jsonl")
    said = call("simulate", *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert words in said.err


def test_a_made_up_fleet_is_as_busy_as_asked(call: Call) -> None:
    arguments = ("--agents", "1100", "--tasks", "SYNTHETIC", "--busy", "50%", "--for", "20m", "--duration", "1m")
    found = json.loads(call("simulate", *arguments, "--json").out)["before"]
    assert [(one["slots"], one["utilisation"]) for one in found["pools"]] == [
        (1000, pytest.approx(0.47, abs=0.04)), (100, pytest.approx(0.47, abs=0.04)),
    ]  # fmt: skip


def record(at: float, seconds: float, **steps: float) -> PassRecord:
    return PassRecord(time=at, seconds=seconds, revision=None, generation=1, steps=steps)


def test_a_profile_shows_each_steps_share(call: Call, tmp_path: Path) -> None:
    now = time.time()
    records = [record(now - 30, 1.0, fetch=0.6, match=0.3), record(now - 20, 2.0, fetch=0.6, match=1.4)]
    records.append(record(now - 10, 1.0, fetch=0.75))
    found = {one.name: one for one in profiled(records)}
    assert list(found) == ["fetch", "match", REST, WHOLE]
    match = found["match"]
    assert (match.passes, match.p50, match.p95, match.most) == (2, 0.3, 1.4, 1.4)
    assert match.share == pytest.approx(0.425)
    assert found[REST].total == pytest.approx(0.35)
    assert profiled([]) == ()
    assert "No pass since then." in call("profile").out
    folder = fill(tmp_path / "state")
    with closing(passes.open_passes(folder.history_db)[0]) as db:
        for one in records:
            passes.append(db, one)
    asked = json.loads(call("profile", "--json").out)
    assert asked["passes"] == 3
    assert asked["steps"][0] == {
        "name": "fetch", "passes": 3, "p50": 0.6, "p95": 0.75, "max": 0.75, "total": 1.95, "share": 0.4875,
    }  # fmt: skip
    assert json.loads(call("profile", "--limit", "1", "--json").out)["passes"] == 1
    assert json.loads(call("profile", "--since", "15s", "--json").out)["passes"] == 1
    assert ["match", "2", "300.0", "1400.0", "1400.0", "42.5%"] in [
        line.split() for line in call("profile").out.splitlines()
    ]
