"""Doctor's questions to what runs are for beside this machine. Slurm's own part is in tests/slurm."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.world import LIMITS, World, pool
from tests.integration.nodes import Door
from tsched.executors.nodes import Nodes
from tsched.model.finding import Standing
from tsched.runner.doctor import doctor
from tsched.runner.engines import places
from tsched.runner.folder import folder_of
from tsched.runner.seen import look
from tsched.settings import Settings
from tsched.settings.host import load

APART = "nodes without the state folder"
SERVE = "`tsched serve`"


def settings(world: World, **environ: str) -> Settings:
    return load(environ={**world.environ, "PATH": str(world.root), **environ}, cwd=world.root)


def problems(world: World, **environ: str) -> dict[str, str]:
    """What is wrong with each place."""
    return {one.name: one.problem for one in places(look(settings(world, **environ), now=time.time()))}


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A fleet for nodes that share no folder, applied."""
    world = World(tmp_path_factory.mktemp("world"))
    world.fleet(dev=pool("dev", "ada"), limits=LIMITS + "executor: slurm\nslurm: {shared: false}\n")
    world.once()
    return world


@pytest.fixture
def door(apart: World) -> Iterator[Door]:
    folder = folder_of(settings(apart))
    made = Door(Nodes(runs=folder.runs, running=folder.running, logs=folder.run_logs))
    made.open()
    yield made
    made.close()


def test_commands_of_slurm_that_are_not_here_are_missed_each(apart: World) -> None:
    found = {one.check: one for one in doctor(settings(apart), now=time.time())}
    for name in ("sbatch", "squeue", "scancel"):
        assert f"starts `{name}`, which is not on this machine's PATH" in found["programs"].evidence
    assert found["clusters"].standing is Standing.FAIL
    assert "Slurm: " in found["clusters"].evidence
    assert "set TSCHED_SERVE_URL" in found["clusters"].mend


def test_nodes_that_share_no_folder_need_an_address_and_no_user_of_this_host(apart: World) -> None:
    assert problems(apart)[APART] == "TSCHED_SERVE_URL is not set"
    found = problems(apart, TSCHED_AGENT_USER="nobody", TSCHED_SERVE_URL="http://127.0.0.1:1")
    assert found[APART] == "TSCHED_AGENT_USER is nobody, whom they may not have"
    assert "Connection refused" in found[SERVE]


def test_the_server_has_to_be_there_and_on_this_very_state_folder(apart: World, door: Door, tmp_path: Path) -> None:
    assert problems(apart, TSCHED_SERVE_URL=door.address)[SERVE] == ""
    door.shut()
    (tmp_path / "runs").mkdir()
    door.nodes = Nodes(runs=tmp_path / "runs", running=tmp_path, logs=tmp_path)
    door.open()
    assert "the answer's status is 404" in problems(apart, TSCHED_SERVE_URL=door.address)[SERVE]


def test_a_cluster_of_kubernetes_needs_credentials_that_are_taken(tmp_path: Path) -> None:
    pytest.importorskip("kubernetes", reason="the extra `kubernetes` is not installed")
    from tests.integration.kube_cluster import cluster_at

    world = World(tmp_path / "world")
    world.fleet(dev=pool("dev", "ada"), limits=LIMITS + "executor: kubernetes\nkubernetes: {image: a}\n")
    world.once()
    with cluster_at(tmp_path / "cluster", lambda run_id: tmp_path / run_id) as cluster:
        config = str(cluster.kubeconfig())
        assert problems(world, KUBECONFIG=config) == {"Kubernetes": ""}
        cluster.down()
        assert "Kubernetes can't be asked" in problems(world, KUBECONFIG=config)["Kubernetes"]
    assert "the kubeconfig can't be used" in problems(world)["Kubernetes"]


def test_a_fleet_of_this_machine_alone_asks_nobody(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    assert problems(world) == {}
