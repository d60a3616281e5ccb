"""Five thousand passes of the daemon's own loop body: descriptors stay level, memory does not grow."""

import os
import statistics
from pathlib import Path

from tests.bench.idle import resting
from tsched.runner.loop import _pass
from tsched.runner.patience import Patience

PASSES, PARTS = 5_000, 20
WARM = 5  # parts: until then caches fill, and the allocator finds its size
MOST = 0.05  # of all memory: what one thousand passes may add


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_the_daemon_grows_by_nothing(tmp_path: Path) -> None:
    with resting(tmp_path / "world", agents=100, running=20, waiting=100) as one:
        broken = Patience()
        memory, descriptors = [], []
        for _ in range(PARTS):
            for _ in range(PASSES // PARTS):
                _pass(one.host, one.lock, broken)
            memory.append(resident())
            descriptors.append(len(os.listdir("/proc/self/fd")))
    settled = memory[WARM:]
    slope, _ = statistics.linear_regression(range(len(settled)), settled)
    grown = slope * PARTS / PASSES * 1_000 / statistics.mean(settled)
    print(
        f"\ndaemon {PASSES} passes: {descriptors[0]} descriptors then {descriptors[-1]}, "
        f"{memory[0] / 2**20:.1f} MB then {memory[-1] / 2**20:.1f} MB, {grown:+.2%} each 1,000 passes"
    )
    assert len(set(descriptors[1:])) == 1
    assert grown < MOST
