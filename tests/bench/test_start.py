"""How long the commands that people wait for take to start, beside `python -c 'import typer'`: processor time.

All of them in turn, so that a machine that gets slower does so for all; medians.
"""

import os
import resource
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.bench.conftest import Figures
from tests.e2e.world import LIMITS, World, pool
from tsched.cli.main import main
from tsched.executors.shim.life import LOST_THE_FENCE

ROUNDS = 15
SIZES = (10, 100, 1_000)  # agents
HELP, STATUS = 1.5, 2.0  # times, at most


def cost(command: Sequence[str], environ: Mapping[str, str]) -> float:
    """Seconds of processor time of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    quiet = [(os.POSIX_SPAWN_OPEN, handle, os.devnull, os.O_WRONLY, 0) for handle in (1, 2)]
    pid = os.posix_spawn(command[0], tuple(command), environ, file_actions=quiet)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in (0, LOST_THE_FENCE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def medians(commands: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> Mapping[str, float]:
    """Milliseconds of each, taken in turn."""
    taken = [{name: cost(command, environ) for name, command in commands.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(one[name] for one in taken) * 1000 for name in commands}


@pytest.mark.parametrize("agents", SIZES)
def test_help_and_status_start_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agents: int, figure: Figures
) -> None:
    world = World(tmp_path)
    world.recipes(*(f"agent-{number:04d}" for number in range(agents)))
    world.push("fleet", limits=LIMITS, dev=pool("dev", *(f"agent-{number:04d}" for number in range(agents))))
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    assert main(["run", "--once"]) == 0
    python = sys.executable
    found = medians(
        {
            "typer": [python, "-c", "import typer"],
            "help": [python, "-m", "tsched", "--help"],
            "status": [python, "-m", "tsched", "status"],
        },
        world.environ,
    )
    size = f"{agents:,} agents"
    fast = figure("tsched --help / import typer", size, found["help"] / found["typer"], most=HELP)
    assert figure("tsched status / import typer", size, found["status"] / found["typer"], most=STATUS) and fast
