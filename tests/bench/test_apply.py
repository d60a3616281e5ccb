"""Applying a commit that changes one agent, beside one bare `git fetch` of the same commit: processor time, growth.

Of both the time of all their processes: the pass fetches by git too.
"""

import resource
import statistics
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench.conftest import Figures
from tests.bench.idle import Resting, resting
from tests.bench.test_cycle import cost
from tsched.runner.cycle import cycle

ROUNDS = 9
SIZES = (1_000, 3_000, 10_000)


def fetched(mirror: Path, remote: str) -> None:
    here = ["git", f"--git-dir={mirror}", "-c", "gc.auto=0", "-c", "maintenance.auto=false"]
    subprocess.run([*here, "fetch", "-q", remote, "+refs/heads/main:refs/heads/main"], check=True)


def measured(one: Resting, mirror: Path, number: int) -> tuple[float, float]:
    """Milliseconds of a bare fetch and of a pass that applies, of one change."""
    one.change(number)
    bare = cost(lambda: fetched(mirror, one.remote), resource.RUSAGE_CHILDREN)
    generation = one.generation()
    whole = cost(lambda: cycle(one.host, one.lock), resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    assert one.generation() == generation + 1
    cycle(one.host, one.lock)
    return bare, whole


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[float, float]]:
    """Medians by size. All sizes in turns: a machine's good and bad moments are those of all of them."""
    found: dict[int, list[tuple[float, float]]] = {agents: [] for agents in SIZES}
    fleets: dict[int, tuple[Resting, Path]] = {}
    with ExitStack() as stack:
        for agents in SIZES:
            folder = tmp_path_factory.mktemp(f"fleet-{agents}")
            one = stack.enter_context(resting(folder / "world", agents=agents, running=10, waiting=100))
            fleets[agents] = one, folder / "bare.git"
            subprocess.run(["git", "clone", "-q", "--bare", one.remote, str(folder / "bare.git")], check=True)
            for _ in range(3):
                cycle(one.host, one.lock)
        for number in range(ROUNDS):
            for agents, (one, mirror) in fleets.items():
                found[agents].append(measured(one, mirror, number))
    return {agents: (middle(pairs, 0), middle(pairs, 1)) for agents, pairs in found.items()}


def middle(pairs: list[tuple[float, float]], column: int) -> float:
    return statistics.median(pair[column] for pair in pairs)


@pytest.mark.parametrize("agents", SIZES)
def test_a_commit_that_changes_one_agent(
    figures: dict[int, tuple[float, float]], figure: Figures, agents: int
) -> None:
    bare, whole = figures[agents]
    size = f"{agents:,} agents ({whole:.0f}, {bare:.0f} ms)"
    assert figure("applying a change of one agent / git fetch", size, whole / bare, most=2)


def test_it_grows_less_than_the_fleet(figures: dict[int, tuple[float, float]], figure: Figures) -> None:
    least, most = SIZES[0], SIZES[-1]
    grown = figures[most][1] / figures[least][1]
    assert figure("applying, growth", f"{least:,} to {most:,} agents", grown, most=1.5)
