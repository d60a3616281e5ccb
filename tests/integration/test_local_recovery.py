"""Recovery: the fence against late shims, and everything that a dead shim leaves behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.local_runs import R1, Place, launch_of, shell, wait_for
from tsched.executors import processes, recovery
from tsched.executors.executor import Liveness
from tsched.executors.jobs import SHIM
from tsched.model.run import ExitReason, RunExit
from tsched.model.task import Task


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def kill_shim(place: Place, task_id: str = "7") -> None:
    """kill -9, seen through: its lock is free."""
    pid = place.until_running(task_id)["pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: processes.look(pid) is None)


def recovered(place: Place, run_id: str = R1) -> RunExit:
    place.until(run_id, Liveness.LOST)
    return wait_for(lambda: place.executor.recover(run_id))


def noted(path: Path) -> int:
    """A pid that a process of the run wrote into a file."""
    return wait_for(lambda: int(text) if path.exists() and (text := path.read_text().strip()) else None)


def late_shim(place: Place, run_id: str) -> "subprocess.Popen[bytes]":
    """A shim that the executor knows nothing of."""
    command = [sys.executable, "-I", "-S", str(SHIM), str(place.runs / run_id)]
    return subprocess.Popen(command, start_new_session=True)


# -- the fence -------------------------------------------------------------------------------------------------------


def test_a_run_that_never_started_is_fenced_and_a_late_shim_goes_home(place: Place) -> None:
    place.prepare(launch_of(shell("echo started")))
    place.executor = place.another()
    end = recovered(place)
    assert (end.reason, end.started) == (ExitReason.NOT_STARTED, False)
    late = late_shim(place, R1)
    assert late.wait(30) == 3
    assert not (place.logs / f"{R1}.log").exists()
    assert place.executor.poll() == {R1: Liveness.ENDED}
    assert place.executor.exit(R1) == end


def test_however_a_late_shim_and_recovery_meet_one_of_them_wins(place: Place) -> None:
    """Either it never started, or it ran to its end. Never both."""
    for number in range(12):
        run_id, task = f"{R1}-{number}", Task(id=str(number), title="t", queue="dev")
        place.prepare(launch_of(shell("echo started"), run_id=run_id, task=task))
        late = late_shim(place, run_id)
        if number % 3:
            wait_for((place.runs / run_id / "started").exists)
        end = place.executor.recover(run_id)
        late.wait(30)
        log = place.logs / f"{run_id}.log"
        if end is not None and end.reason is ExitReason.NOT_STARTED:
            assert not log.exists()
        else:
            assert place.ended(run_id).reason is ExitReason.EXITED
            assert log.read_text() == "started\n"


def test_a_fence_that_a_killed_recovery_left_still_means_never_started(place: Place) -> None:
    place.prepare(launch_of(shell("true")))
    (place.runs / R1 / "started").write_text('{"by": "recovery"}')
    assert recovered(place).reason is ExitReason.NOT_STARTED


def test_a_shim_killed_between_fence_and_start_never_started(place: Place) -> None:
    place.prepare(launch_of(shell("true")))
    (place.runs / R1 / "started").touch()
    end = recovered(place)
    assert (end.reason, end.started) == (ExitReason.SHIM_DIED, False)


def test_a_living_run_is_not_recovered(place: Place) -> None:
    run_id = place.launch(launch_of(shell("exec sleep 300")))
    place.until_running()
    assert place.another().recover(run_id) is None
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    assert place.finish(run_id).reason is ExitReason.STOPPED


# -- what is left ----------------------------------------------------------------------------------------------------


def test_a_killed_shim_takes_its_agent_along_and_recovery_the_rest(place: Place, tmp_path: Path) -> None:
    """A child, a daemon in a session of its own, a child of the session without its environment. All deaf."""
    script = (
        "trap '' TERM;"
        f"sleep 300 & echo $! > {tmp_path}/child;"
        f"(setsid sh -c 'echo $$ > {tmp_path}/daemon; cd /; exec sleep 300' </dev/null >/dev/null 2>&1 &);"
        f"env -i sh -c 'echo $$ > {tmp_path}/stripped; exec sleep 300' & wait; sleep 300"
    )
    run_id = place.launch(launch_of(shell(script)))
    place.until_running()
    pids = [noted(tmp_path / name) for name in ("child", "daemon", "stripped")]
    kill_shim(place)
    assert any(processes.look(pid) for pid in pids)
    place.executor = place.another()
    end = recovered(place)
    assert (end.reason, end.started, end.exit_code) == (ExitReason.SHIM_DIED, True, None)
    assert not [pid for pid in pids if processes.look(pid)]
    assert end.started_at > 0
    assert place.lease()["run_id"] == run_id  # it is the runner that removes it, after the result is settled
    assert recovered_again(place) == end


def test_without_a_cgroup_who_speaks_into_its_log_is_of_the_run(place: Place, tmp_path: Path) -> None:
    """In the agent's session, no environment, another folder: its output alone tells."""
    inner = f"echo $$ > {tmp_path}/left; cd /; exec sleep 300"
    place.prepare(launch_of(shell(f"env -i sh -c '{inner}' & wait")))
    spec = place.runs / R1 / "spec.json"
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "cgroup": ""}))
    place.executor.start(R1)
    left = noted(tmp_path / "left")
    kill_shim(place)
    assert recovered(place).reason is ExitReason.SHIM_DIED
    assert processes.look(left) is None


def recovered_again(place: Place) -> RunExit | None:
    return place.another().recover(R1)


