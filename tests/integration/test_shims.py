"""Shims that a server of the runner's forks: nobody can tell them from others, and neither needs the other's life."""

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.local_runs import R1, Place, launch_of, shell, wait_for
from tsched.executors import forkserver, processes, shims
from tsched.executors.executor import Liveness
from tsched.executors.forkserver import ForkServer
from tsched.model.run import ExitReason
from tsched.model.task import Task


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """The next runs are forked."""
    made = Place(tmp_path)
    serve(made)
    yield made
    made.executor.close()


def serve(place: Place) -> None:
    """Start two runs: the first comes before any server, the second has one made. Wait until that is ready."""
    for number in ("98", "99"):
        assert place.executor._shims.child(begin(place, number, "true")), "no run waits for a server to start"
    until_ready(place)


def until_ready(place: Place) -> None:
    server = place.executor._shims._server
    assert server is not None
    wait_for(lambda: server.ready or server.hear(0))


def prepared(place: Place, number: str, script: str = "exec sleep 300") -> str:
    run_id = f"{R1}-{number}"
    place.prepare(launch_of(shell(script), run_id=run_id, task=Task(id=number, title="T", queue="dev")))
    return run_id


def begin(place: Place, number: str, script: str = "exec sleep 300") -> str:
    run_id = prepared(place, number, script)
    place.executor.start(run_id)
    return run_id


def server(place: Place) -> int:
    """The pid of the server that is there."""
    made = place.executor._shims._server
    assert made is not None
    return made.pid


def forked(place: Place, number: str) -> int:
    """The pid of a run's shim, once it runs, and that the server forked it."""
    pid = int(str(place.until_running(number)["pid"]))
    assert f"PPid:\t{server(place)}\n" in Path(f"/proc/{pid}/status").read_text()
    return pid


def gone(pid: int) -> bool:
    return processes.look(pid) is None


# -- they are as others are ------------------------------------------------------------------------------------------


def facts(pid: int) -> dict[str, object]:
    """What a program can be told apart by, with the run's own names taken out."""
    proc = Path(f"/proc/{pid}")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    found: dict[str, object] = {
        "arguments": (proc / "cmdline").read_bytes().rstrip(b"\0").split(b"\0"),
        "environment": sorted(filter(None, (proc / "environ").read_bytes().split(b"\0"))),
        "open": sorted((handle.name, os.readlink(handle)) for handle in (proc / "fd").iterdir()),
        "session": (os.getsid(pid), os.getpgid(pid)),
    }
    for name in ("Name", "Umask", "Uid", "Groups", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "CapEff"):
        found[name] = status[name]
    for link in ("cwd", "exe", "root"):
        found[link] = os.readlink(proc / link)
    for file in ("cgroup", "oom_score_adj", "limits", "coredump_filter"):
        found[file] = (proc / file).read_text()
    names = rf"{R1}-\d|TASK_ID=\d|pipe:\[\d+\]|\b{pid}\b"
    return {key: re.sub(names, "x", repr(value)) for key, value in found.items()}


def test_nobody_can_tell_a_forked_shim_from_another_nor_its_agent(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path)  # over the same folders; its first run
    begin(other, "1")
    begin(place, "2")
    spawned, fork = other.until_running("1"), place.until_running("2")
    assert forked(place, "2") == fork["pid"]
    one, two = (tuple(int(str(lease[who])) for who in ("pid", "agent_pid")) for lease in (spawned, fork))
    wait_for(lambda: list(map(facts, one)) == list(map(facts, two)))  # a shim may be writing just now
    found = {process.pid for process in processes.everything() if processes.run_id_of(process) == f"{R1}-2"}
    assert found == set(two), "its server carries no run's id"
    for number in ("1", "2"):
        place.finish(f"{R1}-{number}")


def test_a_forked_shim_waits_for_its_agent_and_stops_all_of_it(place: Place) -> None:
    assert place.ended(begin(place, "1", "exit 7")).exit_code == 7
    run_id = begin(place, "2", "setsid sleep 300 & echo; sleep 300")
    pid = forked(place, "2")
    wait_for(lambda: place.log(run_id))
    os.kill(pid, signal.SIGTERM)
    assert place.ended(run_id).reason is ExitReason.STOPPED
    assert not [one for one in processes.everything() if processes.run_id_of(one) == run_id and one.pid != pid]
    assert (place.runs / run_id / "shim.log").read_text() == ""


