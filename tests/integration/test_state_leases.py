"""The leases' folder under hard use: damaged files, strange things in it, many of them, a full disk."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from tests.integration.test_state import lease
from tsched.model.errors import ConfigurationError
from tsched.model.run import LeaseState
from tsched.state.leases import Leases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "running").mkdir()
    return tmp_path / "running"


@pytest.fixture
def leases(folder: Path) -> Leases:
    return Leases(folder)


def test_a_flipped_bit_stops_nobody(leases: Leases, folder: Path) -> None:
    chance = random.Random(7)
    leases.write(lease("8"))
    leases.write(lease("7"))
    path = folder / "task_7.json"
    good = path.read_bytes()
    outside = sorted(folder.parent.iterdir())
    seen = {"read": 0, "unreadable": 0}
    for _ in range(600):
        body = bytearray(good)
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        path.write_bytes(body)
        scan = leases.read_all()
        assert "8" in scan.leases
        assert ("7" in scan.leases) is ("task_7.json" not in scan.unreadable)
        seen["read" if "7" in scan.leases else "unreadable"] += 1
        leases.mend_links(scan.leases)
        assert sum("task_7" in path.name for path in folder.iterdir()) == 1 + ("7" in scan.leases)
    assert min(seen.values()) > 50
    assert sorted(folder.parent.iterdir()) == outside


@pytest.mark.parametrize("agent", ["../../x", "a/b", "", ".", "a\0b", "x" * 65])
def test_an_agent_that_is_no_file_name_makes_no_link(leases: Leases, folder: Path, agent: str) -> None:
    with pytest.raises(ConfigurationError, match="can't be used"):
        leases.write(replace(lease(), agent=agent))
    (folder / "task_7.json").write_bytes(msgspec.json.encode(replace(lease(), agent=agent)))
    assert leases.read_all().unreadable == ("task_7.json",)
    assert leases.read("7") is None


def test_what_is_no_file_is_named_and_stops_nobody(leases: Leases, folder: Path) -> None:
    leases.write(lease("8"))
    os.mkfifo(folder / "task_1.json")
    (folder / "task_2.json").mkdir()
    (folder / "task_3.json").symlink_to("nowhere")
    (folder / "task_4.json").mkdir()
    (folder / "task_4.json/kept").write_text("")
    with (folder / "task_5.json").open("wb") as file:
        file.truncate(1 << 32)
    scan = leases.read_all()
    assert list(scan.leases) == ["8"]
    assert scan.unreadable == tuple(f"task_{number}.json" for number in range(1, 6))
    for number in range(1, 6):
        leases.remove(str(number), None)
    assert sorted(path.name for path in folder.iterdir()) == ["task_4.json", "task_8.json"]


def test_a_link_to_a_sound_lease_elsewhere_is_not_followed(leases: Leases, folder: Path) -> None:
    leases.write(lease())
    (folder / "task_7.json").rename(folder.parent / "elsewhere.json")
    (folder / "task_7.json").symlink_to("../elsewhere.json")
    assert leases.read("7") is None
    assert leases.read_all().unreadable == ("task_7.json",)


def test_a_lease_under_anothers_name_is_unreadable(leases: Leases, folder: Path) -> None:
    leases.write(lease("8"))
    (folder / "task_8.json").rename(folder / "task_7.json")
    assert leases.read("7") is None
    assert leases.read_all().unreadable == ("task_7.json",)


def test_tinyschedulers_own_lease_is_read(leases: Leases, folder: Path) -> None:
    (folder / "task_12.json").write_text(
        '{"task_id": "12", "agent": "vaela", "pid": 41, "recipe": "vaela.yaml", "started_at": "2026-01-20T10:15:00Z",'
        ' "heartbeat": "2026-01-20T10:15:00Z", "host": "h", "metadata": {}}'
    )
    found = leases.read("12")
    assert found is not None
    assert (found.agent, found.pid, found.state, found.run_id) == ("vaela", 41, LeaseState.RUNNING, "")


def test_a_file_time_that_no_calendar_has_is_left_out() -> None:
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("needs a file system in memory: others have no such times")
    with TemporaryDirectory(dir="/dev/shm", prefix="tsched-test-") as folder:
        leases = Leases(Path(folder))
        leases.write(lease())
        os.utime(Path(folder) / "task_7.json", (0, 300_000_000_000))  # the year 11476
        assert leases.read_all().leases["7"] == lease()


def test_a_thousand_leases_are_read_linked_and_counted(leases: Leases, folder: Path) -> None:
    body = msgspec.to_builtins(lease())
    for number in range(1000):
        agent = "vaela" if number % 4 == 0 else "ada"
        text = msgspec.json.encode({**body, "task_id": str(number), "agent": agent})
        (folder / f"task_{number}.json").write_bytes(text)
    scan = leases.read_all()
    assert (len(scan.leases), scan.unreadable) == (1000, ())
    leases.mend_links(scan.leases)
    assert sum("vaela" in name for name in os.listdir(folder)) == 250
    before = {path.name: path.lstat().st_ino for path in folder.iterdir()}
    leases.mend_links(scan.leases)
    assert {path.name: path.lstat().st_ino for path in folder.iterdir()} == before, "links that are right stay"
    fewer = {task: one for task, one in scan.leases.items() if one.agent != "vaela"}
    leases.mend_links(fewer)
    assert sum("vaela" in name for name in os.listdir(folder)) == 0


def test_half_written_files_of_the_dead_are_cleared_and_no_others(leases: Leases, folder: Path) -> None:
    leases.write(lease("7"))
    for name in (".task_7.json.tmp", ".task_9.json.tmp", ".task_9.shim.tmp"):
        (folder / name).write_text("{")
    for name in (".task_7.shim.tmp", "notes.txt", ".tmp"):  # a live run's shim may be writing; people's own files
        (folder / name).write_text("{")
    leases.mend_links(leases.read_all().leases)
    left = sorted(path.name for path in folder.iterdir())
    assert left == [".task_7.shim.tmp", ".tmp", "agent_ada.task_7", "notes.txt", "task_7.json"]


FULL_DISK = """
import resource, sys
from pathlib import Path
import msgspec
from tsched.model.run import Lease
from tsched.state.leases import Leases
resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
try:
    Leases(Path(sys.argv[1])).write(msgspec.json.decode(sys.argv[2], type=Lease))
except OSError:
    print("refused")
"""


def test_a_full_disk_leaves_the_old_lease_and_nothing_half_written(leases: Leases, folder: Path) -> None:
    leases.write(lease(run="old"))
    new = msgspec.json.encode(lease(run="new")).decode()
    said = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder), new], capture_output=True, text=True, check=True
    )
    assert said.stdout == "refused\n"
    assert [path.name for path in folder.iterdir()] == ["task_7.json"]
    found = leases.read("7")
    assert found is not None
    assert found.run_id == "old"
