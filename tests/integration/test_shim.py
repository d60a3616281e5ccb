"""The shim alone, as a real process: its fence, its lease, how it stops a run, what it records."""

import ast
import errno
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.local_runs import R1, Place, launch_of, python, shell, wait_for
from tsched.executors import processes
from tsched.executors.executor import Launch, Liveness
from tsched.executors.jobs import SHIM
from tsched.executors.shim import files
from tsched.executors.shim.progress import Progress
from tsched.executors.shim.stop import TICK, Stoppable
from tsched.model.run import ExitReason, RunExit


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def shim_of(place: Place, run_id: str = R1) -> "subprocess.Popen[bytes]":
    """A shim that the executor knows nothing of."""
    command = [sys.executable, "-I", "-S", str(SHIM), str(place.runs / run_id)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)


def pid(fields: Mapping[str, object], name: str = "pid") -> int:
    value = fields[name]
    assert isinstance(value, int)
    return value


def gone(number: int) -> bool:
    return processes.look(number) is None


def status(number: int, name: str) -> str:
    """A line of /proc/PID/status."""
    lines = Path(f"/proc/{number}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name + ":"))


def noted(path: Path) -> int:
    """A pid that a process of the run wrote into a file."""
    return wait_for(lambda: int(text) if path.exists() and (text := path.read_text().strip()) else None)


# -- what it is made of ----------------------------------------------------------------------------------------------


def test_it_imports_the_standard_library_alone_and_all_of_it_at_the_start() -> None:
    for file in SHIM.parent.glob("*.py"):
        tree = ast.parse(file.read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        late = [n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f) if n in imports]
        assert not late, file
        names = {name.name for node in imports if isinstance(node, ast.Import) for name in node.names}
        names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom) and not node.level}
        assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names, file


def test_it_starts_without_what_is_slow_to_import(tmp_path: Path) -> None:
    """Each of these alone takes as long as half of Python's start, or more."""
    package = f"__path__, __package__ = [{str(SHIM.parent)!r}], '__main__'"
    script = f"{package}; from .keeper import keep; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    assert not {"json", "re", "enum", "signal", "ctypes", "typing", "collections"} & set(done.stdout.split())