def test_a_forked_shim_dies_where_a_test_wants_it_to(tmp_path: Path) -> None:
    place = Place(tmp_path, TSCHED_FAILPOINT="shim: fenced", TSCHED_FAILPOINT_FILE=str(tmp_path / "hit"))
    (tmp_path / "hit").touch()  # the first, started by itself, lives
    serve(place)
    place.ended(f"{R1}-99")
    (tmp_path / "hit").unlink()
    run_id = begin(place, "1", "true")
    place.until(run_id, Liveness.LOST)
    assert (tmp_path / "hit").exists()
    assert place.ended(begin(place, "2", "true")).exit_code == 0, "the server lives"
    place.executor.close()


def test_many_are_asked_for_before_the_first_answer(place: Place) -> None:
    begin(place, "1", "true")
    place.executor.confirm()
    os.kill(server(place), signal.SIGSTOP)
    runs = [begin(place, f"{number}", "true") for number in range(2, 8)]
    assert not [run_id for run_id in runs if (place.runs / run_id / "started").exists()]
    os.kill(server(place), signal.SIGCONT)
    for run_id in runs:
        assert place.ended(run_id).exit_code == 0


def test_a_server_with_too_much_to_fork_is_heard_before_it_is_asked_for_more(tmp_path: Path) -> None:
    """What it is asked for has no folder here, so it forks nothing."""
    made = ForkServer("=" * 300, {})
    fcntl.fcntl(made._ask, fcntl.F_SETPIPE_SZ, 4096)
    os.kill(made.pid, signal.SIGSTOP)
    number = 0
    while made.ask(str(number), tmp_path / f"{number}"):
        number += 1
    os.kill(made.pid, signal.SIGCONT)
    assert not made.ready
    heard: list[str] = []
    while len(heard) < number:
        heard += [run_id for run_id, _ in made.hear(shims.ANSWER)]
    assert heard == [str(one) for one in range(number)]
    assert made.ask("more", tmp_path)
    made.close()
    assert gone(made.pid)


# -- whoever dies ----------------------------------------------------------------------------------------------------


def test_runs_outlive_the_server_and_the_next_is_started_without_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = begin(place, "1")
    forked(place, "1")
    dead = server(place)
    os.kill(dead, signal.SIGKILL)
    wait_for(lambda: gone(dead))
    second = begin(place, "2")
    assert place.executor._shims.child(second), "at once, and by itself"
    place.until_running("2")
    assert {place.executor.poll()[one] for one in (first, second)} == {Liveness.ALIVE}
    third = begin(place, "3")
    assert place.executor._shims.child(third), "and so for a while"
    monkeypatch.setattr(place.executor._shims, "_serve_from", 0.0)
    fourth = begin(place, "4")
    until_ready(place)
    fifth = begin(place, "5")
    forked(place, "5")
    for one in (first, second, third, fourth, fifth):
        assert place.finish(one).reason is ExitReason.STOPPED


def test_a_dead_server_is_collected_by_the_next_look(place: Place) -> None:
    dead = server(place)
    os.kill(dead, signal.SIGKILL)
    os.waitid(os.P_PID, dead, os.WEXITED | os.WNOWAIT)
    assert place.executor.poll()
    assert not Path(f"/proc/{dead}").exists()


FIRST = r"""
import os, subprocess, sys
from pathlib import Path
from tests.integration.local_runs import Place, wait_for
from tests.integration.test_shims import begin, forked, serve, server

def zombies():
    found = (Path(f"/proc/{pid}/stat") for pid in os.listdir("/proc") if pid.isdecimal())
    return [stat.read_text() for stat in found if stat.read_text().rpartition(")")[2].split()[:2] == ["Z", "1"]]

assert os.getpid() == 1
place = Place(Path(sys.argv[1]))
serve(place)
runs = [begin(place, "1"), begin(place, "2")]
shims = [forked(place, number) for number in "12"]
another = subprocess.Popen(["sh", "-c", "exit 7"], start_new_session=True)
os.waitid(os.P_PID, another.pid, os.WEXITED | os.WNOWAIT)
os.kill(server(place), 9)
wait_for(lambda: place.executor.poll() and Path(f"/proc/{shims[0]}/status").read_text().count("PPid:\t1\n"))
for run_id in runs:
    place.finish(run_id)
wait_for(lambda: place.executor.poll() and len(zombies()) <= 1)
assert another.wait() == 7
killed = begin(place, "3", "setsid sleep 300 & sleep 300")
os.kill(int(place.until_running("3")["pid"]), 9)
wait_for(lambda: place.executor.poll()[killed] == "lost")
assert wait_for(lambda: place.executor.recover(killed)).started
print(zombies())
"""


