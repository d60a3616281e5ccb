"""The whole `tsched validate` process beside check-jsonschema's, on the same agents' files, in one run.

That both say the same of each file is tested by tests/integration/test_corpus.py.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.bench.conftest import Figures
from tests.integration.test_corpus import FORMS

ROOT = Path(__file__).parent.parent.parent
POOL = "apiVersion: tsched/v1\nkind: Pool\nname: {name}\nmax_running: 80\ndefaults: {{limit: 2}}\nagents:\n"
PER_POOL = 100
SIZES = (1_000, 3_000, 10_000)  # agents, each with a recipe file
FASTER, FASTER_THAN_C = 15, 5  # times, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Seconds of wall time, and KiB resident at most."""

    seconds: float
    memory: int


def fleet(root: Path, agents: int) -> Path:
    """A fleet of that many agents, each with a recipe file of its own, like this repository's."""
    (root / "pools").mkdir(parents=True)
    (root / "recipes").mkdir()
    recipe = (ROOT / "recipes/vaela.yaml").read_text()
    for start in range(0, agents, PER_POOL):
        names = [f"agent-{number:05d}" for number in range(start, min(start + PER_POOL, agents))]
        lines = "".join(f"  - name: {name}\n    limit: 3\n" for name in names)
        (root / f"pools/pool-{start:05d}.yaml").write_text(POOL.format(name=f"pool-{start:05d}") + lines)
        for name in names:
            (root / f"recipes/{name}.yaml").write_text(recipe.replace("title: ", f"title: {name} ", 1))
    return root


# A process counts its parent's memory as its own until it executes, so the parent has to be a small one.
LAUNCHER = """
import os, sys, time
begun = time.perf_counter()
quiet = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), time.perf_counter() - begun, usage.ru_maxrss)
"""


def cost(command: Sequence[str], folder: Path) -> Cost:
    """Run a process to its end; its exit code must be 0."""
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, *command]
    done = subprocess.run(launcher, cwd=folder, capture_output=True, text=True, check=True)
    code, seconds, memory = done.stdout.split()
    assert code == "0", done.stderr
    return Cost(seconds=float(seconds), memory=int(memory))


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """`pure`, `fast`: check-jsonschema's as pip installs it, and with its YAML reader in C."""

    ours: Cost
    pure: Cost
    fast: Cost


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Costs]:
    """By number of agents, measured when first asked for. The quick ones, so the more easily disturbed, are the best
    of some tries."""

    @cache
    def measured(agents: int) -> Costs:
        root = fleet(tmp_path_factory.mktemp("fleet") / str(agents), agents)
        recipes = [str(path) for path in sorted((root / "recipes").iterdir())]
        python, words = sys.executable, ["--schemafile", str(ROOT / "schemas/recipe.schema.json"), *recipes]
        tries = [cost([python, "-m", "tsched", "validate", "."], root) for _ in range(5)]
        fast = [cost([python, "-c", FORMS["libyaml"], *words], root) for _ in range(2)]
        return Costs(
            ours=min(tries, key=lambda one: one.seconds),
            pure=cost([python, "-c", FORMS["python"], *words], root),
            fast=min(fast, key=lambda one: one.seconds),
        )

    return measured


@pytest.mark.parametrize("agents", SIZES)
def test_faster_than_check_jsonschema_and_no_larger(
    costs: Callable[[int], Costs], agents: int, figure: Figures
) -> None:
    ours, pure, fast = (one := costs(agents)).ours, one.pure, one.fast
    size, bars = f"{agents:,} files", (FASTER, FASTER_THAN_C) if agents == SIZES[-1] else (None, None)
    met = [
        figure("check-jsonschema / tsched validate", size, pure.seconds / ours.seconds, least=bars[0]),
        figure("the same with its YAML in C", size, fast.seconds / ours.seconds, least=bars[1]),
        figure("memory of tsched validate / check-jsonschema", size, ours.memory / pure.memory, most=1),
    ]
    assert all(met)


def test_growth_is_linear(costs: Callable[[int], Costs], figure: Figures) -> None:
    grown = costs(SIZES[-1]).ours.seconds / costs(SIZES[0]).ours.seconds
    assert figure("tsched validate of ten times as much", "10,000 / 1,000 files", grown, most=11)
