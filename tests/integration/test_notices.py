"""What happened in a folder is told once; leases that nobody wrote to are not looked at, all others are."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.test_state import lease
from tsched.notices import Notices
from tsched.state.leases import Leases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "running").mkdir()
    return tmp_path / "running"


def scanned(folder: Path, *tasks: str) -> Leases:
    """Leases that are watched by now."""
    leases = Leases(folder)
    for task in tasks:
        leases.write(lease(task))
    assert [len(leases.scan().leases) for _ in range(3)] == [len(tasks)] * 3
    return leases


def test_names_are_told_once_whatever_happened_to_them(folder: Path) -> None:
    (folder / "old").write_text("")
    notices = Notices(folder)
    assert notices.taken() == frozenset()
    (folder / "old").write_text("more")
    (folder / "new").symlink_to("old")
    (folder / "made").mkdir()
    (folder / "made").rename(folder / "moved")
    assert notices.taken() == frozenset({"old", "new", "made", "moved"})
    os.utime(folder / "old", (1.0, 1.0))
    assert notices.taken() == frozenset(), "a heartbeat is no writing"
    (folder / "old").unlink()
    assert notices.taken() == frozenset({"old"})


def test_another_folder_in_its_place_is_not_taken_for_it(folder: Path) -> None:
    notices = Notices(folder)
    folder.rename(folder.with_name("away"))
    folder.mkdir()
    assert notices.taken() is None


def test_no_more_is_told_than_the_kernel_keeps_and_that_is_noticed(folder: Path) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    notices = Notices(folder)
    one, other = folder / "one", folder / "other"
    one.touch()
    for number in range(most // 2 + 2):
        (one if number % 2 == 0 else other).rename(other if number % 2 == 0 else one)
    assert notices.taken() is None


def test_its_descriptor_is_given_back(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    notices = Notices(folder)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del notices
    assert len(os.listdir("/proc/self/fd")) == before


def test_leases_as_they_were_are_the_same_answer(folder: Path) -> None:
    leases = scanned(folder, "7", "8")
    before = leases.scan()
    os.utime(folder / "task_7.json")
    assert leases.scan() is before


def test_a_lease_that_is_edited_in_place_is_read_by_the_next_scan(folder: Path) -> None:
    leases = scanned(folder, "7", "8")
    before = leases.scan()
    path = folder / "task_7.json"
    text = path.read_text()
    path.write_text(text.replace(lease("7").run_id, "another"))
    found = leases.scan()
    assert (found.leases["7"].run_id, found.leases["8"]) == ("another", before.leases["8"])
    path.write_text("{")
    assert (list(leases.scan().leases), leases.scan().unreadable) == (["8"], ("task_7.json",))
    path.write_text(text)
    assert leases.scan().leases["7"].run_id == lease("7").run_id
    path.unlink()
    assert list(leases.scan().leases) == ["8"]


def test_a_lease_by_the_runner_a_shim_or_a_person_is_seen_at_once(folder: Path) -> None:
    leases = scanned(folder, "7")
    leases.write(lease("8"))
    assert sorted(leases.scan().leases) == ["7", "8"]
    leases.remove("7", None)
    assert sorted(leases.scan().leases) == ["8"]
    Leases(folder).write(replace(lease("9"), agent="ben"))
    assert leases.scan().leases["9"].agent == "ben"
    leases.mend_links(leases.scan().leases)
    assert (folder / "agent_ben.task_9").is_symlink()


def test_a_folder_that_is_replaced_is_looked_at_anew(folder: Path) -> None:
    leases = scanned(folder, "7")
    shutil.rmtree(folder)
    assert not leases.scan().leases
    folder.mkdir()
    Leases(folder).write(lease("8"))
    assert list(leases.scan().leases) == ["8"]
    Leases(folder).write(lease("9"))
    assert sorted(leases.scan().leases) == ["8", "9"]


def test_where_the_kernel_does_not_tell_each_lease_is_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tsched.notices.OWN", frozenset())
    with pytest.raises(OSError, match="not watched"):
        Notices(folder)
    leases = scanned(folder, "7")
    path = folder / "task_7.json"
    path.write_text(path.read_text().replace(lease("7").run_id, "another"))
    assert leases.scan().leases["7"].run_id == "another"
