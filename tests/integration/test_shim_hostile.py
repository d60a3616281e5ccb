"""Agents that mean harm or know no better: none outlives its run, fills the disk, or takes more than it may."""

import json
import os
import resource
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.local_runs import R1, Place, launch_of, python, shell, wait_for
from tsched.executors import cgroups, evidence, processes
from tsched.executors.executor import Launch, Liveness
from tsched.executors.limits import limits
from tsched.executors.shim import files as shim_files
from tsched.executors.shim.group import Group
from tsched.executors.shim.log import Log
from tsched.executors.shim.progress import Progress
from tsched.model.fleet import Resources
from tsched.model.run import ExitReason, RunExit

MIB = 1 << 20
no_groups = pytest.mark.skipif(
    cgroups.here().base is None or not os.path.exists(f"{cgroups.here().base}/cgroup.procs"),
    reason="no cgroup v2 that we may write to on this host",
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def noted(path: Path) -> int:
    """A pid that a process of the run wrote into a file."""
    return wait_for(lambda: int(text) if path.exists() and (text := path.read_text().strip()) else None)


# -- what leaves without a trace -------------------------------------------------------------------------------------

ESCAPE = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.chdir("/")
        null = os.open("/dev/null", os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        with open({mark!r} + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename({mark!r} + ".new", {mark!r})
        os.execve("/bin/sleep", ["sleep", "300"], {{}})
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while not os.path.exists({mark!r}):
    time.sleep(0.01)
{then}
"""


def escaping(mark: Path, then: str = "time.sleep(300)", *, max_runtime: float = 600) -> Launch:
    """A daemon of a daemon, deaf, in a session of its own, with no environment, no folder and no log of its run's."""
    script = ESCAPE.format(mark=str(mark), then=then)
    return launch_of(python(script), stop_grace=0.2, max_runtime=max_runtime)


@no_groups
def test_a_daemon_without_a_trace_goes_where_its_shim_was_killed(place: Place, tmp_path: Path) -> None:
    run_id = place.launch(escaping(tmp_path / "daemon"))
    daemon, pid = noted(tmp_path / "daemon"), place.until_running()["pid"]
    group = place.runs / R1 / "spec.json"
    folder = Path(json.loads(group.read_text())["cgroup"])
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: processes.look(pid) is None)
    assert processes.run_id_of(wait_for(lambda: processes.look(daemon))) == ""
    place.executor = place.another()
    place.until(run_id, Liveness.LOST)
    end = wait_for(lambda: place.executor.recover(run_id))
    assert end.reason is ExitReason.SHIM_DIED
    assert processes.look(daemon) is None
    assert not folder.exists()


@pytest.mark.parametrize(
    ("then", "max_runtime", "ends"),
    [
        ("raise SystemExit(0)", 600, ExitReason.EXITED),
        ("time.sleep(300)", 600, ExitReason.STOPPED),
        ("time.sleep(300)", 3, ExitReason.TIMEOUT),
    ],
)
def test_nothing_is_left_however_a_run_ends(
    place: Place, tmp_path: Path, then: str, max_runtime: float, ends: ExitReason
) -> None:
    run_id = place.launch(escaping(tmp_path / "daemon", then, max_runtime=max_runtime))
    daemon = noted(tmp_path / "daemon")
    end = place.finish(run_id) if ends is ExitReason.STOPPED else place.ended(run_id)
    assert end.reason is ends
    assert processes.look(daemon) is None
    base = cgroups.here().base
    assert base is None or not (base / f"tsched-{run_id}").exists()


def test_a_run_goes_on_where_no_group_can_be_made(place: Place) -> None:
    place.prepare(launch_of(shell("exit 4")))
    spec = place.runs / R1 / "spec.json"
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "cgroup": f"/nowhere/tsched-{R1}"}))
    place.executor.start(R1)
    assert place.ended(R1).exit_code == 4
    assert "no cgroup" in (place.runs / R1 / "shim.log").read_text()


def test_a_run_that_an_older_version_prepared_ends_well(place: Place) -> None:
    """Its record lacks what came later; its agent, left by a killed shim, speaks into the log itself."""
    place.prepare(launch_of(shell("echo said; exit 4")))
    spec = place.runs / R1 / "spec.json"
    newer = ("log_max", "user", "cgroup", "limits")
    spec.write_text(json.dumps({key: one for key, one in json.loads(spec.read_text()).items() if key not in newer}))
    place.executor.start(R1)
    assert place.ended(R1).exit_code == 4
    assert place.log(R1) == "said\n"
    (place.runs / R1 / "exit.json").unlink()
    script = f"cd /; exec env -i sleep 300 >> {place.logs / R1}.log 2>&1"
    left = subprocess.Popen(["sh", "-c", f"({script}) & echo $! > {place.root}/pid; exit"], start_new_session=True)
    left.wait()
    facts = {"agent_pid": left.pid, "agent_start": 1, "boot_id": processes.boot_id()}
    (place.runs / R1 / "agent.json").write_text(json.dumps(facts))
    place.executor = place.another()
    place.until(R1, Liveness.LOST)
    assert wait_for(lambda: place.executor.recover(R1)) is not None
    assert processes.look(int((place.root / "pid").read_text())) is None