@contextmanager
def sleeper(**options: object) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(["sleep", "300"], **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_strangers_are_left_alone(place: Place) -> None:
    """Another run's process; one whose pid is the dead agent's; one that only mentions the run."""
    place.prepare(launch_of(shell("true")))
    folder = place.runs / R1
    (folder / "started").touch()
    with (
        sleeper(env={"TSCHED_RUN_ID": f"{R1}0", "X_TSCHED_RUN_ID": R1}) as other,
        sleeper(env={"NOTE": f"TSCHED_RUN_ID={R1}"}, start_new_session=True) as reused,
        sleeper(env={"TSCHED_RUN_ID": R1}) as own,
    ):
        (folder / "agent.json").write_text(json.dumps({"agent_pid": reused.pid, "agent_start": 1}))
        assert recovered(place).reason is ExitReason.SHIM_DIED
        assert own.wait(30) == -signal.SIGKILL
        assert other.poll() is None
        assert reused.poll() is None


def test_a_pid_that_was_given_again_is_not_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    with sleeper() as process:
        seen = wait_for(lambda: processes.look(process.pid))
        with monkeypatch.context() as patch:
            patch.setattr(signal, "pidfd_send_signal", lambda handle, number: sent.append(number))
            patch.setattr(os, "kill", lambda pid, number: sent.append(number))
            processes.kill(processes.Process(pid=seen.pid, start=seen.start - 1, session=seen.session))
            assert sent == []
            processes.kill(seen)
            assert sent == [signal.SIGKILL]
        processes.kill(seen)
        assert process.wait(30) == -signal.SIGKILL


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen(["true"])
    try:
        wait_for(lambda: "Z" in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0])
        assert processes.look(process.pid) is None
    finally:
        process.wait()


def test_what_survives_is_asked_for_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process stuck in the kernel: no end is recorded while it is there."""
    place.prepare(launch_of(shell("true")))
    (place.runs / R1 / "started").touch()
    with sleeper(env={"TSCHED_RUN_ID": R1}) as stuck:
        with monkeypatch.context() as patch:
            patch.setattr("tsched.executors.recovery.PATIENCE", 0.01)
            patch.setattr(processes, "kill", lambda process: None)
            place.until(R1, Liveness.LOST)
            assert place.executor.recover(R1) is None
        assert stuck.poll() is None
        assert not (place.runs / R1 / "exit.json").exists()
        assert recovered(place).reason is ExitReason.SHIM_DIED


def test_a_run_of_an_earlier_boot_is_dead_whatever_has_its_pid_now(place: Place) -> None:
    place.prepare(launch_of(shell("true")))
    folder = place.runs / R1
    (folder / "started").touch()
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "boot_id": "an-earlier-one"}))
    lease = {**place.lease(), "state": "running"}
    place.lease_of().write_text(json.dumps(lease))
    with sleeper(env={"TSCHED_RUN_ID": R1}) as stranger:
        end = recovered(place)
        assert (end.reason, end.started) == (ExitReason.REBOOT, True)
        assert stranger.poll() is None


def test_a_shim_killed_while_it_stops_its_run_keeps_the_reason(place: Place) -> None:
    run_id = place.launch(launch_of(shell("trap '' TERM; echo up; while :; do sleep 0.1; done"), stop_grace=600))
    place.until_running()
    wait_for(lambda: place.log(run_id))
    place.executor.stop([run_id], reason=ExitReason.DRAIN, at=0)
    wait_for(lambda: place.executor.stopping(run_id))
    kill_shim(place)
    assert recovered(place).reason is ExitReason.DRAIN


def test_a_shim_that_fails_by_itself_says_why(place: Place) -> None:
    place.prepare(launch_of(shell("true")))
    spec = place.runs / R1 / "spec.json"
    fields = json.loads(spec.read_text())
    del fields["stop_grace"], fields["argv"]
    spec.write_text(json.dumps(fields))
    place.executor.start(R1)
    end = recovered(place)
    assert (end.reason, end.started) == (ExitReason.SHIM_DIED, False)
    assert "KeyError" in end.detail


def test_a_full_disk_decides_nothing(place: Place) -> None:
    place.prepare(launch_of(shell("true")))
    obstacle = place.runs / R1 / ".exit.json.tmp"
    obstacle.mkdir()
    place.until(R1, Liveness.LOST)
    assert place.executor.recover(R1) is None
    assert place.executor.poll() == {R1: Liveness.LOST}
    obstacle.rmdir()
    assert recovered(place).reason is ExitReason.NOT_STARTED


def test_a_run_lost_since_the_last_look_is_looked_at_anew(place: Place, tmp_path: Path) -> None:
    place.prepare(launch_of(shell("true")))
    (place.runs / R1 / "started").touch()
    assert place.executor.poll() == {R1: Liveness.LOST}
    assert place.executor.recover(R1) is not None
    later = f"{R1}-later"
    script = shell(f"setsid sh -c 'echo $$ > {tmp_path}/daemon; exec sleep 300' & wait")
    place.launch(launch_of(script, run_id=later, task=Task(id="8", title="t", queue="dev")))
    daemon = noted(tmp_path / "daemon")
    kill_shim(place, "8")
    assert place.executor.recover(later) is not None
    assert processes.look(daemon) is None


def test_many_lost_runs_are_cleared_in_one_look(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def look() -> recovery.Census:
        looks.append(1)
        return recovery.census()

    monkeypatch.setattr("tsched.executors.local.census", look)
    for number in range(20):
        run_id, task = f"{R1}-{number}", Task(id=str(number), title="t", queue="dev")
        place.prepare(launch_of(shell("true"), run_id=run_id, task=task))
        (place.runs / run_id / "started").touch()
    lost = [run_id for run_id, state in place.executor.poll().items() if state is Liveness.LOST]
    ends = [place.executor.recover(run_id) for run_id in lost]
    assert [end.reason for end in ends if end] == [ExitReason.SHIM_DIED] * 20
    assert len(looks) == 1
