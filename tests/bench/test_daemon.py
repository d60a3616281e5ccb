"""Five thousand passes of the daemon's own loop body, runs in progress and tasks waiting: nothing adds up.

File descriptors stay level, memory does not grow, no process is started.
"""

import os
import resource
import statistics
from pathlib import Path

from tests.bench.conftest import Figures
from tests.bench.idle import resting
from tsched.runner.loop import _pass
from tsched.runner.patience import Patience

PASSES, PARTS = 5_000, 20
WARM = 5  # parts: until then caches fill, and the allocator finds its size
MOST = 32  # KiB that a thousand passes may add: 32 bytes each, which is noise beside a page


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def children() -> float:
    """Seconds of processor time of all child processes that have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


def test_the_daemon_grows_by_nothing(tmp_path: Path, figure: Figures) -> None:
    with resting(tmp_path / "world", agents=100, running=20, waiting=100) as one:
        for db in (one.host.db, one.host.history):
            db.execute("PRAGMA cache_size=-64")  # KiB: full at once. SQLite's own 2 MiB take 4,500 passes to fill
        broken = Patience()
        memory, descriptors, started = [], [], []
        for _ in range(PARTS):
            for _ in range(PASSES // PARTS):
                _pass(one.host, one.lock, broken)
            memory.append(resident())
            descriptors.append(len(os.listdir("/proc/self/fd")))
            started.append(children())
    slope, _ = statistics.linear_regression(range(PARTS - WARM), memory[WARM:])
    size = f"{PASSES:,} passes, 20 runs, 100 tasks"
    met = [
        figure("descriptors that come or go", size, max(descriptors) - min(descriptors), most=0, unit=""),
        figure("memory that 1,000 passes add", size, slope * PARTS / PASSES * 1_000 / 1024, most=MOST, unit="KiB"),
        figure("time of child processes", size, started[-1] - started[0], most=0, unit="s"),
    ]
    assert all(met)
