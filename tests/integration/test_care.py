"""Keeping house: real files, real SQLite, a given clock. Whatever is interrupted, no line of a log is lost."""

import fcntl
import gzip
import os
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.integration.local_runs import git
from tests.integration.test_state import picture
from tsched import limited
from tsched.executors.salvaged import salvaged
from tsched.gitops.mirror import Mirror
from tsched.limited import within
from tsched.model.errors import TransientError
from tsched.model.event import Event
from tsched.model.history import PassRecord
from tsched.model.run import ExitReason, Outcome, Run, RunExit, RunResult
from tsched.model.task import Settlement, Verdict
from tsched.runner import care
from tsched.runner.care import Kept, keep_house
from tsched.state import events, history, passes, rotation
from tsched.state.database import Database
from tsched.state.folder import StateFolder

DAY = 86_400.0
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    made = StateFolder(tmp_path / "state")
    made.create()
    return made


def put(path: Path, text: str, *, age: float) -> Path:
    path.write_text(text)
    os.utime(path, (NOW - age, NOW - age))
    return path


def house(folder: StateFolder, *, dry_run: bool = False, budget: float | None = None) -> Kept:
    return keep_house(folder, None, None, keep_days=30, now=NOW, dry_run=dry_run, budget=budget)


def unpacked(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


# --- one log ---


def test_a_log_is_compressed_whole_with_its_age_and_for_its_owner_alone(tmp_path: Path) -> None:
    log = put(tmp_path / "x.log", "one\n" * 50_000, age=3 * DAY)
    rotation.compress(log)
    packed = tmp_path / "x.log.gz"
    assert unpacked(packed) == "one\n" * 50_000
    assert (packed.stat().st_mtime, packed.stat().st_mode & 0o777) == (NOW - 3 * DAY, 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["x.log.gz"]


@pytest.mark.parametrize(
    ("packed", "plain", "result"),
    [
        ("one\n", "one\n", "one\n"),  # a crash between the two steps
        ("one\n", "one\ntwo\n", "one\ntwo\n"),  # and a line that came after it
        ("one\n", "late\n", "one\nlate\n"),  # a line that came after both
        ("one\nlate\n", "late\n", "one\nlate\n"),  # and a crash while that was added
        ("one\n", "", "one\n"),
    ],
)
def test_what_was_compressed_before_stays(tmp_path: Path, packed: str, plain: str, result: str) -> None:
    put(tmp_path / "x.log", plain, age=0)
    (tmp_path / "x.log.gz").write_bytes(gzip.compress(packed.encode()))
    (tmp_path / ".x.log.gz.tmp").write_bytes(b"half of")
    rotation.compress(tmp_path / "x.log")
    assert unpacked(tmp_path / "x.log.gz") == result
    assert [path.name for path in tmp_path.iterdir()] == ["x.log.gz"]


def test_a_damaged_compressed_log_is_not_added_to(tmp_path: Path) -> None:
    log = put(tmp_path / "x.log", "one\n", age=0)
    broken = gzip.compress(b"one\n" * 1000)[:-9]
    (tmp_path / "x.log.gz").write_bytes(broken)
    with pytest.raises(TransientError, match="can't be compressed"):
        rotation.compress(log)
    assert (log.read_text(), (tmp_path / "x.log.gz").read_bytes()) == ("one\n", broken)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_end_of_a_log_is_read_whether_compressed_or_not(tmp_path: Path) -> None:
    log = put(tmp_path / "x.log", "0123456789" * 300_000, age=0)
    assert rotation.read_end(log, 4) == b"6789"
    rotation.compress(log)
    assert rotation.read_end(log, 4) == b"6789"
    with pytest.raises(FileNotFoundError):
        rotation.read_end(tmp_path / "y.log", 4)


# --- the whole house ---


def test_each_log_gets_what_is_due_and_nothing_else_is_touched(folder: StateFolder) -> None:
    logs, runs = folder.logs, folder.run_logs
    kept = [
        put(logs / "scheduler_20260301.log", "today\n", age=0),
        put(logs / "scheduler_20260228.log", "yesterday\n", age=DAY),
        put(logs / "notes.txt", "mine\n", age=90 * DAY),
        put(runs / "live.log", "it runs\n", age=90 * DAY),
        put(runs / "leaving.log", "its hook runs\n", age=90 * DAY),
        put(runs / "new.log", "just ended\n", age=DAY / 2),
    ]
    (logs / "scheduler_20260101.log").symlink_to(logs / "notes.txt")
    (folder.runs / "live").mkdir()
    (folder.workspaces / ".leaving" / "leaving").mkdir(parents=True)
    put(logs / "scheduler_20260227.log", "before\n", age=2 * DAY)
    put(logs / "scheduler_20260129.log", "old\n", age=31 * DAY)
    put(runs / "ended.log", "ended\n", age=2 * DAY)
    put(runs / "old.log.gz", "x", age=31 * DAY)
    before = picture(logs), picture(runs)
    would = house(folder, dry_run=True)
    assert (picture(logs), picture(runs)) == before
    done = house(folder)
    assert done.compressed == would.compressed == ["logs/scheduler_20260227.log", "logs/runs/ended.log"]
    assert done.removed == would.removed == ["logs/scheduler_20260129.log", "logs/runs/old.log.gz"]
    assert (done.problems, done.whole) == ([], True)
    assert all(path.exists() for path in kept)
    assert unpacked(logs / "scheduler_20260227.log.gz") == "before\n"
    assert (logs / "scheduler_20260101.log").is_symlink()
    again = house(folder)
    assert (again.compressed, again.removed) == ([], [])


def test_one_log_that_can_not_be_compressed_holds_up_no_other(folder: StateFolder) -> None:
    put(folder.logs / "scheduler_20260225.log", "a\n", age=4 * DAY)
    (folder.logs / "scheduler_20260225.log.gz").write_bytes(b"no gzip")
    put(folder.logs / "scheduler_20260226.log", "b\n", age=3 * DAY)
    done = house(folder)
    assert done.compressed == ["logs/scheduler_20260226.log"]
    assert "scheduler_20260225" in done.problems[0]


def test_two_never_look_after_the_logs_at_once(folder: StateFolder) -> None:
    put(folder.logs / "scheduler_20260226.log", "b\n", age=3 * DAY)
    other = os.open(folder.logs, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = house(folder)
        assert (done.compressed, "another process" in done.problems[0]) == ([], True)
    finally:
        os.close(other)
    assert house(folder).compressed == ["logs/scheduler_20260226.log"]


def test_what_takes_too_long_for_a_pass_is_left_to_the_next(folder: StateFolder) -> None:
    put(folder.logs / "scheduler_20260226.log", "b\n", age=3 * DAY)
    assert not house(folder, budget=-1.0).whole
    assert house(folder, budget=60.0).compressed == ["logs/scheduler_20260226.log"]


def test_a_log_that_takes_long_to_pack_is_left_to_gc(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(care, "HEAVY", 9)
    for name, text in (("scheduler_20260226.log", "ten bytes."), ("scheduler_20260225.log", "nine byte")):
        (folder.logs / name).write_text(text)
    done = house(folder, budget=60.0)
    assert (done.compressed, done.whole) == (["logs/scheduler_20260225.log"], True)
    assert house(folder).compressed == ["logs/scheduler_20260226.log"]


def test_temporary_files_of_a_crash_go_once_no_write_can_be_under_way(folder: StateFolder) -> None:
    put(folder.root / ".agent-control.json.tmp", "[", age=3601.0)
    put(folder.root / ".tinyscheduler.lock.tmp", "7", age=10.0)
    (folder.runs / "r1").mkdir()
    inside = put(folder.runs / "r1" / ".exit.json.tmp", "{", age=90 * DAY)
    assert house(folder).leftovers == [".agent-control.json.tmp"]
    assert inside.exists()
    assert (folder.root / ".tinyscheduler.lock.tmp").exists()


# --- rows ---


@pytest.fixture
def opened(folder: StateFolder) -> Database:
    return Database.open(folder.db)


def ended(db: Database, run_id: str, task: str, *, age: float, taken: bool = True) -> None:
    run = Run(
        run_id=run_id, task_id=task, agent="ada", pool="dev", queue="dev", attempt=1, revision="r", executor="local",
        recipe="x.yaml", runtime="goose", evidence="exit", created_at=NOW - age,
    )  # fmt: skip
    result = RunResult(
        run=run, exit=RunExit(run_id=run_id, reason=ExitReason.EXITED, started=True, ended_at=NOW - age),
        outcome=Outcome.FAILED, reason="x", settlement=Settlement(verdict=Verdict.RETRY),
    )  # fmt: skip
    history.record(db, result)
    if taken:
        history.acknowledge(db, run_id)


def test_old_rows_go_and_those_that_somebody_may_ask_for_stay(folder: StateFolder, opened: Database) -> None:
    with closing(opened) as db, closing(passes.open_passes(folder.history_db)[0]) as passed:
        ended(db, "old", "1", age=31 * DAY)
        ended(db, "waits", "2", age=31 * DAY, taken=False)  # the task server has not taken it
        ended(db, "before", "3", age=31 * DAY)  # its task was tried again lately
        ended(db, "again", "3", age=DAY)
        ended(db, "there", "4", age=31 * DAY)  # its folder could not be removed yet: it is settled again
        (folder.runs / "there").mkdir()
        ended(db, "new", "5", age=29 * DAY)
        for age in (31 * DAY, DAY):
            events.append(db, [Event(time=NOW - age, kind="k", subject="s", message="m", revision=None)])
            passes.append(passed, PassRecord(time=NOW - age, seconds=1.0, revision=None, generation=0))
        done = keep_house(folder, db, passed, keep_days=30, now=NOW)
        assert (done.runs, done.events, done.passes) == (1, 1, 1)
        left = {one.run.run_id for one in history.recent(db, 10)}
        assert left == {"waits", "before", "again", "there", "new"}
        again = keep_house(folder, db, passed, keep_days=30, now=NOW)
        assert (again.runs, again.events, again.passes) == (0, 0, 0)


# --- the mirror and its neighbours ---


def test_a_mirror_is_packed_beside_one_who_reads_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    git("init", "-q", "-b", "main", str(source), at=tmp_path)
    (source / "pools").mkdir()
    with closing(Mirror(tmp_path / "m.git", str(source), "main")) as reader:
        for number in range(3):
            (source / "pools/x.yaml").write_text(f"{number}")
            git("add", ".", at=source)
            git("commit", "-qm", "c", at=source)
            tip = reader.poll()
            reader.fetch(tip)
        assert reader.distance(reader.resolve("HEAD~2"), tip) == 2
        assert reader.loose()[0] + reader.loose()[1] > 1
        with closing(Mirror(tmp_path / "m.git", str(source), "main")) as other:
            other.repack()
            assert other.loose() == (0, 1)
        files = reader.files(tip)
        assert files.read(files.entries["pools/x.yaml"]) == b"2"
        reader.fetch(reader.poll())


def test_a_mirror_that_is_not_there_needs_no_packing(tmp_path: Path) -> None:
    with closing(Mirror(tmp_path / "m.git", str(tmp_path / "nowhere"), "main")) as mirror:
        mirror.repack()
        assert mirror.loose() == (0, 0)
    assert not (tmp_path / "m.git").exists()


def test_saved_work_is_found_loose_and_packed(tmp_path: Path) -> None:
    cache = tmp_path / ".repos" / "a.git"
    git("init", "-q", "--bare", str(cache), at=tmp_path)
    tree = git("--git-dir", str(cache), "mktree", at=tmp_path).strip()
    commit = git("--git-dir", str(cache), "commit-tree", "-m", "m", tree, at=tmp_path).strip()
    git("--git-dir", str(cache), "update-ref", "refs/tsched/salvage/7/1", commit, at=tmp_path)
    git("--git-dir", str(cache), "pack-refs", "--all", at=tmp_path)
    git("--git-dir", str(cache), "update-ref", "refs/tsched/salvage/8/1", commit, at=tmp_path)
    assert salvaged(tmp_path) == ("refs/tsched/salvage/7/1", "refs/tsched/salvage/8/1")
    assert salvaged(tmp_path / "nowhere") == ()


# --- asking for so long and no longer ---


def test_what_hangs_is_left_behind() -> None:
    gate = threading.Event()
    with pytest.raises(TransientError, match=r"the server gave no answer within 0\.01 s"):
        within(0.01, gate.wait, what="the server")
    gate.set()


def test_who_was_left_behind_is_gone_once_it_has_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon asks for weeks."""
    monkeypatch.setattr(limited, "_idle", [])
    gate, before = threading.Event(), set(threading.enumerate())
    with pytest.raises(TransientError):
        within(0.01, gate.wait, what="the server")
    (asking,) = set(threading.enumerate()) - before
    gate.set()
    asking.join(30)
    assert not asking.is_alive()


def test_what_answers_answers_and_what_fails_fails() -> None:
    assert within(60.0, lambda: 7, what="x") == 7
    with pytest.raises(ValueError, match="no"):
        within(60.0, lambda: int("no"), what="x")
