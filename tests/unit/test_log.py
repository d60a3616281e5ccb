"""The operator's log: its lines, its order, its files, and the operations guide's own commands run over it."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest

from tsched.observe import messages
from tsched.observe.entries import Level, format_line
from tsched.observe.log import OperatorLog, registry_lines

NOON = datetime(2026, 1, 20, 12, 0, 0, 123_000, tzinfo=UTC).timestamp()
DAY = 86_400.0


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def today(folder: Path, day: str = "20260120") -> list[str]:
    return (folder / f"scheduler_{day}.log").read_text().splitlines()


def said(lines: list[str]) -> list[str]:
    return [line.partition(" - ")[2] for line in lines]


# --- a line ---


def test_a_line_in_utc_ends_its_time_in_z() -> None:
    assert format_line(NOON, Level.INFO, "hello") == "2026-01-20T12:00:00.123Z|INFO - hello\n"


def test_a_line_elsewhere_carries_the_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XXX-05:30")
    time.tzset()
    assert format_line(NOON, Level.ERROR, "hello") == "2026-01-20T17:30:00.123+05:30|ERROR - hello\n"


@pytest.mark.parametrize("text", ["a\nb", "a\r\nERROR - b", "a\x1b[31m", "a\u2028b", "a\x00", "a\u202eb", "a\ud800"])
def test_no_message_starts_a_line_or_drives_a_terminal(text: str) -> None:
    line = format_line(NOON, Level.INFO, text)
    assert line.splitlines() == [line[:-1]]
    assert "\x1b" not in line
    line.encode()


# --- files ---


def test_lines_are_appended_privately_and_echoed_unchanged(tmp_path: Path) -> None:
    echo = io.StringIO()
    for text in ("one", "two " + "x" * 500):
        OperatorLog(tmp_path / "logs", echo=echo, clock=Clock()).info(text)
    path = tmp_path / "logs" / "scheduler_20260120.log"
    assert path.read_text() == echo.getvalue()
    assert len(path.read_text().splitlines()) == 2
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    echo = io.StringIO()
    OperatorLog(None, echo=echo, clock=Clock()).info("dry")
    assert list(tmp_path.iterdir()) == []
    assert "dry" in echo.getvalue()


def test_levels_below_the_set_one_are_dropped(tmp_path: Path) -> None:
    log = OperatorLog(tmp_path, level="WARNING", clock=Clock())
    log.debug("no")
    log.info("no")
    log.warning("yes")
    log.error("yes")
    assert said(today(tmp_path)) == ["yes", "yes"]


def test_the_file_rolls_at_midnight_and_begins_with_the_registry(tmp_path: Path) -> None:
    clock = Clock()
    log = OperatorLog(tmp_path, clock=clock)
    log.standing(registry_lines(source="fleet", agents=["vaela", "oscar"], queues=["dev", "qa"]))
    log.info("first day")
    clock.now += DAY
    log.info("second day")
    registry = [
        "Loaded agent registry from fleet",
        "Registered agents: vaela, oscar",
        "Agent types (queues): dev, qa",
    ]
    assert said(today(tmp_path)) == [*registry, "first day"]
    assert said(today(tmp_path, "20260121")) == [*registry, "second day"]


def test_midnight_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XXX-13")
    time.tzset()
    OperatorLog(tmp_path, clock=Clock()).info("here it is past midnight already")
    assert [path.name for path in tmp_path.iterdir()] == ["scheduler_20260121.log"]


def test_the_registry_is_logged_again_only_when_it_changed(tmp_path: Path) -> None:
    log = OperatorLog(tmp_path, clock=Clock())
    log.standing(registry_lines(source="fleet", agents=["vaela"], queues=["dev"]))
    log.standing(registry_lines(source="fleet", agents=["vaela"], queues=["dev"]))
    assert len(today(tmp_path)) == 3
    log.standing(registry_lines(source="fleet", agents=["vaela", "damien"], queues=["dev"]))
    assert said(today(tmp_path))[3:] == ["Registered agents: vaela, damien"]


def test_a_file_begun_by_a_changed_line_begins_with_those_that_stay(tmp_path: Path) -> None:
    clock = Clock()
    log = OperatorLog(tmp_path, clock=clock, level="WARNING")
    log.standing([(Level.WARNING, "a"), (Level.WARNING, "b")])
    clock.now += DAY
    log.standing([(Level.WARNING, "other"), (Level.WARNING, "b")])
    assert sorted(said(today(tmp_path, "20260121"))) == ["b", "other"]


def test_what_holds_for_now_begins_each_day_at_its_own_level(tmp_path: Path) -> None:
    clock = Clock()
    log = OperatorLog(tmp_path, clock=clock, level="WARNING")
    log.standing([(Level.WARNING, "no control file"), (Level.INFO, "legacy mode")])
    clock.now += DAY
    log.error("second day")
    assert said(today(tmp_path)) == ["no control file"]
    assert said(today(tmp_path, "20260121")) == ["no control file", "second day"]
    assert "|WARNING - no control file" in today(tmp_path, "20260121")[0]


def test_a_log_rotated_away_is_begun_anew(tmp_path: Path) -> None:
    log = OperatorLog(tmp_path, clock=Clock())
    log.standing(registry_lines(source="fleet", agents=["vaela"], queues=["dev"]))
    (tmp_path / "scheduler_20260120.log").rename(tmp_path / "scheduler_20260120.log.1")
    log.info("after")
    assert said(today(tmp_path))[0] == "Loaded agent registry from fleet"
    assert said(today(tmp_path))[-1] == "after"


def test_a_full_disk_stops_nobody_and_is_told_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    echo = io.StringIO()
    log = OperatorLog(tmp_path, echo=echo, clock=Clock())
    log.info("before")

    def full(descriptor: int, data: bytes) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        log.info("lost 1")
        log.error("lost 2")
    log.info("after")
    assert "lost 1" in echo.getvalue()
    assert said(today(tmp_path)) == ["before", messages.lines_lost(2), "after"]


def test_a_line_cut_short_does_not_swallow_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = OperatorLog(tmp_path, clock=Clock())
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:9]))
        log.info("cut")
    log.info("whole")
    assert today(tmp_path) == [
        "2026-01-2",
        f"2026-01-20T12:00:00.123Z|WARNING - {messages.lines_lost(1)}",
        "2026-01-20T12:00:00.123Z|INFO - whole",
    ]


def test_a_closed_echo_stops_nobody(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as echo:
        log = OperatorLog(tmp_path, echo=echo, clock=Clock())
        log.info("one")
        log.info("two")
        assert said(today(tmp_path)) == ["one", "two"]
        with pytest.raises(BrokenPipeError):
            echo.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)


# --- a pass ---


def test_a_pass_says_when_it_starts_and_completes_with_its_counters(tmp_path: Path) -> None:
    with OperatorLog(tmp_path, clock=Clock()).reconciliation_pass() as log:
        log.count(tasks_spawned=1, unassigned_matched=1)
        log.count(tasks_spawned=1, of_its_own=4)
    first, last = said(today(tmp_path))
    assert first == "Starting reconciliation pass"
    assert last.startswith("Reconciliation completed in 0.0")
    assert ": tasks_spawned=2 unassigned_matched=1 assigned_spawned=0 " in last
    assert last.endswith("errors=0 of_its_own=4")


@pytest.mark.parametrize(("routine", "urgent"), [(0, 0), (20, 5), (21, 5), (20, 6), (100, 100), (3, 40)])
def test_completed_stands_within_thirty_lines_and_nothing_is_dropped(
    tmp_path: Path, routine: int, urgent: int
) -> None:
    operator = OperatorLog(tmp_path, clock=Clock())
    with operator.reconciliation_pass() as log:
        for number in range(max(routine, urgent)):
            if number < routine:
                operator.info(f"routine {number}")
            if number < urgent:
                log.error(f"urgent {number}")
    lines = said(today(tmp_path))
    done = next(index for index, line in enumerate(lines) if line.startswith("Reconciliation completed"))
    assert done <= 30
    assert done == 1 + min(routine, 20) + min(urgent, 5)
    assert [line for line in lines if line.startswith("routine")] == [f"routine {n}" for n in range(routine)]
    assert [line for line in lines if line.startswith("urgent")] == [f"urgent {n}" for n in range(urgent)]
    assert f"errors={urgent}" in lines[done]


def test_the_first_twenty_lines_are_on_disk_before_the_pass_ends(tmp_path: Path) -> None:
    with OperatorLog(tmp_path, clock=Clock()).reconciliation_pass() as log:
        for number in range(22):
            log.info(f"line {number}")
        log.error("now")
        assert said(today(tmp_path))[1:] == [*(f"line {n}" for n in range(20)), "now"]


def test_a_killed_pass_keeps_what_it_wrote(tmp_path: Path) -> None:
    program = """
        import os, signal, sys
        from pathlib import Path
        from tsched.observe.log import OperatorLog
        with OperatorLog(Path(sys.argv[1])).reconciliation_pass() as log:
            log.info("kept")
            log.error("kept too")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    (path,) = tmp_path.iterdir()
    assert said(path.read_text().splitlines()) == ["Starting reconciliation pass", "kept", "kept too"]


