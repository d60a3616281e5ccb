"""The machine in bad weather: a disk that is full or read-only, leases edited by hand, a clock that jumps."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.world import LIMITS, alive
from tests.integration.passes import Runner, World, faults, pool, runner, until
from tsched.executors import forkserver, shims
from tsched.executors.forkserver import ForkServer
from tsched.model.errors import FatalError, TransientError
from tsched.model.task import Task
from tsched.runner import orders
from tsched.runner.patience import Patience
from tsched.schedule.outage import REMIND
from tsched.state import events, history, passes
from tsched.state.leases import Leases
from tsched.tasks.embedded_operations import OperatedTasks

MIB = 1 << 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("world"))
    limits = f"{LIMITS}  lost: {{argv: [no-such-program], evidence: exit}}\n"
    world.fleet(dev=pool("dev", "ada", limit=20), odd=pool("odd", "ben, runtime: lost"), limits=limits)
    return world


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """That fleet, and a state folder of its own."""
    one = World.__new__(World)
    one.__dict__ |= made.__dict__ | {"root": tmp_path, "state": tmp_path / "state", "gates": tmp_path / "gates"}
    one.gates.mkdir()
    one.environ = {**made.environ, "TSCHED_STATE": str(one.state), "GATE": str(one.gates), "HOME": str(tmp_path)}
    return one


def add(one: Runner, title: str, queue: str = "dev") -> str:
    with closing(OperatedTasks(one.host.folder.tasks_db)) as tasks:
        return tasks.add(title, queue=queue, created_by="op").id


def status(one: Runner, task_id: str) -> str:
    return str(one.host.tasks.get([task_id])[task_id].status)


def started(one: Runner, task_id: str) -> int:
    """How often its agent was started."""
    folder = one.host.folder.run_logs
    return sum(path.read_text().count("holding") for path in folder.glob(f"{task_id}-*.log"))


# -- a machine without room for one more process -----------------------------------------------------------------


@pytest.fixture
def asked(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    """Shims are asked of a server that can fork none, and the runner can't start one either."""

    def full(*_: object) -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    words = "import os\nwhile data := os.read(0, 9999):\n    os.write(1, b'0 0\\n' * data.count(b'\\0'))"
    refusing = [sys.executable, "-I", "-S", "-c", f"import os; os.write(1, b'0 0\\n')\n{words}"]
    with runner(world) as one:
        one.once()
        monkeypatch.setattr(
            forkserver, "spawn",
            lambda _, environ, *actions: os.posix_spawn(refusing[0], refusing, environ, file_actions=actions),
        )  # fmt: skip
        server = ForkServer("", {})
        until(lambda: server.ready or server.hear(0) or server.ready, "it is ready")
        shims_ = one.host.executor._shims  # type: ignore[attr-defined]
        shims_._server, shims_._serve_from = server, 0.0
        monkeypatch.setattr(shims, "spawn", full)
        yield one


def history_of(one: Runner) -> list[str]:
    return [event.kind for _, event in events.read(one.host.db) if event.kind.startswith("run.")]


