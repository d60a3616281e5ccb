"""Filling free slots in one pass, beside its floor: a durable lease, a bare Python and a bare process for each.

Processor time: of this process, of those that it waited for, of the server that forks the shims, and of each shim and
agent until its lease says that it runs, which a process beside sees: what a shim spends afterwards, while the pass
goes on, is no part of filling. The floor starts what it starts without waiting for it, as the pass does.
Wall time is shown beside it: on a shared machine it measures the neighbours too, but what waits for the disk is in it
alone.

A thousand shims are more than a small machine has processors for. So the agents sleep, each run ends by itself after
MOST, and whatever happens here all of them are ended.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from tests.bench.conftest import Figures
from tests.bench.idle import LIMITS, POOL, RUNTIME, fill
from tests.e2e.world import RECIPE, World
from tsched.executors import processes
from tsched.model.units import count
from tsched.runner.cycle import cycle
from tsched.runner.host import Host, open_host
from tsched.settings import load
from tsched.state.folder import write_durably
from tsched.state.lock import RunnerLock

SLOTS = 10  # of an agent
PATIENCE = 300.0  # seconds
MOST = "max_runtime: 6m\nheartbeat: 60s\n"
LOOK = 0.2  # seconds between two looks at the leases
BAR = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Seconds: processor time (the runner's own, its server's and the runs') and wall time."""

    own: float
    runs: float
    wall: float

    @property
    def processor(self) -> float:
        return self.own + self.runs


@contextmanager
def empty(folder: Path, slots: int) -> Iterator[tuple[Host, RunnerLock]]:
    """A host with so many free slots, whose fleet is applied, and as many tasks that came since."""
    world = World(folder)
    names = [f"agent-{number:03d}" for number in range(slots // SLOTS)]
    world.recipes(*names, text=RECIPE)
    agents = "".join(f"  - {{name: {name}, limit: {SLOTS}}}\n" for name in names)
    limits = LIMITS.format(running=slots, extra=MOST) + RUNTIME
    world.push("fleet", limits=limits, dev=POOL.format(name="dev", agents=agents))
    environ = {key: value for key, value in world.environ.items() if not key.startswith("GIT_")}
    with closing(open_host(load(environ=environ, cwd=folder))) as host, RunnerLock(host.folder) as lock:
        cycle(host, lock)
        fill(world, ["dev"], slots)
        try:
            yield host, lock
        finally:
            end_all(folder)


def below(folder: Path) -> Iterator[int]:
    """The shims and agents of a state folder in this folder."""
    for process in processes.everything():
        with suppress(OSError):
            command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            if f"{folder}/".encode() in command or Path(f"/proc/{process.pid}/cwd").readlink().is_relative_to(folder):
                yield process.pid


def end_all(folder: Path) -> None:
    until = time.monotonic() + PATIENCE
    while (left := list(below(folder))) and time.monotonic() < until:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK)


def used() -> float:
    """Seconds of processor time of this process and of those that it has waited for."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def used_by(pid: object) -> float:
    """The same of a living process, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def filling(folder: Path, slots: int) -> Cost:
    """One pass, until each of its agents is `sleep`."""
    with empty(folder, slots) as (host, lock), watched(host, slots) as spent:
        before, begun = used(), time.perf_counter()
        cycle(host, lock)
        own = used() - before
        runs = float(spent.readline())
        return Cost(own=own, runs=runs + used_by_server(host), wall=time.perf_counter() - begun)


@contextmanager
def watched(host: Host, slots: int) -> Iterator[IO[str]]:
    """A process that says what all shims and agents have spent, each at the moment when it is seen to run."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(theirs, f"{sum(until_all_run(host, slots).values())}\n".encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as told:
        try:
            yield told
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def until_all_run(host: Host, slots: int) -> Mapping[str, float]:
    """What shim and agent of each task have spent when they were first seen to run."""
    spent: dict[str, float] = {}
    until = time.monotonic() + PATIENCE
    while len(spent) < slots and time.monotonic() < until:
        time.sleep(LOOK)
        for task, lease in host.leases.read_all().leases.items():
            if task not in spent and lease.state == "running":
                spent[task] = used_by(lease.pid) + used_by(lease.agent_pid)
    return spent if len(spent) == slots else {}


def used_by_server(host: Host) -> float:
    """Of the process that forks the shims, if there is one."""
    server = host.executor._shims._server  # type: ignore[attr-defined]
    return 0.0 if server is None else used_by(server.pid)


def floor(folder: Path, slots: int) -> Cost:
    """What no runner can do without, its parts one after another."""
    folder.mkdir()
    python, bare = (sys.executable, "-I", "-S", "-c", "pass"), ("/bin/true",)
    before, begun, children = used(), time.perf_counter(), []
    text = "x" * 700  # as long as a lease
    for number in range(slots):
        write_durably(folder / f"task_{number}.json", text)
        children += [os.posix_spawn(command[0], command, {}) for command in (python, bare)]
    for pid in children:
        os.waitpid(pid, 0)
    return Cost(own=used() - before, runs=0.0, wall=time.perf_counter() - begun)


@pytest.mark.parametrize("slots", [100, 300, 1_000])
def test_filling_free_slots(tmp_path: Path, slots: int, figure: Figures) -> None:
    least = floor(tmp_path / "floor", slots)
    ours = filling(tmp_path / "world", slots)
    assert ours.runs, "some never ran"
    each = 1000 / slots
    print(
        f"\n{ours.own * each:.2f} ms each here, {ours.runs * each:.2f} in shims and agents; floor "
        f"{least.processor * each:.2f}; wall {ours.wall / least.wall:.2f} times ({ours.wall:.1f} s)"
    )
    assert figure(
        "filling free slots / a lease, a Python and a process each", count(slots, "slot"),
        ours.processor / least.processor, most=BAR,
    )  # fmt: skip
