"""A runner's identity: given once, and noticed when its folder was copied or came to another machine."""

import shutil
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tsched.executors.executor import Liveness
from tsched.model.errors import ConfigurationError, FatalError
from tsched.model.finding import Standing
from tsched.runner import runners
from tsched.runner.doctor import doctor
from tsched.runner.execution import executor_of
from tsched.settings import Settings, load
from tsched.state import history
from tsched.state.database import Database
from tsched.state.folder import StateFolder
from tsched.state.identity import adopt, known_id, renew, runner_id


def test_a_spoiled_id_is_not_replaced(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    first = runner_id(folder, host="h")
    assert (tmp_path / "runner_id").stat().st_mode & 0o777 == 0o600
    for spoiled in (b"", b"x\n", b"\xff\xfe", first.upper().encode() + b"g"):
        (tmp_path / "runner_id").write_bytes(spoiled)
        with pytest.raises(FatalError, match="holds no runner id"):
            runner_id(folder, host="h")
        assert (tmp_path / "runner_id").read_bytes() == spoiled


def test_runners_that_start_at_once_agree_on_one(tmp_path: Path) -> None:
    gate = threading.Barrier(8)
    given: list[str] = []

    def start() -> None:
        gate.wait()
        given.append(runner_id(StateFolder(tmp_path), host="h"))

    several = [threading.Thread(target=start) for _ in range(8)]
    for one in several:
        one.start()
    for one in several:
        one.join()
    assert len(given) == 8
    assert set(given) == {known_id(StateFolder(tmp_path))}


def machine(root: Path, name: str) -> Path:
    path = root / f"{name}.machine-id"
    path.write_text(f"{name * 32}\n" if name else "uninitialized\n")
    return path


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("a", "a", None),
        ("a", "b", r"another machine \(old\)"),
        ("", "b", None),  # nothing was known: a container, say
        ("a", "", None),
    ],
)
def test_another_machine_is_noticed_where_machines_have_ids(
    tmp_path: Path, before: str, after: str, said: str | None
) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    first = runner_id(folder, host="old", machine=machine(tmp_path, before))
    there = machine(tmp_path, after)
    if said is None:
        assert runner_id(folder, host="new", machine=there) == first
        return
    with pytest.raises(FatalError, match=said) as caught:
        runner_id(folder, host="new", machine=there)
    assert "tsched runner adopt" in str(caught.value)
    assert adopt(folder, host="new", machine=there) == first
    assert runner_id(folder, host="new", machine=there) == first


def test_a_copy_is_noticed_and_a_move_is_not(tmp_path: Path) -> None:
    folder, copy, moved = (StateFolder(tmp_path / name) for name in ("state", "copy", "moved"))
    folder.create()
    first = runner_id(folder, host="h")
    shutil.copytree(folder.root, copy.root)
    with pytest.raises(FatalError, match="it is a copy of one on h"):
        runner_id(copy, host="h")
    assert runner_id(folder, host="h") == first, "the original goes on"
    assert [one.standing for one in doctor(settings_at(copy.root), now=0.0) if one.check == "identity"] == [
        Standing.FAIL
    ]
    assert [one.standing for one in doctor(settings_at(folder.root), now=0.0) if one.check == "identity"] == [
        Standing.OK
    ]
    folder.root.rename(moved.root)
    assert runner_id(moved, host="h") == first
    second = renew(copy, host="h")
    assert second != first
    assert runner_id(copy, host="h") == second


def settings_at(state: Path) -> Settings:
    return load(environ={"TSCHED_STATE": str(state)}, cwd=state.parent)


def test_a_renewed_copy_has_nothing_of_the_others_runs(tmp_path: Path) -> None:
    from tests.integration.test_web import fill

    folder = fill(tmp_path / "state")
    (folder.runs / "7-1-abc").mkdir()
    (folder.running / "task_7.json").write_text("{}")
    folder.ledger.write_text("")
    first = runner_id(folder, host="h")
    copy = StateFolder(tmp_path / "copy")
    shutil.copytree(folder.root, copy.root)
    done = runners.renew(settings_at(copy.root), by="op")
    assert (done.before, done.id) == (first, known_id(copy))
    assert done.id != first
    assert done.aside is not None
    assert (done.aside / "runs/7-1-abc").is_dir()
    assert (done.aside / "running/task_7.json").exists()
    assert not list(copy.runs.iterdir())
    assert not list(copy.running.iterdir())
    assert not copy.ledger.exists()
    with closing(Database.open(copy.db)) as db:
        assert history.unacknowledged(db) == ()
    assert (folder.runs / "7-1-abc").is_dir(), "the original is left alone"


def test_a_folder_whose_runs_live_here_is_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    folder = StateFolder(tmp_path / "state")
    folder.create()
    first = runner_id(folder, host="h")
    run = folder.runs / "7-1-abc"
    run.mkdir()
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (run / "started").touch()
        settings = settings_at(folder.root)
        assert set(executor_of(settings, folder).poll().values()) == {Liveness.ALIVE}
        with pytest.raises(ConfigurationError, match="7-1-abc"):
            runners.renew(settings, by="op")
    assert known_id(folder) == first
    assert run.is_dir()