def test_a_start_that_the_machine_refused_is_told_as_none(asked: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [add(asked, "quick") for _ in range(2)]
    said = asked.once()
    (line,) = faults(said)
    assert line.startswith("ERROR - 2 runs could not be started: run 1-1-")
    assert ": tasks_spawned=0 " in said
    assert not history_of(asked)
    monkeypatch.undo()
    asked.until(lambda: {status(asked, one) for one in tasks} == {"complete"}, "once there is room, all is done")


def test_no_event_tells_of_a_start_that_a_kill_came_before(asked: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another task's end is put down between the question to the server and its answer."""
    add(asked, "quick")
    add(asked, "quick", "odd")

    def killed() -> None:
        raise SystemExit

    monkeypatch.setattr(asked.host.executor, "confirm", killed)
    with pytest.raises(SystemExit):
        asked.once()
    assert history_of(asked) == ["run.failed"], "the odd one's alone"


def test_what_was_started_is_told_though_the_launch_was_broken_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runner(world) as one:
        one.once()
        first, _ = add(one, "quick"), add(one, "quick")
        claim = one.host.tasks.claim

        def damaged(task: Task, **who: str) -> Task | None:
            if task.id != first:
                raise FatalError("its database is damaged")
            return claim(task, **who)

        monkeypatch.setattr(one.host.tasks, "claim", damaged)
        with pytest.raises(FatalError):
            one.once()
        monkeypatch.undo()
        counted = [total.value for total in passes.totals(one.host.history) if total.name == "runs_started_total"]
        assert counted == [1.0]
        one.until(lambda: status(one, first) == "complete", "it was not started twice")


def test_what_was_started_is_told_though_nobody_could_ask_whether_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks() -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with runner(world) as one:
        one.once()
        task = add(one, "quick")
        monkeypatch.setattr(one.host.executor, "confirm", no_locks)
        said = one.once()
        assert [line.partition(":")[0] for line in faults(said)] == ["ERROR - what was started"]
        assert ": tasks_spawned=1 " in said
        assert history_of(one) == ["run.started"]
        monkeypatch.undo()
        one.until(lambda: status(one, task) == "complete", "it was started")


# -- a disk without room -----------------------------------------------------------------------------------------


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A file system of a few MiB, mounted there."""
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path, *, but: int = 0) -> Path:
    """Leave no room, but so many bytes."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for block in (MIB, 4096):
            with suppress(OSError):
                while os.write(file.fileno(), b"x" * block) == block:
                    pass
    if but:
        os.truncate(ballast, ballast.stat().st_size - but)
    return ballast


def broken(one: Runner) -> str:
    """What a pass says, also one that is broken off as the daemon has it."""
    try:
        return one.once()
    except TransientError as error:
        return f"ERROR - {error}"


def test_a_full_disk_stops_nothing_and_all_settles_once_there_is_room(world: World) -> None:
    with small_disk(world.state), runner(world) as one:
        held, waits = add(one, "hold"), ""
        until(lambda: bool(one.once()) and one.world.running(held), "it runs")
        waits = add(one, "quick")
        for but in (
            0,
            8192,
            32768,
            65536,
        ):  # less and less is refused: the database, a run's folder, its lease, the log
            ballast = fill(world.state, but=but)
            said = [broken(one) for _ in range(2)]
            lines = [line for text in said for line in faults(text)]
            if but == 0:
                assert lines, "it is said"
                assert all("make room there" in line or "has room" in line for line in lines if "ERROR" in line), (
                    lines
                )
                assert len([line for line in faults(said[0]) if line.startswith("ERROR")]) == 1, said[0]
            assert one.world.running(held), "what runs goes on"
            ballast.unlink()
        world.open(held)
        one.until(lambda: {status(one, held), status(one, waits)} == {"complete"}, "all settles by itself")
        assert started(one, held) == 1
        one.until(lambda: not one.world.leases() and not one.runs(), "nothing is left over")
        log = "".join(path.read_text() for path in one.host.folder.logs.glob("*.log"))
        assert "Reconciliation completed" in log


def test_a_daemons_passes_on_a_full_disk_come_ever_less_and_are_told_once(world: World) -> None:
    now = 0.0
    with small_disk(world.state), runner(world, TSCHED_LOOP_INTERVAL="50ms") as one:
        one.once()
        ballast, broken, waits = fill(world.state), Patience(lambda: now), []
        before = len(one.said())
        for _ in range(9):
            waits.append(one.daemons(broken))
            now += waits[-1]
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        assert one.said()[before:].count("ERROR - The pass was broken off and is tried again: ") == 1
        now += REMIND
        one.daemons(broken)
        assert one.said()[before:].count("ERROR - The pass was broken off") == 2, "and once more after an hour"
        ballast.unlink()
        assert one.daemons(broken) == 0.05
        assert "INFO - Passes are whole again, after 1.1h" in one.said()


def _write(file: Path) -> None:
    file.write_text("test")


@contextmanager
def failing_disk(place: Path, image: Path) -> Iterator[Callable[[], None]]:
    """An ext4 file system there, and what has its kernel lose faith in it: read-only from then on, open files too."""
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(24 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", image], check=False)
    done = subprocess.run(
        ["mount", "-o", "loop,errors=remount-ro", image, place], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no ext4 may be mounted here: {done.stderr.strip()}")
    place.chmod(0o700)
    try:
        show = ["losetup", "-n", "-O", "NAME", "-j", str(image)]
        named = subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()
        yield partial(_write, Path("/sys/fs/ext4", Path(named).name, "trigger_fs_error"))
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_running_daemon_whose_disk_turns_read_only_says_so_once_and_its_runs_go_on(
    world: World, tmp_path: Path
) -> None:
    now = 0.0
    with failing_disk(world.state, tmp_path / "image") as fail, runner(world) as one:
        held = add(one, "hold")
        one.until(lambda: one.world.running(held), "it runs")
        lease = one.host.leases.read(held)
        fail()
        broken, before, after = Patience(lambda: now), len(one.said()), 0.0
        for _ in range(4):
            after += one.daemons(broken)
            now = after
        assert alive(lease.pid if lease is not None else 0), "its shim"
        lines = faults(one.said()[before:])
        assert [line for line in lines if line.startswith("ERROR")], "it is said"
        told = [line for line in lines if "Reconciliation broken off" not in line]  # each pass says how it ended
        assert len(told) == 2, told
        assert all("may be written" in line or "read-only" in line.lower() for line in lines), lines
        world.open(held)


def test_a_history_that_cannot_be_written_is_told_once(world: World) -> None:
    with runner(world) as one:
        one.once()
        file = one.host.folder.history_db
        for path in file.parent.glob(f"{file.name}*"):
            path.unlink()
        file.mkdir()  # whatever the reason, no file can be made there
        said = "\n".join(one.once() for _ in range(4))
        assert [line.partition(":")[0] for line in faults(said)] == [
            "WARNING - Passes are kept in memory alone, for now"
        ]
        file.rmdir()
        assert "INFO - Passes are kept in the history again, after " in one.once()
        assert "kept in the history" not in one.once()


def test_a_read_only_state_folder_is_one_clear_line(world: World) -> None:
    with small_disk(world.state):
        with runner(world) as one:
            one.once()
        subprocess.run(["mount", "-o", "remount,ro", world.state], check=True)
        done = world.run("run", "--once", check=2)
        assert done.stderr == (
            f"tsched: the state folder {world.state} may not be written: mend that, or set TSCHED_STATE\n"
        )
        subprocess.run(["mount", "-o", "remount,rw", world.state], check=True)


# -- leases that were edited -------------------------------------------------------------------------------------

EDITS: dict[str, dict[str, object]] = {
    "another agent": {"agent": "ben"},
    "another task": {"task_id": "999"},
    "another run": {"run_id": "1-1-0123456789"},
    "a run elsewhere": {"run_id": "../../../outside"},
    "an agent elsewhere": {"agent": "../outside"},
    "wrong types": {"pid": "many", "attempt": []},
    "huge": {"reason": "x" * 2 * MIB},
}


def test_an_edited_lease_is_noticed_and_nothing_is_started_twice(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("as it was")
    with runner(world) as one:
        tasks = {name: add(one, "hold") for name in (*EDITS, "torn")}
        one.until(lambda: all(one.world.running(task_id) for task_id in tasks.values()), "they run")
        for name, task_id in tasks.items():
            lease = one.host.leases.path(task_id)
            text = lease.read_text()
            edited = text[: len(text) // 2] if name == "torn" else json.dumps(json.loads(text) | EDITS[name])
            lease.write_text(edited)
        said = one.once()
        for name, task_id in tasks.items():
            mended = one.host.leases.read(task_id)  # by its shim, before the pass came to it
            whole = mended is not None and (mended.task_id, mended.run_id[:2]) == (task_id, f"{task_id}-")
            assert whole or f"task_{task_id}.json" in said or f"lease of task {task_id}:" in said, name
        assert all(started(one, task_id) == 1 for task_id in tasks.values())
        assert all(run.agent == "ada" for run in one.runs())
        gone = tasks["another run"]  # as if it had been removed: its run is stopped, its task goes back, uncharged
        one.until(lambda: started(one, gone) == 2, "its task runs again")
        assert [result.attempts for result in one.host.tasks.get([gone]).values()] == [0]
        world.open(*tasks.values())
        one.until(lambda: {status(one, task_id) for task_id in tasks.values()} == {"complete"}, "all are done")
        again = {name for name, task_id in tasks.items() if started(one, task_id) > 1}
        assert again <= {"another run", "a run elsewhere"}, "only where the shim found another's lease in its place"
        one.until(lambda: not one.world.leases() and not one.runs(), "nothing is left over")
    assert (outside / "kept").read_text() == "as it was"
    assert os.listdir(outside) == ["kept"]


# -- a clock that jumps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_stops_nothing_and_holds_nothing_for_ever(world: World, jump: float) -> None:
    with runner(world) as one:
        held = add(one, "hold")
        one.until(lambda: one.world.running(held), "it runs")
        one.shift = jump
        task = add(one, "fail")
        one.until(lambda: one.host.tasks.get([task])[task].attempts == 1, "its first attempt failed")
        one.shift = 0.0
        one.until(lambda: status(one, task) == "parked", "it is tried again, then parked")
        assert one.host.tasks.get([task])[task].attempts == 2
        assert one.world.running(held)
        one.shift = jump
        assert faults(one.once()) == []
        assert one.world.running(held), "and goes on"
        world.open(held)
        one.until(lambda: status(one, held) == "complete", "and is done")
        assert started(one, held) == 1


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_an_operators_stop_holds_whatever_the_clock_says(world: World, jump: float) -> None:
    with runner(world) as one:
        one.once()
        orders.stop(one.host.settings, pool=None, now=False, by="op", reason="")
        task = add(one, "quick")
        for shift in (0.0, jump, 0.0):
            one.shift = shift
            one.once()
            assert status(one, task) == "idle"
        one.shift = jump
        orders.resume(one.host.settings, pool=None, by="op")
        one.until(lambda: status(one, task) == "complete", "it is done")


def test_the_newest_run_of_a_task_is_the_one_decided_last_whatever_the_clock_said(world: World) -> None:
    """What a conversation goes on with, and what `tsched why` tells."""
    with runner(world) as one:
        task = add(one, "fail")
        one.shift = 3600.0
        one.until(lambda: one.host.tasks.get([task])[task].attempts == 1, "its first attempt failed")
        one.shift = 0.0
        one.until(lambda: status(one, task) == "parked", "so did its second, an hour earlier by the clock")
        first, second = history.of_task(one.host.db, task)
        assert (first.run.attempt, second.run.attempt) == (1, 2)
        assert second.run.created_at < first.run.created_at


@pytest.mark.parametrize("run_id", ["../outside", "a/b", ".", "x" * 65, "a\n"])
def test_a_run_id_that_is_no_file_name_makes_a_lease_unreadable(tmp_path: Path, run_id: str) -> None:
    lease = {"task_id": "7", "agent": "ada", "pid": 1, "recipe": "r", "started_at": "", "heartbeat": "", "host": "h"}
    (tmp_path / "task_7.json").write_text(json.dumps({**lease, "run_id": run_id}))
    assert Leases(tmp_path).read_all().unreadable == ("task_7.json",)
    (tmp_path / "task_7.json").write_text(json.dumps({**lease, "run_id": "7-1-0a"}))
    assert Leases(tmp_path).read("7") is not None