def test_a_groups_name_that_was_tampered_with_is_none(tmp_path: Path) -> None:
    """An agent of the runner's own user could write it there: nothing but that run's group is ever killed."""
    (tmp_path / f"tsched-{R1}").mkdir()
    assert cgroups.group_of(str(tmp_path / f"tsched-{R1}"), R1) is not None
    for path in (tmp_path, tmp_path / f"tsched-{R1}" / "..", tmp_path / "tsched-other", "", None, 7):
        assert cgroups.group_of(str(path) if isinstance(path, Path) else path, R1) is None


# -- output ----------------------------------------------------------------------------------------------------------


def capped(place: Place, launch: Launch, most: int = MIB) -> tuple[RunExit, bytes, int]:
    """The end of a run whose log is capped, its log, and the most that it ever took of the disk."""
    place.executor = place.another(log_max=most)
    place.launch(launch)
    log, largest = place.logs / f"{R1}.log", 0
    while place.executor.poll()[R1] is Liveness.ALIVE:
        if log.exists():
            stat = log.stat()
            largest = max(largest, stat.st_size, stat.st_blocks * 512)
    end = place.executor.exit(R1)
    assert end is not None
    return end, log.read_bytes(), largest


RESULT = '{"type": "result", "is_error": false, "usage": {"input_tokens": 5, "output_tokens": 7}}'


def test_a_flood_never_takes_more_of_the_disk_than_is_allowed(place: Place) -> None:
    """`yes` for real, as fast as it can: forty times the log. Then its last word still proves the work."""
    flood = f"echo '{{\"first\": 1}}'; yes '{{\"a\": 1}}' | head -c {40 * MIB}; echo '{RESULT}'"
    check = f"yes check | head -c {4 * MIB}; echo; echo checked; false"
    launch = launch_of(shell(flood))
    end, log, largest = capped(place, replace(launch, recipe=replace(launch.recipe, checks=(check,))))
    assert end.exit_code == 0
    assert end.unmet.endswith("exit status 1: checked")
    assert largest <= MIB + 4096  # blocks are whole
    assert len(log) <= MIB
    lines = log.splitlines()
    seam = [index for index, line in enumerate(lines) if line.startswith(b"[tsched: ")]
    assert len(seam) == 1
    left_out = int(lines[seam[0]].split()[1])
    assert left_out + len(log) - len(lines[seam[0]]) - 1 > 44 * MIB
    assert set(lines[1 : seam[0]]) == {b'{"a": 1}'}  # whole lines up to the seam
    assert lines[0] == b'{"first": 1}'
    assert place.executor.head(R1).startswith('{"first": 1}\n')
    assert place.executor.tail(R1, lines=1) == "checked"


def test_what_a_flooding_agent_says_last_still_counts(place: Place) -> None:
    _, log, _ = capped(place, launch_of(shell(f"yes | head -c {5 * MIB}; echo '{RESULT}'")))
    text = log.decode()
    assert evidence.evidence("claude", text)
    found = evidence.usage("claude", text)
    assert found is not None
    assert (found.input_tokens, found.output_tokens) == (5, 7)


def test_a_document_that_the_seam_cuts_is_passed_over(place: Place) -> None:
    """One endless line: half of it may not be taken for what it is not."""
    long = "x" * 3 * MIB
    script = f'print(\'{{"type": "result", "text": "\' + {len(long)} * \'x\' + \'"}}\'); print({RESULT!r})'
    _, log, _ = capped(place, launch_of(python(script)))
    assert len(log) <= MIB
    found = evidence.usage("claude", log.decode())
    assert found is not None
    assert found.output_tokens == 7


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the shim waits for it; here any thread may get it
    made = Log({"log": str(tmp_path / "log"), "log_max": MIB, "user": None})
    made.open()
    yield made
    for handle in (made.file, made.source, made.sink):
        os.close(handle)
    signal.signal(signal.SIGIO, before)


def test_a_log_that_is_cut_is_still_seen_to_grow(log: Log) -> None:
    """What the agent said is counted, not the file: a run at the cap makes progress."""
    spec: Mapping[str, object] = {"stall": 600, "cwd": "/nowhere"}
    progress = Progress(dict(spec), log)
    progress.moved(1.0)
    for _ in range(60):
        os.write(log.sink, b"y\n" * 20_000)
        assert progress.heard != log.heard + log.drain()
        assert progress.moved(1.0)
    assert os.stat(log.path).st_size <= MIB
    assert log.last(log.heard - 4) == b"y\ny\n"


