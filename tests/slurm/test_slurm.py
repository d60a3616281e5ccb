"""What Slurm alone does to runs: it is down, hangs, refuses, loses a node, or has a job that nobody wrote down."""

import os
import signal
from pathlib import Path

import pytest

from tests.integration.executor_contract import STAYS, WAITS, recovered, there
from tests.integration.local_runs import shell, wait_for
from tests.slurm.cluster import CPUS, HOST, Cluster
from tests.slurm.place import SlurmPlace
from tsched.executors import controller, processes, slurm
from tsched.executors.controller import Controller
from tsched.executors.executor import Liveness
from tsched.model.errors import TransientError
from tsched.model.fleet import Resources
from tsched.model.placement import Slurm
from tsched.model.run import ExitReason, RunExit
from tsched.model.task import Task


def states(place: SlurmPlace) -> list[str]:
    """Of all jobs of the run's name, in no order."""
    return [state for name, state in place.cluster.jobs() if name == f"tsched-{place.run_id}"]


def lose_node(place: SlurmPlace) -> None:
    """The run's node is out of reach, its processes live on."""
    place.cluster.kill("slurmd")
    place.cluster.ask("scontrol", "update", f"NodeName={HOST}", "State=DOWN", "Reason=test")
    place.cluster.until(lambda: states(place) == ["NODE_FAIL"], "its node has failed")
    place.until(place.run_id, Liveness.LOST)


def task(number: int) -> Task:
    return Task(id=str(number), title="Mend the gate", queue="dev")


def fill(cluster: Cluster) -> None:
    """A job of somebody else that leaves no processor free, so that the next one waits."""
    cluster.ask("sbatch", f"--cpus-per-task={CPUS}", "--output=/dev/null", "--wrap=sleep 600")
    cluster.until(lambda: "RUNNING" in dict(cluster.jobs()).values(), "the node is full")


# -- the controller --------------------------------------------------------------------------------------------------


def test_a_run_that_ends_while_the_controller_is_dead_is_neither_lost_nor_run_again(
    place: SlurmPlace, cluster: Cluster
) -> None:
    run_id = place.launch(place.launch_of(shell(f"echo once; {WAITS}")))
    place.until_running()
    cluster.end("slurmctld")
    place.executor = place.another()
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    assert "Slurm can't be asked: squeue" in place.executor.trouble()
    assert place.executor.recover(run_id) is None
    (place.workspaces / place.run_id / "go").touch()
    assert place.ended(run_id).exit_code == 0  # by its own record: nobody has to be asked
    with pytest.raises(TransientError, match="nothing is submitted: Slurm can't be asked"):
        place.executor.prepare(place.launch_of(shell("true"), run_id=f"{place.run_id}-b"))
    cluster.start_controller()
    wait_for(lambda: not place.executor.poll() or not place.executor.trouble())
    assert place.log(run_id) == "once\n"


def test_a_controller_that_forgets_its_last_seconds_has_nothing_run_twice(
    place: SlurmPlace, cluster: Cluster
) -> None:
    """Killed, it knows the job no more, or takes it for one that waits and starts it again."""
    run_id = place.launch(place.launch_of(shell(f"echo once; {WAITS}")))
    place.until_running()
    cluster.kill("slurmctld")
    (place.workspaces / run_id / "go").touch()
    assert place.ended(run_id).exit_code == 0
    cluster.start_controller()

    def done() -> bool:
        cluster.ask("scontrol", "update", f"JobName=tsched-{run_id}", "StartTime=now")  # or it waits for a minute
        return not {"PENDING", "RUNNING", "COMPLETING"} & {*states(place)}

    cluster.until(done, "it is done with the job")
    assert place.ended(run_id).exit_code == 0
    assert place.log(run_id) == "once\n"


def test_a_job_is_cancelled_under_its_own_name_alone(place: SlurmPlace, cluster: Cluster) -> None:
    fill(cluster)
    place.launch(place.launch_of(shell("echo no")))
    ours = Controller(cluster.environ)
    job = ours.jobs()[place.run_id]
    ours.cancel("another", job)  # whose number it was, before the controller lost it
    assert states(place) == ["PENDING"]
    ours.cancel(place.run_id, job)
    cluster.until(lambda: states(place) == ["CANCELLED"], "it is cancelled")


