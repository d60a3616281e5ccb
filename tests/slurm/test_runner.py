"""The whole runner over a real Slurm: the crash points around sbatch, local and Slurm agents side by side."""

import json
from pathlib import Path

import pytest

from tests.e2e.world import LIMITS, World, pool, until
from tests.slurm.cluster import Cluster

STARTS = "runner.launch._launch > executors.slurm.start"


@pytest.fixture
def world(tmp_path: Path, cluster: Cluster) -> World:
    made = World(tmp_path)
    made.environ |= {"SLURM_CONF": str(cluster.conf)}
    return made


class Jobs:
    """The jobs of one test: those that the cluster did not know before. Run ids begin with the task's number."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._before = {name for name, _ in cluster.jobs()}

    def of(self, task: str) -> list[str]:
        """The states of all that there ever were for a task."""
        found = [one for one in self._cluster.jobs() if one[0] not in self._before]
        return [state for name, state in found if name.startswith(f"tsched-{task}-")]


@pytest.fixture
def jobs(cluster: Cluster) -> Jobs:
    return Jobs(cluster)


def test_a_pass_asks_squeue_once_for_all_its_runs_and_not_at_all_for_none(
    world: World, cluster: Cluster, tmp_path: Path
) -> None:
    heard = cluster.overheard(tmp_path / "bin")
    world.environ["PATH"] = f"{heard.path}:{world.environ['PATH']}"
    world.fleet(dev=pool("dev", "ada", limit=3), limits=LIMITS + "executor: slurm\n")
    world.once()
    assert heard.since() == []
    tasks = [world.add("hold") for _ in range(3)]
    world.once()
    assert [one.split()[0] for one in heard.since()] == ["sbatch"] * 3
    world.once()
    (asked,) = heard.since()
    assert asked.startswith("squeue --me --noheader --states=all")
    world.open(*tasks)
    with world.daemon():
        for one in tasks:
            world.wait_status(one, "complete")
        world.settled()
    heard.since()
    world.once()
    assert heard.since() == []


@pytest.mark.parametrize(
    ("point", "number", "outcomes"),
    [
        ("job to be submitted", 0, ["interrupted"]),  # fenced: nothing ever ran
        ("job submitted", 1, []),  # found by its name
    ],
)
def test_a_runner_killed_around_sbatch_starts_no_second_job(
    world: World, jobs: Jobs, point: str, number: int, outcomes: list[str]
) -> None:
    world.fleet(dev=pool("dev", "ada"), limits=LIMITS + "executor: slurm\n")
    task = world.add("hold")
    killed = world.run(
        "run", "--once", TSCHED_FAILPOINT=f"{STARTS}: {point}", TSCHED_FAILPOINT_FILE=str(world.root / "struck")
    )
    assert (killed.returncode, (world.root / "struck").exists()) == (-9, True)
    assert len(jobs.of(task)) == number
    world.once()
    world.once()
    with world.daemon():
        lease = world.wait_running(task)
        assert lease["executor"] == "slurm"
        assert len(jobs.of(task)) == 1
        world.open(task)
        world.wait_status(task, "complete")
        world.settled()
    assert world.outcomes(task) == [*outcomes, "complete"]
    assert len(jobs.of(task)) == 1


def test_local_and_slurm_agents_work_side_by_side_also_while_the_controller_is_dead(
    world: World, cluster: Cluster, jobs: Jobs
) -> None:
    fleet = pool("dev", "ada, executor: slurm, slurm: {partition: main}", "ben", extra="max_running: 4\n")
    world.fleet(dev=fleet)
    with world.daemon():
        first, second = world.add("hold", "--assign", "ada"), world.add("hold", "--assign", "ben")
        assert world.wait_running(first)["executor"] == "slurm"
        assert world.wait_running(second)["executor"] == "local"
        assert clusters(world) == ("ok", "Slurm: as asked just now, there")
        cluster.end("slurmctld")
        assert clusters(world)[0] == "fail"
        until(lambda: "Slurm can't be asked" in log(world), "it is said", limit=60)
        world.open(first, second)
        world.wait_status(second, "complete")
        world.wait_status(first, "complete")
        third = world.add("quick", "--assign", "ada")
        until(lambda: "nothing is submitted" in log(world) or "sbatch" in log(world), "it is said", limit=60)
        cluster.start_controller()
        world.wait_status(third, "complete")
        world.settled()
    assert world.outcomes(first) == ["complete"]
    assert len(jobs.of(first)) == 1


def test_a_partition_that_does_not_exist_is_said_on_the_task_which_is_parked(world: World) -> None:
    world.fleet(dev=pool("dev", "ada, executor: slurm, slurm: {partition: nowhere}"))
    with world.daemon():
        task = world.add("quick")
        world.wait_status(task, "parked")
    runs = world.task(task)["runs"]
    assert "invalid partition specified: nowhere" in runs[-1]["reason"]
    assert {run["outcome"] for run in runs} == {"failed"}


def test_a_dry_run_and_status_leave_jobs_alone(world: World, jobs: Jobs) -> None:
    world.fleet(dev=pool("dev", "ada"), limits=LIMITS + "executor: slurm\nslurm: {partition: main}\n")
    task = world.add("hold")
    world.once()
    world.wait_running(task)
    assert "would" not in world.once("--dry-run").lower()
    shown = json.loads(world.run("status", "--json", check=0).stdout)
    assert [run["executor"] for run in shown["runs"]] == ["slurm"]
    world.run("kill", task, check=0)
    until(lambda: "CANCELLED" not in jobs.of(task) and not world.leases(), "it has stopped by itself")
    world.once()
    assert world.task(task)["status"] == "parked"


def clusters(world: World) -> tuple[str, str]:
    """What doctor finds of them."""
    found = json.loads(world.run("doctor", "--json").stdout)["checks"]
    (one,) = [check for check in found if check["check"] == "clusters"]
    return one["status"], one["evidence"]


def log(world: World) -> str:
    return "".join(path.read_text() for path in (world.state / "logs").glob("*.log"))
