"""The whole runner over a real API server, killed before and after it has asked for a Job."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.world import World, pool
from tests.integration.local_runs import wait_for
from tests.integration.test_kubernetes_runner import LIMITS
from tests.kubernetes.control import RUNNER, Control
from tests.kubernetes.node import Node

HERE = Path(__file__).parents[2]
STARTS = "runner.launch._launch > executors.kubernetes.executor.start"


def once(world: World, **environ: str) -> int:
    """A pass by a process of its own: its exit code."""
    settings = {**world.environ, "PYTHONPATH": str(HERE), **environ}
    command = [sys.executable, "-m", "tests.kubernetes.any_version", "run", "--once"]
    return subprocess.run(
        command, env=settings, cwd=world.root, capture_output=True, timeout=120, check=False
    ).returncode


@pytest.mark.parametrize(
    ("point", "jobs", "outcomes"), [("Job to be asked for", 0, ["interrupted"]), ("Job asked for", 1, [])]
)
def test_a_runner_killed_around_its_request_runs_the_task_once(
    tmp_path: Path, control: Control, node: Node, point: str, jobs: int, outcomes: list[str]
) -> None:
    node.work = lambda run_id: tmp_path / "work" / run_id
    world = World(tmp_path / "world")
    world.environ |= {"KUBECONFIG": str(control.kubeconfig("runner", {"token": RUNNER}))}
    world.fleet(dev=pool("dev", "ada"), limits=LIMITS)
    task, struck = world.add("work"), tmp_path / "struck"
    assert once(world, TSCHED_FAILPOINT=f"{STARTS}: {point}", TSCHED_FAILPOINT_FILE=str(struck)) == -9
    assert struck.exists()
    assert len(control.all("jobs")) == jobs
    wait_for(lambda: once(world) == 0 and world.task(task)["status"] == "complete" and not world.leases(), seconds=90)
    assert world.outcomes(task) == [*outcomes, "complete"]
    assert len(node.processes) == 1
    (log,) = (world.state / "logs" / "runs").glob("*.log")
    assert log.read_text() == "title: T\ndescription: D\nprompt: Do it.\n"
