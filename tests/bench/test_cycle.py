"""A pass with nothing new, beside one bare `git ls-remote` of the same remote: processor time, and growth.

Processor time, since a shared machine's wall time measures its neighbours: of ls-remote as its process used it, of a
pass as this process used it. The remote is a folder, then a web server: libgit2 speaks both, no process is started.
"""

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench.conftest import Figures
from tests.bench.idle import Resting, resting
from tests.integration.git_server import served_apart
from tsched.gitops import refs
from tsched.runner.cycle import cycle

ROUNDS = 25
SETTLE = 4  # passes: until then every run's shim is watched


def used(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def cost(act: Callable[[], object], *who: int) -> float:
    """Milliseconds of processor time."""
    before = sum(used(one) for one in who)
    act()
    return (sum(used(one) for one in who) - before) * 1000


def measured(one: Resting) -> tuple[float, float, float]:
    """Medians of ls-remote, of what the task server is asked, and of a pass."""
    for _ in range(SETTLE):
        cycle(one.host, one.lock)
    while (
        refs.mark(str(one.world.remote), "main") is None
    ):  # pushed to a moment ago, it may be again unseen by its files
        time.sleep(0.1)
    bare = ["git", "ls-remote", one.remote, "refs/heads/main"]
    found = [
        (
            cost(lambda: subprocess.run(bare, check=True, stdout=subprocess.DEVNULL), resource.RUSAGE_CHILDREN),
            cost(one.ask_server, resource.RUSAGE_SELF),
            cost(lambda: cycle(one.host, one.lock), resource.RUSAGE_SELF),
        )
        for _ in range(ROUNDS)
    ]
    ls, server, whole = (statistics.median(column) for column in zip(*found, strict=True))
    return ls, server, whole


@pytest.mark.parametrize("by", ["path", "http"])
@pytest.mark.parametrize(("agents", "running"), [(1_000, 100), (3_000, 300), (10_000, 1_000)])
def test_a_pass_with_nothing_new(tmp_path: Path, figure: Figures, agents: int, running: int, by: str) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(served_apart(tmp_path)) if by == "http" else ""
        one = stack.enter_context(resting(tmp_path, agents=agents, running=running, waiting=agents, server=server))
        descriptors = len(os.listdir("/proc/self/fd"))
        ls, server_time, whole = measured(one)
        assert len(os.listdir("/proc/self/fd")) <= descriptors + running + 2  # a pidfd a run, their poll, inotify
    size = f"by {by}, {agents:,} agents, {running:,} running ({whole:.1f}, {ls:.1f} ms)"
    assert figure("a pass with nothing new / git ls-remote", size, (whole - server_time) / ls, most=0.5)