def test_a_number_that_is_given_anew_is_not_taken_for_the_run_that_had_it(
    place: SlurmPlace, cluster: Cluster
) -> None:
    fill(cluster)
    place.launch(place.launch_of(shell("echo no")))
    assert place.executor.poll() == {place.run_id: Liveness.ALIVE}
    number = Controller(cluster.environ).jobs()[place.run_id].id
    cluster.kill("slurmctld")
    cluster.start_controller(forgetting_from=int(number))
    cluster.until(lambda: not [*cluster.root.glob(f"state/hash.*/job.{number}")], "the number is free again")
    given = cluster.ask("sbatch", "--parsable", "--hold", "--job-name=somebodys", "--wrap=true").strip()
    assert given == number
    place.executor.stop([place.run_id], reason=ExitReason.STOPPED, at=0)  # by what was seen before
    end = recovered(place)
    assert (end.reason, end.started) == (ExitReason.STOPPED, False)
    assert ("somebodys", "PENDING") in cluster.jobs()
    assert not (place.logs / f"{place.run_id}.log").exists()


def test_a_controller_that_hangs_holds_up_no_pass_for_long(
    place: SlurmPlace, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = place.launch(place.launch_of(shell(WAITS)))
    place.until_running()
    monkeypatch.setattr(controller, "PATIENCE", 0.5)
    cluster.signal("slurmctld", signal.SIGSTOP)
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    assert place.executor.trouble() == ("Slurm can't be asked: squeue gave no answer within 0.5 s: is slurmctld up?")
    cluster.signal("slurmctld", signal.SIGCONT)
    monkeypatch.undo()
    assert place.executor.poll() == {run_id: Liveness.ALIVE}
    assert not place.executor.trouble()
    (place.workspaces / place.run_id / "go").touch()
    assert place.ended(run_id).exit_code == 0


def test_a_job_whose_submission_was_never_answered_is_found_by_its_name(
    place: SlurmPlace, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.prepare(place.launch_of(shell(f"echo once; {WAITS}")))
    monkeypatch.setattr(controller, "PATIENCE", 0.5)
    cluster.signal("slurmctld", signal.SIGSTOP)
    with pytest.raises(TransientError, match="sbatch gave no answer"):
        place.executor.start(place.run_id)
    cluster.signal("slurmctld", signal.SIGCONT)
    monkeypatch.undo()
    place.executor = place.another()
    # The request may have come through or not: either the job runs, or it is fenced. Never both, never twice.
    state = wait_for(lambda: None if place.executor.trouble() else place.executor.poll()[place.run_id])
    if state is Liveness.LOST:
        assert (end := recovered(place)).reason is ExitReason.NOT_STARTED
        assert not end.started
    else:
        place.executor.start(place.run_id)
        (place.workspaces / place.run_id).mkdir(exist_ok=True)
        (place.workspaces / place.run_id / "go").touch()
        place.ended(place.run_id)
        assert place.log(place.run_id) == "once\n"
    assert len(states(place)) <= 1


def test_a_controller_that_hangs_is_waited_for_once_a_pass_whatever_is_to_be_cancelled(
    place: SlurmPlace, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = cluster.overheard(tmp_path / "bin")
    place.environ = {**place.environ, "PATH": heard.path}
    place.executor = place.another()
    fill(cluster)
    runs = [f"{place.run_id}-{number}" for number in range(3)]
    for number, run_id in enumerate(runs):
        place.launch(place.launch_of(shell("echo no"), run_id=run_id, task=task(number)))
    place.executor.stop(runs, reason=ExitReason.STOPPED, at=0)
    place.executor.poll()
    heard.since()
    monkeypatch.setattr(controller, "PATIENCE", 0.5)
    cluster.signal("slurmctld", signal.SIGSTOP)
    assert [place.executor.recover(run_id) for run_id in runs] == [None] * 3
    assert [one.split()[0] for one in heard.since()] == ["scancel"]
    assert "scancel gave no answer" in place.executor.trouble()
    cluster.signal("slurmctld", signal.SIGCONT)
    monkeypatch.undo()
    assert {recovered(place, run_id).reason for run_id in runs} == {ExitReason.STOPPED}


# -- what a job is ---------------------------------------------------------------------------------------------------


def test_what_a_job_asks_for_is_what_its_run_says_and_nothing_of_the_hosts(
    place: SlurmPlace, cluster: Cluster
) -> None:
    hosts = {
        "SBATCH_PARTITION": "nowhere",
        "SBATCH_REQUEUE": "1",
        "SBATCH_TIMELIMIT": "1",
        "SLURM_HINT": "nomultithread",
    }
    place.environ = {**place.environ, **hosts}
    place.executor = place.another()
    fill(cluster)
    asked = Resources(cpus=1.5, memory=200 << 20)
    place.launch(place.launch_of(shell("true"), resources=asked, slurm=Slurm(constraint="here"), max_runtime=600))
    number = Controller(cluster.environ).jobs()[place.run_id].id
    words = cluster.ask("scontrol", "show", "job", "--oneliner", number).split()
    told = dict(word.partition("=")[::2] for word in words)
    assert (told["Partition"], told["Requeue"], told["Features"]) == ("main", "0", "here")
    assert (told["NumCPUs"], told["MinMemoryNode"], told["TimeLimit"]) == ("2", "200M", "00:16:00")
    assert told["JobName"] == f"tsched-{place.run_id}"


# -- what can never run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Slurm(partition="nowhere"), "invalid partition specified: nowhere"),
        (Slurm(constraint="gold"), "Invalid feature specification"),
        (Slurm(gres="gpu:1"), "Invalid generic resource"),
        (Slurm(reservation="mine"), "Requested reservation is invalid"),
    ],
)
def test_a_request_that_slurm_refuses_is_the_runs_end_at_once(place: SlurmPlace, asked: Slurm, said: str) -> None:
    place.launch(place.launch_of(shell("echo no"), slurm=asked))
    end = place.ended(place.run_id)
    assert (end.reason, end.started) == (ExitReason.START_FAILED, False)
    assert said in end.detail
    assert "mend `slurm`" in end.detail


def test_more_memory_than_any_node_has_is_refused(place: SlurmPlace) -> None:
    place.launch(place.launch_of(shell("echo no"), resources=Resources(memory=1 << 40)))
    assert "Memory specification can not be satisfied" in place.ended(place.run_id).detail


def test_more_processors_than_any_node_has_wait_for_nothing(place: SlurmPlace, cluster: Cluster) -> None:
    place.launch(place.launch_of(shell("echo no"), resources=Resources(cpus=64)))
    end = recovered(place)
    assert (end.reason, end.started) == (ExitReason.START_FAILED, False)
    assert "Slurm can never run it (PartitionConfig): ask for less" in end.detail
    cluster.until(lambda: states(place) == ["CANCELLED"], "it holds nobody back")


# -- stop ------------------------------------------------------------------------------------------------------------


def test_a_job_that_waits_is_taken_back_when_its_run_is_stopped(place: SlurmPlace, cluster: Cluster) -> None:
    fill(cluster)
    place.launch(place.launch_of(shell("echo no")))
    assert place.executor.poll() == {place.run_id: Liveness.ALIVE}
    place.executor.stop([place.run_id], reason=ExitReason.DRAIN, at=4e9)
    assert place.executor.poll() == {place.run_id: Liveness.ALIVE}
    place.executor.stop([place.run_id], reason=ExitReason.STOPPED, at=0)
    end = recovered(place)
    assert (end.reason, end.started) == (ExitReason.STOPPED, False)
    cluster.until(lambda: states(place) == ["CANCELLED"], "its job is gone")


def test_a_run_that_does_not_hear_of_its_stop_is_cancelled(
    place: SlurmPlace, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.launch(place.launch_of(shell(STAYS), stop_grace=0))
    there(place)
    pid = place.until_running()["pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(slurm, "SLACK", 0)

    def ended() -> RunExit | None:
        place.executor.stop([place.run_id], reason=ExitReason.STOPPED, at=1)
        lost = place.executor.poll()[place.run_id] is Liveness.LOST
        return place.executor.recover(place.run_id) if lost else place.executor.exit(place.run_id)

    assert wait_for(ended).reason is ExitReason.STOPPED
    wait_for(lambda: processes.look(pid) is None)


def test_an_operators_scancel_is_a_stop(place: SlurmPlace, cluster: Cluster) -> None:
    place.launch(place.launch_of(shell(STAYS)))
    there(place)
    cluster.ask("scancel", f"--name=tsched-{place.run_id}")
    end = place.ended(place.run_id)
    assert (end.reason, end.exit_code) == (ExitReason.STOPPED, 9)  # it had its say


# -- nodes -----------------------------------------------------------------------------------------------------------


def test_a_run_on_a_lost_node_is_over_once_its_heart_has_stopped(
    place: SlurmPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "SLACK", 1.0)
    place.launch(place.launch_of(shell("echo $$ > pid; while :; do sleep 0.05; done"), stop_grace=0))
    pid = place.until_running()["pid"]
    assert isinstance(pid, int)
    lose_node(place)
    beat = place.lease_of().stat().st_mtime
    wait_for(lambda: place.lease_of().stat().st_mtime > beat + 2.5)  # for longer than silence would take
    place.executor.poll()
    assert place.executor.recover(place.run_id) is None
    os.kill(pid, signal.SIGKILL)
    end = recovered(place)
    assert (end.reason, end.started) == (ExitReason.REBOOT, True)
    assert "NODE_FAIL" in end.detail


def test_a_job_that_comes_to_nothing_on_its_node_says_why(place: SlurmPlace) -> None:
    place.prepare(place.launch_of(shell("echo no")))
    (place.runs / place.run_id / "shim/shim.py").unlink()  # as where the state folder is not shared
    place.executor.start(place.run_id)
    end = recovered(place)
    assert (end.reason, end.started) == (ExitReason.NOT_STARTED, False)
    assert "its job is FAILED" in end.detail
    assert "No such file" in (place.runs / place.run_id / "shim.log").read_text()


# -- a shim that can't reach the state folder ------------------------------------------------------------------------


def test_a_shim_out_of_touch_ends_its_run_by_itself(place: SlurmPlace) -> None:
    place.launch(place.launch_of(shell("trap 'echo term > term; exit 9' TERM; while :; do sleep 0.05; done")))
    place.until_running()
    lease = place.lease_of()
    lease.rename(lease.with_name("away"))
    lease.mkdir()  # there, and not to be read: no word whose it is
    assert place.ended(place.run_id).reason is ExitReason.LEASE_GONE
    assert (place.workspaces / place.run_id / "term").exists()


def test_a_file_system_that_hangs_ends_the_run_too(place: SlurmPlace) -> None:
    place.launch(place.launch_of(shell("echo $$ > pid; while :; do sleep 0.05; done"), stop_grace=0))
    pid = place.until_running()["agent_pid"]
    assert isinstance(pid, int)
    fifo = place.running / "fifo"
    os.mkfifo(fifo)
    fifo.rename(place.lease_of())  # whoever opens it waits for a writer
    wait_for(lambda: processes.look(pid) is None)
    assert not (place.runs / place.run_id / "exit.json").exists()
    assert recovered_reason(place) is ExitReason.SHIM_DIED


def recovered_reason(place: SlurmPlace) -> ExitReason:
    return recovered(place).reason


def test_secrets_are_in_no_script_that_slurm_sees(place: SlurmPlace, cluster: Cluster) -> None:
    place.environ = {**place.environ, "KEY": "canary-secret"}
    place.executor = place.another(pass_env=("KEY",))
    place.launch(place.launch_of(shell("test $KEY = canary-secret")))
    assert place.ended(place.run_id).exit_code == 0
    seen = cluster.root / "state"
    spooled = [path for path in seen.rglob("*") if path.is_file() and b"canary-secret" in path.read_bytes()]
    assert spooled == []
    assert "canary-secret" not in Path(place.runs / place.run_id / "job.sh").read_text()
