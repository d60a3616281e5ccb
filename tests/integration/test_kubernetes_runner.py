"""The whole runner over the tests' own Kubernetes (kube_cluster.py says what that is)."""

from pathlib import Path

import pytest

pytest.importorskip("kubernetes", reason="the extra `kubernetes` is not installed")

from tests.e2e.world import World, pool
from tests.integration.kube_cluster import cluster_at

LIMITS = """\
apiVersion: tsched/v1
kind: Limits
loop_interval: 100ms
retry: {attempts: 2, backoff: 50ms}
executor: kubernetes
kubernetes: {image: agents/goose}
runtimes:
  work: {argv: [sh, -c, 'cat "$0"', "{recipe}"], evidence: exit}
"""
POINT = "runner.launch._launch > executors.kubernetes.executor.start: Job to be asked for"


def test_a_runner_killed_as_it_asks_for_a_job_starts_the_task_once_more_and_once_alone(tmp_path: Path) -> None:
    with cluster_at(tmp_path / "cluster", lambda run_id: tmp_path / "work" / run_id) as cluster:
        world = World(tmp_path / "world")
        world.environ |= {"KUBECONFIG": str(cluster.kubeconfig())}
        world.fleet(dev=pool("dev", "ada"), limits=LIMITS)
        task = world.add("work")
        killed = world.run("run", "--once", TSCHED_FAILPOINT=POINT, TSCHED_FAILPOINT_FILE=str(tmp_path / "struck"))
        assert (killed.returncode, (tmp_path / "struck").exists()) == (-9, True)
        with world.daemon():
            world.wait_status(task, "complete")
            world.settled()
        assert world.outcomes(task) == ["interrupted", "complete"]
        fences = [one for one in cluster.all("jobs") if one["spec"]["completions"] == 0]
        assert len(fences) == len(cluster.all("jobs")) == 1
        assert len(cluster.processes) == 1
        (log,) = (world.state / "logs" / "runs").glob("*.log")
        assert log.read_text() == "title: T\ndescription: D\nprompt: Do it.\n"
        assert world.leases() == []