def test_a_stranger_who_speaks_into_the_pipe_for_ever_keeps_no_run_from_ending(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was handed the pipe is no process of the run: what the run itself said is in it when it has ended."""
    os.write(log.sink, b"the run's last word\n")
    drain, calls = Log.drain, iter(range(100))

    def flooded(self: Log) -> int:
        taken = drain(self)
        os.write(self.sink, b"y\n" * 10_000)
        next(calls)  # StopIteration: it goes on and on
        return taken

    monkeypatch.setattr(Log, "drain", flooded)
    log.empty()
    assert Path(log.path).read_bytes().startswith(b"the run's last word\n")


def test_a_full_disk_ends_no_output_and_is_told_afterwards(log: Log) -> None:
    whole, log.file = log.file, os.open("/dev/full", os.O_RDWR)
    log.write(b"lost\n")
    os.close(log.file)
    log.file = whole
    log.write(b"kept\n")
    assert b"5 bytes of output could not be written" in Path(log.path).read_bytes()
    assert Path(log.path).read_bytes().endswith(b"kept\n")


def test_the_shims_own_words_have_an_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(shim_files, "WORDS", iter(range(3)))
    for _ in range(9):
        shim_files.complain("the disk is full")
    assert capsys.readouterr().err == "the disk is full\n" * 3


# -- limits ----------------------------------------------------------------------------------------------------------

ALL = Resources(cpus=1.5, memory=3 << 30, processes=300, open_files=128, file_size=1 << 20)


def test_each_process_has_the_limits_that_no_group_holds(place: Place) -> None:
    names = ("CORE", "NOFILE", "FSIZE", "DATA", "NPROC")
    script = f"import resource; print([resource.getrlimit(getattr(resource, 'RLIMIT_' + n)) for n in {names!r}])"
    place.launch(launch_of(python(script), resources=ALL))
    assert place.ended(R1).exit_code == 0, place.log(R1)
    core, files, size, data, number = json.loads(place.log(R1).replace("(", "[").replace(")", "]"))
    assert (core, files, size) == ([0, 0], [128, 128], [1 << 20, 1 << 20])
    if not cgroups.here().controllers:
        assert (data, number) == ([3 << 30, 3 << 30], [300, 300])


def test_without_resources_nothing_is_limited_but_core_dumps(place: Place) -> None:
    own = [list(resource.getrlimit(resource.RLIMIT_NOFILE))]
    script = "import resource as r; print([[*r.getrlimit(r.RLIMIT_NOFILE)]], r.getrlimit(r.RLIMIT_CORE)[1])"
    place.launch(launch_of(python(script)))
    place.ended(R1)
    assert place.log(R1) == f"{own} 0\n"


def test_an_agent_that_takes_too_much_memory_gets_none(place: Place) -> None:
    script = "held = bytearray(256 << 20); held[:] = bytes(len(held)); print('had it')"
    place.launch(launch_of(python(script), resources=Resources(memory=96 << 20)))
    end = place.ended(R1)
    assert end.exit_code
    assert "had it" not in place.log(R1)
    if "memory" in cgroups.here().controllers:
        assert "its memory limit was reached" in end.detail
    else:
        assert "MemoryError" in place.log(R1)


def test_a_file_that_grows_too_large_ends_its_writer(place: Place) -> None:
    place.launch(launch_of(shell("exec head -c 3000000 /dev/zero > big"), resources=Resources(file_size=1 << 20)))
    end = place.ended(R1)
    assert end.exit_code in (1, 128 + signal.SIGXFSZ)
    assert (place.workspaces / R1 / "big").stat().st_size == 1 << 20


def group(folder: Path, *files: str) -> Group:
    """A folder that looks like a group to whoever writes to it. Controllers can't be had on every test machine."""
    folder.mkdir()
    (folder / "cgroup.type").write_text("domain\n")
    for name in files:
        (folder / name).touch()
    return Group({"cgroup": str(folder)})


def test_a_group_is_told_each_limit_that_it_has_a_controller_for(tmp_path: Path) -> None:
    ours = group(tmp_path / "g", "memory.max", "memory.swap.max", "pids.max")
    ours.make([dict(one) for one in limits(ALL)])
    assert ours.held == ["memory", "processes"]  # and cpus nobody holds; the others are each process's own
    told = {name: (tmp_path / "g" / name).read_text() for name in ("memory.max", "memory.swap.max", "pids.max")}
    assert told == {"memory.max": str(3 << 30), "memory.swap.max": "0", "pids.max": "300"}


def test_limits_in_the_kernels_words() -> None:
    found = {str(one["name"]): (one["files"], one["rlimit"], one["most"]) for one in limits(ALL)}
    assert found["cpus"] == ({"cpu.max": "150000 100000"}, "", 0)
    assert found["memory"][1] == "RLIMIT_DATA"  # RLIMIT_AS would end node at its start
    assert found["open_files"] == ({}, "RLIMIT_NOFILE", 128)
    assert limits(Resources()) == []


ENDED = "processes that the kernel ended"


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ("low 0\nhigh 0\nmax 31\noom 1\noom_kill 2\n", f"its memory limit was reached ({ENDED}: 2)"),
        ("oom 0\noom_kill 1\n", f"the machine had no memory left ({ENDED}: 1)"),
        ("oom 4\noom_kill 0\n", ""),
        (None, ""),
    ],
)  # fmt: skip
def test_an_end_for_want_of_memory_says_so(tmp_path: Path, events: str | None, words: str) -> None:
    ours = group(tmp_path / "g")
    if events is not None:
        (tmp_path / "g" / "memory.events").write_text(events)
    assert ours.starved() == words
