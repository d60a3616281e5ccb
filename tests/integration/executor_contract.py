"""What every executor does, whatever its runs execute on. A subclass has a fixture `place`."""

import os
import signal
from dataclasses import replace
from pathlib import Path

from tests.integration.local_runs import Place, shell, wait_for
from tsched.executors import processes
from tsched.executors.executor import Liveness
from tsched.model.run import ExitReason, RunExit

WAITS = "until [ -e go ]; do sleep 0.05; done"
STAYS = "trap 'exit 9' TERM; touch there; while :; do sleep 0.05; done"


def recovered(place: Place, run_id: str = "") -> RunExit:
    """The end of a lost run, each look at it followed by an attempt, as passes do."""

    run_id = run_id or place.run_id

    def end() -> RunExit | None:
        lost = place.executor.poll().get(run_id) is Liveness.LOST
        return place.executor.recover(run_id) if lost else None

    return wait_for(end)


def there(place: Place, name: str = "there") -> None:
    wait_for((place.workspaces / place.run_id / name).exists)


class ExecutorContract:
    """One suite for all executors."""

    def test_a_run_ends_with_its_status_its_log_and_no_lease(self, place: Place) -> None:
        run_id = place.launch(place.launch_of(shell("echo hello; exit 7")))
        end = place.ended(run_id)
        assert (end.reason, end.exit_code, end.started) == (ExitReason.EXITED, 7, True)
        assert place.log(run_id) == "hello\n"
        assert place.executor.tail(run_id) == "hello"
        assert not place.lease_of().exists()

    def test_an_agent_sees_its_own_variables_and_none_of_the_hosts(self, place: Place) -> None:
        place.environ = {**place.environ, "TSCHED_TASKS_TOKEN": "canary", "GIVEN": "yes"}
        place.executor = place.another(pass_env=("GIVEN",))
        run_id = place.launch(place.launch_of(shell("env")))
        place.ended(run_id)
        told = dict(line.partition("=")[::2] for line in place.log(run_id).splitlines())
        assert "canary" not in place.log(run_id)
        assert (told["GIVEN"], told["TSCHED_RUN_ID"], told["TSCHED_TASK_ID"]) == ("yes", place.run_id, "7")
        assert not [name for name in told if name.startswith(("SLURM", "SBATCH"))]

    def test_a_run_is_alive_also_for_a_runner_that_was_started_anew(self, place: Place) -> None:
        run_id = place.launch(place.launch_of(shell(WAITS)))
        assert place.executor.poll() == {run_id: Liveness.ALIVE}
        lease = place.until_running()
        assert lease["host"]
        place.executor = place.another()
        assert place.executor.poll() == {run_id: Liveness.ALIVE}
        (place.workspaces / place.run_id / "go").touch()
        assert place.ended(run_id).exit_code == 0

    def test_started_twice_it_runs_once(self, place: Place) -> None:
        run_id = place.launch(place.launch_of(shell(f"echo once; {WAITS}")))
        place.until_running()
        place.another().start(run_id)
        (place.workspaces / place.run_id / "go").touch()
        assert place.ended(run_id).exit_code == 0
        assert place.log(run_id) == "once\n"

    def test_what_was_prepared_and_never_started_is_fenced(self, place: Place) -> None:
        place.prepare(place.launch_of(shell("echo late")))
        place.executor = place.another()
        assert (end := recovered(place)).reason is ExitReason.NOT_STARTED
        assert not end.started
        place.executor.start(place.run_id)  # by whoever was so slow
        wait_for(lambda: place.executor.poll()[place.run_id] is Liveness.ENDED)
        assert place.executor.exit(place.run_id) == end
        assert not (place.logs / f"{place.run_id}.log").exists()

    def test_a_stop_is_told_by_term_and_is_no_fault_of_the_agent(self, place: Place) -> None:
        run_id = place.launch(place.launch_of(shell(STAYS)))
        there(place)
        end = place.finish(run_id)
        assert (end.reason, end.exit_code) == (ExitReason.STOPPED, 9)
        assert not place.lease_of().exists()

    def test_a_stop_holds_before_the_start_too(self, place: Place) -> None:
        place.prepare(place.launch_of(shell("echo no")))
        place.executor.stop([place.run_id], reason=ExitReason.CANCELLED, at=0)
        place.executor.start(place.run_id)

        def ended() -> RunExit | None:
            state = place.executor.poll()[place.run_id]
            return (
                place.executor.recover(place.run_id) if state is Liveness.LOST else place.executor.exit(place.run_id)
            )

        end = wait_for(ended)
        assert (end.reason, end.started) == (ExitReason.CANCELLED, False)

    def test_a_drains_deadline_can_be_recalled(self, place: Place) -> None:
        run_id = place.launch(place.launch_of(shell(WAITS)))
        place.until_running()
        place.executor.stop([run_id], reason=ExitReason.DRAIN, at=4e9)
        assert place.executor.recall(run_id)
        assert not (place.runs / run_id / "stop").exists()
        place.finish(run_id)

    def test_a_run_has_its_time_and_no_more(self, place: Place) -> None:
        run_id = place.launch(place.launch_of(shell(STAYS), max_runtime=0.5))
        assert place.ended(run_id).reason is ExitReason.TIMEOUT

    def test_a_dead_shim_leaves_nothing_alive_and_its_end_is_found_once(self, place: Place) -> None:
        place.launch(place.launch_of(shell("sleep 600 & echo $! > pid; wait")))
        lease = place.until_running()
        agent = int(wait_for(lambda: _read(place.workspaces / place.run_id / "pid")))
        assert isinstance(lease["pid"], int)
        os.kill(lease["pid"], signal.SIGKILL)
        end = recovered(place)
        assert (end.reason, end.started) == (ExitReason.SHIM_DIED, True)
        assert processes.look(agent) is None
        assert place.executor.poll()[place.run_id] is Liveness.ENDED
        assert place.executor.recover(place.run_id) == replace(end)

    def test_what_ended_is_discarded_whole_but_for_its_log(self, place: Place) -> None:
        run_id = place.launch(place.launch_of(shell("echo said; touch file")))
        place.ended(run_id)
        for _ in range(2):
            place.executor.discard(run_id, succeeded=True)
        assert place.executor.poll() == {}
        assert list(place.runs.iterdir()) == []
        assert not (place.workspaces / run_id).exists()
        assert place.executor.tail(run_id) == "said"


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
