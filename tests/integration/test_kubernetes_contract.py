"""The contract of executors, over Jobs of the tests' own Kubernetes (kube_cluster.py says what that is)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("kubernetes", reason="the extra `kubernetes` is not installed")

from tests.integration.executor_contract import ExecutorContract
from tests.integration.kube_cluster import cluster_at
from tests.integration.kube_place import KubePlace
from tests.integration.local_runs import Place, shell
from tsched.model.placement import Kubernetes


@pytest.fixture
def place(tmp_path: Path) -> Iterator[KubePlace]:
    with cluster_at(tmp_path / "cluster", lambda run_id: tmp_path / "workspaces" / run_id) as cluster:
        yield KubePlace(tmp_path, cluster)


class TestKubernetes(ExecutorContract):
    def test_an_agent_sees_its_own_variables_and_none_of_the_hosts(self, place: Place) -> None:
        """Nor those of TSCHED_PASS_ENV: who may read a Job could read them. What it needs comes from Secrets."""
        assert isinstance(place, KubePlace)
        place.environ = {**place.environ, "TSCHED_TASKS_TOKEN": "canary", "GIVEN": "canary"}
        place.executor = place.another(pass_env=("GIVEN",))
        place.cluster.secrets = {"keys": {"ALL": "of them", "api": "k"}, "other": {"api": "o$(ALL)"}}
        wanted = Kubernetes(image="i", secrets=("keys",), env=(("KEY", "other/api"),))
        place.launch(place.launch_of(shell("env"), kubernetes=wanted))
        place.ended(place.run_id)
        told = dict(line.partition("=")[::2] for line in place.log(place.run_id).splitlines())
        assert "canary" not in place.log(place.run_id)
        assert (told["ALL"], told["KEY"], told["TSCHED_RUN_ID"]) == ("of them", "o$(ALL)", place.run_id)

    def test_a_dead_shim_leaves_nothing_alive_and_its_end_is_found_once(self, place: Place) -> None:
        """There is no shim: see test_kubernetes.py for what may happen to a node and to a runner."""


def test_the_job_holds_no_secret_of_the_host(place: KubePlace) -> None:
    place.environ = {**place.environ, "TSCHED_TASKS_TOKEN": "canary"}
    place.executor = place.another(pass_env=("TSCHED_TASKS_TOKEN",))
    place.launch(place.launch_of(shell("true")))
    assert "canary" not in str(place.job())
