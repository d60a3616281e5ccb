"""Nodes that can't see the state folder: lost ones, ones out of touch, and the whole runner killed over them."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.world import LIMITS, World, pool
from tests.integration.executor_contract import WAITS, recovered
from tests.integration.local_runs import shell, wait_for
from tests.slurm.apart import ApartPlace, apart
from tests.slurm.cluster import Cluster
from tests.slurm.test_runner import STARTS
from tests.slurm.test_slurm import lose_node
from tsched.executors import parcel, processes, slurm
from tsched.executors.courier import line
from tsched.executors.executor import Liveness
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Workspace
from tsched.model.run import ExitReason


@pytest.fixture
def place(cluster: Cluster) -> Iterator[ApartPlace]:
    with apart(cluster) as one:
        yield one


def test_its_node_sees_no_state_folder(place: ApartPlace) -> None:
    run_id = place.launch(place.launch_of(shell(f"ls {place.root} || echo unseen")))
    place.ended(run_id)
    assert place.log(run_id).endswith("unseen\n")


def test_a_run_goes_on_while_the_cluster_alone_answers(place: ApartPlace) -> None:
    run_id = place.launch(place.launch_of(shell(f"echo once; {WAITS}")))
    place.until_running()
    agent = place.lease()["agent_pid"]
    assert isinstance(agent, int)
    place.door.shut()
    there = parcel.place(run_id) / "running" / place.lease_of().name
    since = place.lease_of().stat().st_mtime
    wait_for(lambda: there.stat().st_mtime > since + 4)  # for longer than silence would take
    assert place.lease_of().stat().st_mtime < since + 1
    assert processes.look(agent) is not None
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    (place.workspaces / run_id / "go").touch()
    wait_for(lambda: processes.look(agent) is None)
    place.door.open()
    assert place.ended(run_id).exit_code == 0
    assert place.log(run_id) == "once\n"


def test_a_node_that_slurm_has_lost_keeps_its_run_for_as_long_as_it_is_heard(
    place: ApartPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "SLACK", 1.0)
    place.launch(place.launch_of(shell("while :; do sleep 0.05; done"), stop_grace=0))
    pid = place.until_running()["pid"]
    assert isinstance(pid, int)
    lose_node(place)
    assert place.executor.recover(place.run_id) is None
    beat = place.lease_of().stat().st_mtime
    wait_for(lambda: place.lease_of().stat().st_mtime > beat + 2.5)  # for longer than silence would take
    place.executor.poll()
    assert place.executor.recover(place.run_id) is None
    place.door.shut()  # from now on neither answers it
    wait_for(lambda: processes.look(pid) is None)
    end = recovered(place)
    assert (end.reason, end.started) == (ExitReason.REBOOT, True)
    place.door.open()
    wait_for(lambda: not parcel.place(place.run_id).exists())
    assert place.executor.exit(place.run_id) == end  # what the node says now changes nothing


def test_a_job_of_its_number_is_not_yet_its_job(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that was killed gives the numbers of its last seconds to other jobs."""
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    job = cluster.ask("sbatch", "--parsable", "--job-name=tsched-r1", "--output=/dev/null", "--wrap=sleep 60").strip()
    wait_for(lambda: line.works(job, "r1"))
    assert not line.works(job, "r2")
    assert not line.works("4000000", "r1")


def test_what_can_not_be_without_a_shared_folder_is_said_at_once(place: ApartPlace) -> None:
    with pytest.raises(ConfigurationError, match="its pool has a workspace"):
        place.prepare(place.launch_of(shell("true"), workspace=Workspace(repo="/somewhere")))
    place.executor = slurm.SlurmExecutor(
        runs=place.runs, running=place.running, logs=place.logs, workspaces=place.workspaces, environ=place.environ
    )
    with pytest.raises(ConfigurationError, match="TSCHED_SERVE_URL says where its node finds `tsched serve`: set it"):
        place.prepare(place.launch_of(shell("true")))


@contextmanager
def serving(world: World, port: int) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tsched", "serve", "--port", str(port)]
    server = subprocess.Popen(command, env=world.environ, cwd=world.root, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        assert server.stdout.readline().startswith("Serving")
        yield server
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def test_runner_and_server_killed_under_a_run_lose_nothing_and_do_nothing_twice(
    tmp_path: Path, cluster: Cluster
) -> None:
    world = World(cluster.hidden / tmp_path.name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    world.gates = tmp_path  # where the node sees them too
    address = f"http://127.0.0.1:{port}"
    world.environ |= {"SLURM_CONF": str(cluster.conf), "TSCHED_SERVE_URL": address, "GATE": str(tmp_path)}
    world.fleet(dev=pool("dev", "ada"), limits=LIMITS + "executor: slurm\nslurm: {shared: false}\n")
    task = world.add("hold")
    with serving(world, port):
        point, struck = f"{STARTS}: job submitted", str(world.root / "struck")
        killed = world.run("run", "--once", TSCHED_FAILPOINT=point, TSCHED_FAILPOINT_FILE=struck)
        assert (killed.returncode, (world.root / "struck").exists()) == (-9, True)
        command = [sys.executable, "-m", "tsched", "run", "--daemon"]
        runner = subprocess.Popen(command, env=world.environ, cwd=world.root, stdout=subprocess.DEVNULL)
        lease = world.wait_running(task)
        os.kill(runner.pid, signal.SIGKILL)
        runner.wait()
    world.open(task)
    end = parcel.place(str(lease["run_id"])) / "runs" / str(lease["run_id"]) / "exit.json"
    wait_for(end.exists)
    world.once()
    assert world.task(task)["status"] == "working"
    with serving(world, port), world.daemon():
        world.wait_status(task, "complete")
        world.settled()
    assert world.outcomes(task) == ["complete"]
    assert [name for name, _ in cluster.jobs() if name == f"tsched-{lease['run_id']}"] == [
        f"tsched-{lease['run_id']}"
    ]