def test_it_is_small(place: Place) -> None:
    run_id = place.launch(launch_of(shell("exec sleep 300")))
    shim = Path(f"/proc/{pid(place.until_running())}")
    shared = next(line for line in (shim / "smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
    assert int(shared.split()[1]) < 12 * 1024
    assert len(os.listdir(shim / "fd")) < 10
    place.finish(run_id)


# -- the fence -------------------------------------------------------------------------------------------------------


def test_a_late_shim_loses_the_fence_and_starts_nothing(place: Place) -> None:
    place.prepare(launch_of(shell("echo started")))
    (place.runs / R1 / "started").touch()
    assert shim_of(place).wait(30) == 3
    assert not (place.logs / f"{R1}.log").exists()
    assert place.lease()["state"] == "claiming"


def test_of_two_shims_of_a_run_one_alone_starts_the_agent(place: Place) -> None:
    place.prepare(launch_of(shell("echo started")))
    codes = sorted(shim.wait(30) for shim in [shim_of(place), shim_of(place)])
    assert codes == [0, 3]
    assert place.log(R1) == "started\n"


def test_a_removed_run_folder_starts_nothing(place: Place) -> None:
    place.prepare(launch_of(shell("echo started")))
    place.executor.discard(R1, succeeded=False)
    assert shim_of(place).wait(30) != 0
    assert not (place.logs / f"{R1}.log").exists()


def test_its_lock_is_not_inherited_by_the_agent(place: Place) -> None:
    """An agent that lives on for an instant may not look like a living shim."""
    run_id = place.launch(launch_of(shell("ls -l /proc/self/fd; exec sleep 300")))
    shim = pid(place.until_running())
    assert os.getpgid(shim) == shim
    wait_for(lambda: "fd" in place.log(run_id) or "->" in place.log(run_id))
    assert str(place.runs) not in place.log(run_id)
    with (place.runs / R1 / "lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    place.finish(run_id)


# -- starting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_the_exit_code_is_recorded(place: Place, code: int) -> None:
    end = place.ended(place.launch(launch_of(shell(f"exit {code}"))))
    assert (end.reason, end.exit_code, end.started) == (ExitReason.EXITED, code, True)
    assert 0 < end.started_at <= end.ended_at


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_an_agent_that_a_signal_ended_has_128_and_its_number(place: Place, number: signal.Signals) -> None:
    end = place.ended(place.launch(launch_of(shell(f"ulimit -c 0; kill -{number.value} $$"))))
    assert (end.reason, end.exit_code) == (ExitReason.EXITED, 128 + number)


def test_the_agent_starts_clean(place: Place) -> None:
    """A session of its own, no stdin, no blocked or ignored signal, nothing open but its log, its own folder."""
    script = (
        "import os,signal,sys,time;"
        "print(os.getsid(0)==os.getpid(), os.getsid(0)!=os.getsid(os.getppid()), repr(sys.stdin.read()),"
        "signal.pthread_sigmask(signal.SIG_BLOCK,()), os.listdir('.'), os.getcwd());"
        "print([l.split()[1] for l in open('/proc/self/status') if l.startswith(('SigBlk','SigIgn'))]);"
        "print(sorted(os.listdir('/proc/self/fd')))"
    )
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run_id = place.launch(launch_of(python(script)))
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert place.ended(run_id).exit_code == 0
    first, masks, files = place.log(run_id).splitlines()
    assert first == f"True True '' set() [] {place.workspaces / R1}"
    blocked, ignored = ast.literal_eval(masks)
    assert int(blocked, 16) == 0
    python_s_own = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    the_c_library_s_own = 1 << 31 | 1 << 32
    assert int(ignored, 16) & ~the_c_library_s_own == python_s_own
    assert files == "['0', '1', '2', '3']"  # 3 is the listing itself


def test_the_log_is_private_and_keeps_both_streams_raw(place: Place) -> None:
    run_id = place.launch(launch_of(shell("printf 'a\\0b\\377'; echo c >&2")))
    place.ended(run_id)
    log = place.logs / f"{R1}.log"
    assert log.read_bytes() == b"a\0b\xffc\n"
    assert log.stat().st_mode & 0o777 == 0o600


def rewrite(place: Place, **changes: object) -> None:
    path = place.runs / R1 / "spec.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"argv": ["/nowhere/agent"]}, "/nowhere/agent"),
        ({"argv": ["/etc/passwd"]}, os.strerror(errno.EACCES)),
        ({"argv": ["agent-that-is-not-there"]}, os.strerror(errno.ENOENT)),
        ({"argv": ["/bin/true", "x" * 200_000]}, os.strerror(errno.E2BIG)),
        ({"cwd": "/nowhere"}, "folder /nowhere"),
        ({"log": "/nowhere/log"}, "log /nowhere/log"),
    ],
)
def test_an_agent_that_cannot_start_says_why(place: Place, changes: Mapping[str, object], words: str) -> None:
    place.prepare(launch_of(shell("true")))
    rewrite(place, **changes)
    assert shim_of(place).wait(30) == 0
    end = place.executor.exit(R1)
    assert end is not None
    assert (end.reason, end.started, end.exit_code) == (ExitReason.START_FAILED, False, None)
    assert words in end.detail
    assert place.lease() == {}


# -- the lease -------------------------------------------------------------------------------------------------------


def test_the_lease_says_running_with_the_identity_of_both_processes(place: Place) -> None:
    run_id = place.launch(launch_of(shell("exec sleep 300")))
    fields = place.until_running()
    assert list(fields)[:8] == ["task_id", "agent", "pid", "recipe", "started_at", "heartbeat", "host", "state"]
    for name, start in (("pid", "process_start"), ("agent_pid", "agent_start")):
        stat = Path(f"/proc/{pid(fields, name)}/stat").read_text().rpartition(")")[2].split()
        assert int(stat[19]) == fields[start]
    assert fields["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert place.lease_of().stat().st_mode & 0o777 == 0o600
    link = place.running / "agent_vaela.task_7"
    wait_for(link.is_symlink)
    assert str(link.readlink()) == "task_7.json"
    place.finish(run_id)
    assert list(place.running.iterdir()) == []


def test_heartbeats_move_the_leases_time_alone(place: Place) -> None:
    run_id = place.launch(launch_of(shell("exec sleep 300"), heartbeat=0.05))
    place.until_running()
    text, inode = place.lease_of().read_text(), place.lease_of().stat().st_ino
    os.utime(place.lease_of(), (0, 0))
    wait_for(lambda: time.time() - place.lease_of().stat().st_mtime < 60)
    assert (place.lease_of().read_text(), place.lease_of().stat().st_ino) == (text, inode)
    place.finish(run_id)


def test_a_lease_removed_by_hand_stops_the_run_and_is_not_made_again(place: Place) -> None:
    run_id = place.launch(launch_of(shell("trap 'sleep 0.5; exit 9' TERM; sleep 300 & wait"), heartbeat=0.05))
    place.until_running()
    place.lease_of().unlink()
    end = place.ended(run_id)
    assert (end.reason, end.started, end.exit_code) == (ExitReason.LEASE_GONE, True, 9)
    assert list(place.running.iterdir()) == []


def test_another_runs_lease_is_never_touched(place: Place) -> None:
    run_id = place.launch(launch_of(shell("exec sleep 300"), heartbeat=0.05))
    place.until_running()
    other = json.dumps({**place.lease(), "run_id": "r2"})
    temp = place.running / "x"
    temp.write_text(other)
    os.utime(temp, (1, 1))
    temp.rename(place.lease_of())
    assert place.ended(run_id).reason is ExitReason.LEASE_GONE
    assert place.lease_of().read_text() == other
    assert place.lease_of().stat().st_mtime == 1
    assert (place.running / "agent_vaela.task_7").is_symlink()


def test_a_lease_that_is_gone_before_the_start_starts_nothing(place: Place) -> None:
    place.prepare(launch_of(shell("echo started")))
    place.lease_of().unlink()
    place.executor.start(R1)
    end = place.ended(R1)
    assert (end.reason, end.started) == (ExitReason.LEASE_GONE, False)
    assert not (place.logs / f"{R1}.log").exists()
    assert list(place.running.iterdir()) == []


def test_an_unreadable_lease_is_made_anew(place: Place) -> None:
    run_id = place.launch(launch_of(shell("exec sleep 300"), heartbeat=0.05))
    place.until_running()
    place.lease_of().write_bytes(b'{"task_id": \xff')
    assert place.until_running()["run_id"] == R1
    assert place.finish(run_id).reason is ExitReason.STOPPED


# -- stopping --------------------------------------------------------------------------------------------------------


def by_signal(place: Place) -> None:
    os.kill(pid(place.lease()), signal.SIGTERM)


def by_two_signals(place: Place) -> None:
    for _ in range(2):
        os.kill(pid(place.lease()), signal.SIGTERM)
        os.kill(pid(place.lease()), signal.SIGINT)


def by_request(place: Place) -> None:
    place.executor.stop([R1], reason=ExitReason.STOPPED, at=0)


def by_hand(place: Place) -> None:
    (place.runs / R1 / "stop").touch()


@pytest.mark.parametrize("ask", [by_signal, by_two_signals, by_request, by_hand])
def test_a_stop_is_term_first(place: Place, ask: Callable[[Place], None]) -> None:
    run_id = place.launch(launch_of(shell("trap 'echo bye; exit 5' TERM; echo up; sleep 300 & wait")))
    place.until_running()
    wait_for(lambda: place.log(run_id) == "up\n")
    ask(place)
    end = place.ended(run_id)
    assert (end.reason, end.exit_code, end.started) == (ExitReason.STOPPED, 5, True)
    assert place.log(run_id) == "up\nbye\n"


WAITING = """
import json, signal, sys
from . import stop
from .kernel import since_boot
from .stop import HEARD, TICK, Stoppable

signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
folder, elsewhere = sys.argv[1:]
spec = {**json.load(open(f"{folder}/spec.json")), "elsewhere": elsewhere == "True", "heartbeat": 600}
shim = Stoppable(folder, spec)
shim.look()
print(shim.kill_or_pause(since_boot()) > TICK, flush=True)
ahead = 0.0
stop.since_boot = lambda: since_boot() + ahead
for line in sys.stdin:
    ahead += float(line)
    told = signal.SIGIO in signal.sigpending()
    shim.listen(0)
    shim.look()
    print(told, shim.kill_or_pause(stop.since_boot()) > TICK, shim.reason, flush=True)
"""


def told_of(place: Place, *acts: float | Callable[[], object], elsewhere: bool = False) -> list[list[str]]:
    """Whether the kernel told of each act, whether the next look may wait then, and the reason to stop.

    An act is the seconds that go by, or what is done in the folder.
    """
    place.prepare(launch_of(shell("true")))
    package = f"__path__, __package__ = [{str(SHIM.parent)!r}], '__main__'"
    command = [sys.executable, "-c", f"{package}\n{WAITING}", str(place.runs / R1), str(elsewhere)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as shim:
        assert shim.stdin
        assert shim.stdout
        assert shim.stdout.readline().split() == [str(not elsewhere)]
        seen = []
        for act in acts:
            if callable(act):
                act()
            shim.stdin.write(f"{0 if callable(act) else act}\n")
            seen.append(shim.stdout.readline().split())
        shim.stdin.close()
    return seen


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_kernel_tells_of_a_stop_request_where_it_is_written_here(place: Place, elsewhere: bool) -> None:
    """So that nobody looks each second, and who wrote it may die at once: what is true is the file alone."""
    here = str(not elsewhere)
    seen = told_of(
        place,
        0,
        lambda: place.executor.stop([R1], reason=ExitReason.DRAIN, at=time.time() + 3600),
        lambda: place.executor.recall(R1),
        lambda: place.executor.stop([R1], reason=ExitReason.DRAIN, at=0),
        elsewhere=elsewhere,
    )
    assert seen == [["False", here], [here, "False"], ["False", here], [here, "False", "drain"]]


def test_a_stop_request_by_hand_is_told_of_at_once_and_obeyed_once_it_is_written(place: Place) -> None:
    """By whoever knows the file alone, without a name of its own to write it under first."""
    request = place.runs / R1 / "stop"
    later = json.dumps({"at": time.time() + 3600, "reason": "drain"})
    seen = told_of(
        place,
        request.touch,
        lambda: request.write_text(later[:20]),
        lambda: request.write_text(later),
        10,
        lambda: os.truncate(request, 0),
        0.4,
        lambda: request.write_text(later),
        request.unlink,
        request.touch,
        0.4,
        0.2,
    )
    told, not_told = ["True", "False"], ["False", "False"]
    assert seen[:3] == [told, told, told]
    assert seen[3:7] == [not_told, told, not_told, told]
    assert seen[7:] == [["False", "True"], told, not_told, ["False", "False", "stopped"]]


def test_nobody_is_woken_to_look_at_the_progress_of_an_agent_that_has_ended(place: Place) -> None:
    """Its hook after the run may take long: a look that nobody takes was due at once, for ever."""
    place.prepare(launch_of(shell("true"), stall=8))
    spec = {**json.loads((place.runs / R1 / "spec.json").read_text()), "elsewhere": True, "heartbeat": 600}
    shim = Stoppable(str(place.runs / R1), spec)
    shim.next_beat = math.inf
    shim.progress = Progress(spec, shim.log)
    late = shim.progress.due() + 1
    assert shim.kill_or_pause(late) == 0
    shim.over = True
    assert shim.kill_or_pause(late) == TICK


def test_hup_stops_nothing(place: Place) -> None:
    run_id = place.launch(launch_of(shell("exec sleep 300"), heartbeat=0.05))
    os.kill(pid(place.until_running()), signal.SIGHUP)
    os.utime(place.lease_of(), (0, 0))
    wait_for(lambda: place.lease_of().stat().st_mtime > 0)
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    assert place.finish(run_id).reason is ExitReason.STOPPED


def test_what_ignores_term_is_killed_after_the_grace(place: Place, tmp_path: Path) -> None:
    """The agent, its child and a daemon in a session of its own, all deaf."""
    script = (
        f"trap '' TERM; (trap '' TERM; setsid sh -c 'echo $$ > {tmp_path}/daemon; exec sleep 300' </dev/null &);"
        f"sleep 300 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/agent; wait; sleep 300"
    )
    run_id = place.launch(launch_of(shell(script), stop_grace=0.3))
    place.until_running()
    pids = [noted(tmp_path / name) for name in ("daemon", "child", "agent")]
    end = place.finish(run_id)
    assert (end.reason, end.exit_code) == (ExitReason.STOPPED, 128 + 9)
    assert all(gone(number) for number in pids)


def test_a_stopped_process_is_no_hiding_place(place: Place) -> None:
    run_id = place.launch(launch_of(shell("trap 'exit 4' TERM; kill -STOP $$; sleep 300 & wait")))
    agent = pid(place.until_running(), "agent_pid")
    wait_for(lambda: status(agent, "State") == "T")
    assert place.finish(run_id).exit_code == 4


def test_the_first_reason_to_stop_stands_and_its_grace_is_not_prolonged(place: Place) -> None:
    run_id = place.launch(launch_of(shell("trap '' TERM; echo up; while :; do sleep 0.1; done"), stop_grace=1))
    shim = pid(place.until_running())
    wait_for(lambda: place.log(run_id))
    place.executor.stop([run_id], reason=ExitReason.DRAIN, at=0)
    wait_for(lambda: place.executor.stopping(run_id))

    def ended_though_nagged() -> bool:
        os.kill(shim, signal.SIGTERM)
        return place.executor.exit(run_id) is not None

    wait_for(ended_though_nagged)
    end = place.ended(run_id)
    assert (end.reason, end.exit_code) == (ExitReason.DRAIN, 128 + 9)


def test_an_agent_that_ended_by_itself_was_not_stopped(place: Place, tmp_path: Path) -> None:
    """TERM reaches the shim while it clears away what the agent left behind."""
    deaf = f'trap "" TERM; echo $$ > {tmp_path}/deaf; while :; do sleep 0.1; done'
    script = f"setsid sh -c '{deaf}' & until test -s {tmp_path}/deaf; do sleep 0.05; done"
    run_id = place.launch(launch_of(shell(script)))
    fields = place.until_running()
    wait_for(lambda: not Path(f"/proc/{pid(fields, 'agent_pid')}").exists())  # reaped, not a zombie any more
    os.kill(pid(fields), signal.SIGTERM)
    end = place.ended(run_id)
    assert (end.reason, end.exit_code) == (ExitReason.EXITED, 0)


def test_what_an_agent_leaves_behind_goes_with_it(place: Place, tmp_path: Path) -> None:
    """Double fork, new session, environment cleared, TERM ignored: still a descendant."""
    daemon = f'trap "" TERM; echo $$ > {tmp_path}/daemon; sleep 300 & wait'
    run_id = place.launch(launch_of(shell(f"setsid env -i /bin/sh -c '{daemon}' & sleep 0.2"), stop_grace=0.2))
    number = noted(tmp_path / "daemon")
    end = place.ended(run_id)
    assert (end.reason, end.exit_code) == (ExitReason.EXITED, 0)
    assert gone(number)


def test_max_runtime_ends_a_run(place: Place) -> None:
    run_id = place.launch(launch_of(shell("sleep 300"), max_runtime=0.5))
    end = place.ended(run_id)
    assert (end.reason, end.started, end.exit_code) == (ExitReason.TIMEOUT, True, 128 + 15)
    assert "0.5 s" in end.detail


@pytest.mark.parametrize(
    "sign",
    [
        "print('.', flush=True)",
        "open('work', 'a').write('x')",
        "os.path.exists('a/b') or os.makedirs('a/b'); open(f'a/b/{i}', 'w')",
        "old and (old.kill(), old.wait()); old = subprocess.Popen(['sleep', '300'])",
        "[hash(str(n)) for n in range(1_000_000)]",
    ],
    ids=["output", "a file", "a file below", "other processes", "computing"],
)
def test_any_sign_of_progress_keeps_a_run_alive(place: Place, sign: str) -> None:
    loop = f"while time.monotonic() < end: i += 1; {sign}; time.sleep(0.1)"  # so long, however slow the machine is
    start = "import os, subprocess, time\nold, i, end = None, 0, time.monotonic() + 4"
    script = f"{start}\n{loop}\nold and old.kill()"
    end = place.ended(place.launch(launch_of(python(script), stall=2)))
    assert (end.reason, end.exit_code) == (ExitReason.EXITED, 0), place.log(R1)


def test_a_run_without_progress_is_stopped(place: Place) -> None:
    end = place.ended(place.launch(launch_of(shell("echo begun; exec sleep 300"), stall=0.8)))
    assert (end.reason, end.started) == (ExitReason.STALLED, True)
    assert end.detail == "no output, no new process and no change in its folder for 0.8 s"


def test_an_orphan_is_adopted_and_reaped(place: Place, tmp_path: Path) -> None:
    run_id = place.launch(launch_of(shell(f"(sh -c 'echo $$ > {tmp_path}/orphan; sleep 0.1' &); exec sleep 300")))
    place.until_running()
    number = noted(tmp_path / "orphan")
    wait_for(lambda: not Path(f"/proc/{number}").exists())  # not even a zombie
    assert place.finish(run_id).reason is ExitReason.STOPPED


def test_an_agent_dies_with_its_shim(place: Place) -> None:
    run_id = place.launch(launch_of(shell("trap '' TERM; while :; do sleep 0.1; done")))
    fields = place.until_running()
    os.kill(pid(fields), signal.SIGKILL)
    wait_for(lambda: gone(pid(fields, "agent_pid")))
    place.until(run_id, Liveness.LOST)
    assert place.executor.recover(run_id) is not None


# -- the recipe's checks ---------------------------------------------------------------------------------------------


def checked(script: str, *checks: str, limit: float = 60, grace: float = 0.5) -> Launch:
    launch = launch_of(shell(script), stop_grace=grace)
    return replace(launch, recipe=replace(launch.recipe, checks=checks, check_timeout=limit))


def test_checks_run_in_the_folder_after_the_agent_and_the_first_that_fails_is_recorded(place: Place) -> None:
    checks = ("test -e done", "echo looking; test -e more", "touch never")
    end = place.ended(place.launch(checked("touch done; echo agent", *checks)))
    assert (end.reason, end.exit_code) == (ExitReason.EXITED, 0)
    assert end.unmet == "`echo looking; test -e more`: exit status 1: looking"
    assert place.log(R1) == "agent\nlooking\n"
    assert not (place.workspaces / R1 / "never").exists()


def test_checks_that_pass_leave_nothing_to_say(place: Place) -> None:
    assert place.ended(place.launch(checked("touch done", "test -e done", "true"))).unmet == ""


def test_no_check_after_a_failure(place: Place) -> None:
    end = place.ended(place.launch(checked("exit 3", "echo checked")))
    assert (end.exit_code, end.unmet, place.log(R1)) == (3, "", "")


def test_a_check_that_hangs_is_ended(place: Place) -> None:
    end = place.ended(place.launch(checked("true", "exec sleep 300", limit=0.3)))
    assert end.unmet == "`exec sleep 300`: it took longer than 0.3 s"


def test_a_run_can_be_stopped_while_it_is_checked(place: Place, tmp_path: Path) -> None:
    place.launch(checked("true", f"touch {tmp_path}/here; exec sleep 300"))
    wait_for((tmp_path / "here").exists)
    end = place.finish(R1)
    assert (end.reason, end.unmet) == (ExitReason.STOPPED, "")


def test_a_check_that_goose_would_fill_in_is_left_to_goose(place: Place) -> None:
    """A task's text in a shell command could be a command."""
    assert (
        place.ended(place.launch(checked("true", "test -e '{{ task_title }}'", "{% if 1 %}x{% endif %}"))).unmet == ""
    )


# -- the record of the end -------------------------------------------------------------------------------------------


def test_the_end_is_recorded_however_long_the_disk_is_full(place: Place) -> None:
    """A folder in the way of the file stands for the full disk; that it is tried again and again wakes nobody."""
    place.prepare(launch_of(shell("exit 6")))
    obstacle = place.runs / R1 / "exit.json"
    obstacle.mkdir()
    began = time.monotonic()
    place.executor.start(R1)

    def tries() -> int:
        return (place.runs / R1 / "shim.log").read_text().count("could not be written")

    wait_for(lambda: tries() > 1)
    assert tries() <= 1 + (time.monotonic() - began) / TICK
    assert place.executor.poll() == {R1: Liveness.ALIVE}
    assert place.lease_of().exists()
    obstacle.rmdir()
    end: RunExit = place.ended(R1)
    assert end.exit_code == 6
    assert not place.lease_of().exists()


def test_a_complaint_that_the_disk_does_not_take_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is of a full or read-only disk that a shim complains, and its words go to that disk."""
    full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115  # what it keeps of the words fails again at the end
    monkeypatch.setattr(sys, "stderr", full)
    files.complain("exit.json could not be written")
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space left"):
        full.close()
