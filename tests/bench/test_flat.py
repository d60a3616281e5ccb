"""5,000 cycles of one process over an unchanged remote: file descriptors level, memory level, no process started.

Memory is compared between the second and the last fifth, so that caches and the allocator have settled.
"""

import os
import resource
from contextlib import closing
from pathlib import Path

from tests.e2e.world import World, pool
from tsched.runner.cycle import cycle
from tsched.runner.host import open_host
from tsched.settings import load
from tsched.state.lock import RunnerLock

CYCLES = 5000
NOISE = 1.03  # allocator noise; a leak of 1 KiB a cycle would be 1.08 at 60 MiB


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_descriptors_memory_and_children_stay_level(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.fleet(dev=pool("dev", "ada", "ben"), qa=pool("qa", "cy"))
    for number in range(20):
        world.add(f"waits {number}", queue="unserved")
    environ = {key: value for key, value in world.environ.items() if not key.startswith("GIT_")}
    seen: list[tuple[int, int]] = []
    with closing(open_host(load(environ=environ, cwd=tmp_path))) as host, RunnerLock(host.folder) as lock:
        for _ in range(CYCLES // 5):
            cycle(host, lock)
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        for _ in range(4):
            for _ in range(CYCLES // 5):
                cycle(host, lock)
            seen.append((len(os.listdir("/proc/self/fd")), resident()))
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    print(f"\n{CYCLES} cycles: descriptors {[fds for fds, _ in seen]}, MiB {[size >> 20 for _, size in seen]}")
    assert len({fds for fds, _ in seen}) == 1
    assert seen[-1][1] <= seen[0][1] * NOISE
    assert after == children, "a cycle with nothing new started a process"