def test_a_pass_that_breaks_off_says_why_and_drops_nothing(tmp_path: Path) -> None:
    operator = OperatorLog(tmp_path, clock=Clock())
    with pytest.raises(RuntimeError, match="boom"), operator.reconciliation_pass() as log:
        for number in range(25):
            log.info(f"line {number}")
        raise RuntimeError("boom")
    lines = today(tmp_path)
    assert sum("line " in line for line in lines) == 25
    assert any("|ERROR - Reconciliation broken off" in line and "boom" in line for line in lines)
    assert not any("completed" in line for line in lines)
    operator.info("outside again")
    assert said(today(tmp_path))[-1] == "outside again"


def test_a_pass_over_midnight_stays_together(tmp_path: Path) -> None:
    clock = Clock(NOON + DAY / 2 - 1)
    operator = OperatorLog(tmp_path, clock=clock)
    with operator.reconciliation_pass() as log:
        clock.now += 2
        log.info("next day")
    operator.info("after")
    assert len(today(tmp_path)) == 3
    assert said(today(tmp_path, "20260121")) == ["after"]


# --- the guide ---


@pytest.fixture
def station(tmp_path: Path) -> Path:
    """An operator's folder with today's log of two passes."""
    operator = OperatorLog(tmp_path / "state" / "logs", clock=Clock(time.time()))
    agents, queues = ["vaela", "damien", "oscar"], ["dev", "qa"]
    operator.standing(registry_lines(source="/srv/fleet.git at 1a2b3c", agents=agents, queues=queues))
    for dev in (3, 5):
        with operator.reconciliation_pass() as log:
            log.info(messages.processing("dev"))
            log.info(messages.found(dev, "dev"))
            log.info(messages.filtered_out(2))
            log.info(messages.prioritizing(1))
            log.info(messages.blocks("7", 3))
            log.info(messages.available_slots("vaela", 2))
            log.info(messages.available_slots("damien", 0))
            for task in range(dev):
                log.info(messages.assigning(str(task), "dev", "vaela" if task % 2 == 0 else "damien"))
            log.info(messages.processing("qa"))
            log.info(messages.found(1, "qa"))
            log.info(messages.assigning("90", "qa", "oscar"))
            for number in range(30):
                log.debug(f"detail {number}")
                log.info(f"more {number}")
            log.error("task server: connection refused (queue dev)")
            log.info(messages.blocked_skipped(2))
            log.count(tasks_spawned=dev + 1, unassigned_matched=dev + 1)
    return tmp_path


