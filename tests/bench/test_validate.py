"""The whole `tsched validate` process beside check-jsonschema's, on the same agents' files, in one run."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
POOL = "apiVersion: tsched/v1\nkind: Pool\nname: {name}\nmax_running: 80\ndefaults: {{limit: 2}}\nagents:\n"
PER_POOL = 100
FASTER = 10  # times, at least


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


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Cost, Cost]]:
    """Ours and check-jsonschema's, by number of agents."""
    found = {}
    for agents in (1_000, 10_000):
        root = fleet(tmp_path_factory.mktemp("fleet") / str(agents), agents)
        recipes = [str(path) for path in sorted((root / "recipes").iterdir())]
        schema = str(ROOT / "schemas/recipe.schema.json")
        ours = min((cost([sys.executable, "-m", "tsched", "validate", "."], root) for _ in range(2)),
                   key=lambda one: one.seconds)  # fmt: skip
        theirs = cost([sys.executable, "-m", "check_jsonschema", "--schemafile", schema, *recipes], root)
        found[agents] = (ours, theirs)
        print(
            f"\nvalidate {agents:6} agents: tsched {ours.seconds:6.2f} s {ours.memory >> 10:4} MiB, check-jsonschema "
            f"{theirs.seconds:6.2f} s {theirs.memory >> 10:4} MiB: {theirs.seconds / ours.seconds:.1f} times faster"
        )
    return found


@pytest.mark.parametrize("agents", [1_000, 10_000])
def test_faster_than_check_jsonschema_and_no_larger(costs: dict[int, tuple[Cost, Cost]], agents: int) -> None:
    ours, theirs = costs[agents]
    assert theirs.seconds / ours.seconds >= FASTER
    assert ours.memory <= theirs.memory


def test_growth_is_linear(costs: dict[int, tuple[Cost, Cost]]) -> None:
    assert costs[10_000][0].seconds / costs[1_000][0].seconds <= 11