def test_a_containers_first_process_collects_the_orphans_of_its_runs_and_nothing_else(tmp_path: Path) -> None:
    """Its server is killed: then it is the parent of the shims that it did not start."""
    apart = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process may be the first of a container here: unshare wants root")
    command = [*apart, sys.executable, "-c", FIRST, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_does_not_answer_costs_no_run_and_starts_none_twice(
    place: Place, monkeypatch: pytest.MonkeyPatch, blow: signal.Signals
) -> None:
    first = begin(place, "1")
    forked(place, "1")
    monkeypatch.setattr(shims, "ANSWER", 0.05)
    dead = server(place)
    os.kill(dead, blow)
    asked = [begin(place, number, "echo once") for number in "23"]
    place.executor.confirm()
    wait_for(lambda: gone(dead))
    for run_id in asked:
        assert place.ended(run_id).exit_code == 0
        assert place.log(run_id) == "once\n"
    place.finish(first)


def test_a_server_that_is_given_up_too_early_starts_nothing_twice(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has forked the shim, and its answer was not waited for."""
    begin(place, "1", "true")
    place.executor.confirm()
    monkeypatch.setattr(ForkServer, "hear", lambda *_: ())
    run_id = begin(place, "2", "echo once; exec sleep 300")
    winner = forked(place, "2")
    monkeypatch.undo()
    shims_ = place.executor._shims
    shims_._give_up()
    shims_._spawn(run_id, place.executor._folder(run_id))
    wait_for(lambda: place.executor.poll()[run_id] is Liveness.ALIVE and shims_.child(run_id) is None)
    assert place.log(run_id) == "once\n"
    assert place.lease("2")["pid"] == winner
    assert place.finish(run_id).reason is ExitReason.STOPPED


def test_a_server_that_can_fork_no_more_leaves_it_to_the_runner(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.executor.close()
    words = """import os
os.write(1, b"0 0\\n")
while data := os.read(0, 9999):
    os.write(1, b"0 0\\n" * data.count(b"\\0"))"""
    refuses = (sys.executable, "-I", "-S", "-c", words)
    monkeypatch.setattr(
        forkserver,
        "spawn",
        lambda _, environ, *actions: os.posix_spawn(refuses[0], refuses, environ, file_actions=actions),
    )
    begin(place, "0", "true")
    until_ready(place)
    run_id = begin(place, "1", "echo once")
    assert run_id in place.executor._shims._asked
    monkeypatch.undo()
    place.executor.confirm()
    assert place.executor._shims.child(run_id), "started by itself"
    assert place.ended(run_id).exit_code == 0
    assert place.log(run_id) == "once\n"


def test_a_killed_shim_is_lost_and_all_of_its_run_is_cleared_away(place: Place) -> None:
    run_id = begin(place, "1", "setsid sleep 300 & sleep 300")
    pid = forked(place, "1")
    os.kill(pid, signal.SIGKILL)
    place.until(run_id, Liveness.LOST)
    end = wait_for(lambda: place.executor.recover(run_id))
    assert (end.reason, end.started) == (ExitReason.SHIM_DIED, True)
    assert not [one for one in processes.everything() if processes.run_id_of(one) == run_id]


def test_a_shim_that_has_no_lock_yet_counts_as_alive_until_it_is_dead(place: Place) -> None:
    begin(place, "1", "true")
    place.executor.confirm()
    run_id = prepared(place, "2")
    lock = os.open(place.runs / run_id / "lock", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)  # as one who reads it, for ever
    place.executor.start(run_id)
    place.executor.confirm()
    process = place.executor._shims._forked[run_id]
    assert place.executor.poll()[run_id] is Liveness.ALIVE
    os.kill(process.pid, signal.SIGKILL)
    place.until(run_id, Liveness.LOST)
    os.close(lock)
    end = place.executor.recover(run_id)
    assert end is not None
    assert (end.reason, end.started) == (ExitReason.NOT_STARTED, False)


def test_a_shim_that_is_slow_to_begin_is_watched_once_it_runs(place: Place) -> None:
    run_id = prepared(place, "2")
    lock = os.open(place.runs / run_id / "lock", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)  # it has not begun yet
    place.executor.start(run_id)
    for _ in range(4):
        assert place.executor.poll()[run_id] is Liveness.ALIVE
    os.close(lock)
    forked(place, "2")
    wait_for(lambda: place.executor.poll()[run_id] is Liveness.ALIVE and run_id in place.executor._survey.watched)
    place.finish(run_id)


def test_a_shim_that_could_not_say_what_goes_wrong_is_refused(place: Place) -> None:
    run_id = prepared(place, "2")
    (place.runs / run_id / "shim.log").mkdir()  # as on a disk that takes no more files
    place.executor.start(run_id)
    assert run_id in place.executor._shims._asked
    assert run_id in str(place.executor.confirm()[run_id])
    other = begin(place, "3")
    forked(place, "3")
    place.finish(other)


def test_a_server_that_cannot_be_had_costs_no_descriptor(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    pipes = iter([os.pipe()])

    def none() -> tuple[int, int]:
        if (one := next(pipes, None)) is None:
            raise OSError(24, "Too many open files")
        return one

    monkeypatch.setattr(os, "pipe", none)
    with pytest.raises(OSError, match="Too many"):
        ForkServer("=", {})
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_shim_that_is_forked_too_late_goes_home(place: Place) -> None:
    begin(place, "1", "true")
    place.executor.confirm()
    os.kill(server(place), signal.SIGSTOP)
    run_id = begin(place, "2", "echo never")
    after = place.another()  # the runner was killed, and is there again
    assert after.poll()[run_id] is Liveness.LOST
    end = after.recover(run_id)
    os.kill(server(place), signal.SIGCONT)
    place.executor.confirm()
    wait_for(lambda: not place.executor._shims.lives(run_id))
    assert end is not None
    assert (end.reason, place.lease("2")["state"]) == (ExitReason.NOT_STARTED, "claiming")
    assert not (place.logs / f"{run_id}.log").exists()


@pytest.mark.parametrize("last", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_with_its_runner_and_first_does_what_it_was_asked_for(
    place: Place, last: signal.Signals
) -> None:
    ours, theirs = os.pipe()
    runner = os.fork()
    if runner == 0:
        try:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit())
            place.executor.close()
            place.executor = place.another()
            for run_id in [f"{R1}-{number}" for number in (98, 99)]:
                place.ended(run_id)
                place.executor.discard(run_id, succeeded=True)
            serve(place)
            begin(place, "1")
            begin(place, "2")
            place.executor.confirm()
            os.kill(server(place), signal.SIGSTOP)
            begin(place, "3")
            os.write(theirs, f"{server(place)}\n".encode())
            signal.pause()
        finally:
            os._exit(1)
    os.close(theirs)
    with os.fdopen(ours) as told:
        pid = int(told.readline())
    os.kill(runner, last)
    os.waitpid(runner, 0)
    os.kill(pid, signal.SIGCONT)
    for number in "123":
        place.until_running(number)
    wait_for(lambda: gone(pid))
    for number in "123":
        assert place.finish(f"{R1}-{number}").reason is ExitReason.STOPPED


# -- where the kernel hides what a fork is ---------------------------------------------------------------------------


@pytest.fixture
def plain(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Forks go on looking like their server: as where /proc/self/mem may not be written."""
    monkeypatch.setattr(forkserver, "SPARE", {})
    place.executor.close()
    begin(place, "0", "true")
    until_ready(place)
    return place


def test_a_run_is_recovered_also_where_its_shim_looks_like_the_server(plain: Place) -> None:
    run_id = begin(plain, "1", "setsid sleep 300 & sleep 300")
    pid = forked(plain, "1")
    found = [one.pid for one in processes.everything() if processes.run_id_of(one) == run_id]
    assert found
    assert pid not in found
    os.kill(pid, signal.SIGKILL)
    plain.until(run_id, Liveness.LOST)
    assert wait_for(lambda: plain.executor.recover(run_id)).started
    assert all(map(gone, found))
    assert plain.ended(begin(plain, "2", "true")).exit_code == 0