LOG = "state/logs/scheduler_$(date +%Y%m%d).log"

# Lines of the operations guide, word for word, with the answer that an operator should get.
GUIDE = [
    (f"grep ERROR {LOG} | wc -l", "2"),
    (f'grep "Loaded agent registry" {LOG} | tail -1 | cut -d" " -f3-',
     "Loaded agent registry from /srv/fleet.git at 1a2b3c"),
    ('grep "Starting reconciliation" state/logs/scheduler_*.log | tail -10 | wc -l', "2"),
    (f'grep -E "(tasks_spawned|unassigned_matched|assigned_spawned)" {LOG} | tail -20 | wc -l', "2"),
    ('grep "Assigning task" state/logs/scheduler_*.log | tail -20 | wc -l', "10"),
    (f'grep "Processing queue" {LOG} | tail -20 | wc -l', "4"),
    ('grep "Found.*unassigned tasks in queue" state/logs/scheduler_*.log | tail -10 | wc -l', "4"),
    ('grep "Agent types (queues)" state/logs/scheduler_*.log | tail -1 | sed "s/.*INFO/INFO/"',
     "INFO - Agent types (queues): dev, qa"),
    (f"""queue=dev; grep -a "Found.*unassigned tasks in queue '$queue'" {LOG} | tail -10 | awk '{{print $4}}' | """
     """awk '{sum+=$1; count++} END {if(count>0) print sum/count; else print 0}'""", "4"),
    (f'queue=dev; grep -ac "Assigning task.*to.*$queue" {LOG} || echo 0', "8"),
    (f"""QUEUE=dev; grep "Found.*unassigned tasks in queue '$QUEUE'" {LOG} | tail -1 | awk '{{print $4}}'""", "5"),
    (f"""grep "Assigning task" {LOG} | awk '{{print $NF}}' | sort | uniq -c | awk '{{print $1, $2}}'""",
     "3 damien\n2 oscar\n5 vaela"),
    ("""grep "Assigning task" state/logs/scheduler_*.log | tail -50 | awk '{print $(NF-1), $NF}' | sort | """
     """uniq -c | awk '{print $1, $2, $3}'""", "3 agent damien\n2 agent oscar\n5 agent vaela"),
    (f'grep ERROR {LOG} | grep -i queue | wc -l', "2"),
    (f'grep -A 30 "Starting reconciliation" {LOG} | grep "Reconciliation completed" | wc -l', "2"),
    (f"""grep ERROR {LOG} | awk '{{print $1}}' | cut -d: -f1 | sort | uniq -c | wc -l""", "1"),
    (f"""grep ERROR {LOG} | awk -F'ERROR - ' '{{print $2}}' | sort | uniq -c | sort -rn | sed 's/^ *//'""",
     "2 task server: connection refused (queue dev)"),
    (f'grep "Prioritizing.*blocker task" {LOG} | wc -l', "2"),
    (f'grep "blocks.*task(s)" {LOG} | wc -l', "2"),
    (f'grep "Task.*blocks.*task(s)" {LOG} | wc -l', "2"),
    (f'grep "available slots" {LOG} | wc -l', "4"),
    (f'grep "Blocked tasks skipped" {LOG} | wc -l', "2"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "answer"), GUIDE)
def test_the_guides_own_commands_give_the_right_answer(station: Path, command: str, answer: str) -> None:
    ran = subprocess.run(["bash", "-c", command], cwd=station, capture_output=True, text=True, check=False)
    assert ran.stdout.rstrip("\n") == answer
    assert ran.stderr == ""


def test_the_hour_that_the_guide_cuts_out(station: Path) -> None:
    command = f"grep ERROR {LOG} | awk '{{print $1}}' | cut -d: -f1 | sort -u"
    ran = subprocess.run(["bash", "-c", command], cwd=station, capture_output=True, text=True, check=True)
    datetime.strptime(ran.stdout.strip(), "%Y-%m-%dT%H").replace(tzinfo=UTC)


def test_json_goes_to_the_echo_alone_and_says_which_pass_it_belongs_to(tmp_path: Path) -> None:
    echo = io.StringIO()
    log = OperatorLog(tmp_path, echo=echo, as_json=True, clock=Clock())
    log.info('says "hi"\nand more')
    with log.reconciliation_pass() as current:
        current.count(tasks_spawned=2)
        current.error("it broke")
    lines = [json.loads(line) for line in echo.getvalue().splitlines()]
    stamp = "2026-01-20T12:00:00.123Z"
    assert lines[0] == {"time": stamp, "level": "INFO", "message": 'says "hi"\nand more'}
    assert lines[2] == {"time": stamp, "level": "ERROR", "message": "it broke", "pass": stamp}
    assert lines[-1]["counters"]["tasks_spawned"] == 2
    assert lines[-1]["counters"]["errors"] == 1
    assert said(today(tmp_path))[2] == "it broke"
    assert all("|" in line for line in today(tmp_path))


def test_very_many_lines_that_are_written_again_have_the_new_time_and_nothing_else(tmp_path: Path) -> None:
    clock = Clock()
    log = OperatorLog(tmp_path, clock=clock)
    first = [f"line {number}" for number in range(1700)]
    for lines in (first, first, ["other", *first[:900]], first[:600], first):
        clock.now += 60
        before = len(today(tmp_path)) if any(tmp_path.iterdir()) else 0
        with log.reconciliation_pass() as current:
            current.routine(lines)
        new = today(tmp_path)[before:]
        assert [one for one in said(new) if one[:14] not in ("Starting recon", "Reconciliation")] == lines
        assert len({line.partition(" - ")[0] for line in new}) == 1, "all of the one moment"
