"""Hooks around a run, and workspaces that go or stay afterwards."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.local_runs import R1, Place, git, launch_of, shell, wait_for
from tests.integration.test_local_workspace import saved
from tsched.executors import cgroups, processes, workspace
from tsched.executors.executor import Liveness
from tsched.model.fleet import Hooks, Keep, Workspace
from tsched.model.run import ExitReason, RunExit


def launched(
    place: Place, repo: Path, script: str, hooks: Mapping[str, str], *, keep: str = "never", timeout: float = 60
) -> str:
    around = Hooks(**{**hooks, "timeout": timeout})  # type: ignore[arg-type]
    tree = Workspace(repo=str(repo), ref="main", keep=Keep(keep), hooks=around)
    return place.launch(launch_of(shell(script), workspace=tree, stop_grace=0.5))


def settled(place: Place, run_id: str = R1) -> RunExit:
    """The run's end, after which its workspace may go."""
    end = place.ended(run_id)
    place.executor.salvage(run_id)
    place.executor.discard(run_id, succeeded=end.exit_code == 0)
    return end


def gone(place: Place, run_id: str = R1) -> None:
    def tidied() -> bool:
        place.executor.poll()
        place.executor.tidy()
        return not (place.workspaces / run_id).exists() and place.executor.kept() == []

    wait_for(tidied)


def test_each_hook_runs_in_the_worktree_in_its_turn(place: Place, repo: Path) -> None:
    names = ("after_create", "before_run", "after_run", "before_remove")
    hooks = {name: f'echo "{name} $TSCHED_TASK_ID $PWD"; cat gate' for name in names}
    run_id = launched(place, repo, "echo agent; echo mended > gate; exit 3", hooks)
    assert settled(place).exit_code == 3, "a hook's end is not the run's"
    gone(place)
    at = f"7 {place.workspaces / run_id}"
    assert place.log(run_id).splitlines() == [
        f"after_create {at}", "squeaks", f"before_run {at}", "squeaks", "agent",
        f"after_run {at}", "mended", f"before_remove {at}", "mended",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["after_create", "before_run"])
def test_the_first_two_are_fatal_and_uncharged(place: Place, repo: Path, name: str) -> None:
    run_id = launched(place, repo, "echo agent", {"after_run": "echo after", name: "echo no room; exit 7"})
    end = place.ended(run_id)
    assert (end.reason, end.started) == (ExitReason.START_FAILED, False)
    assert end.detail == f"hook {name} failed: exit status 7: no room"
    assert place.log(run_id) == "no room\n"


@pytest.mark.parametrize("name", ["after_run", "before_remove"])
def test_a_failure_of_the_others_is_only_logged(place: Place, repo: Path, name: str) -> None:
    run_id = launched(place, repo, "echo agent", {name: "exit 7"})
    assert settled(place).exit_code == 0
    gone(place)
    assert place.log(run_id) == f"agent\ntsched: hook {name} failed: exit status 7: it said nothing\n"


@pytest.mark.parametrize("name", ["before_run", "after_run", "before_remove"])
def test_a_hook_that_hangs_is_ended_with_all_that_it_started(
    place: Place, repo: Path, tmp_path: Path, name: str
) -> None:
    hang = f"sleep 300 & echo $! > {tmp_path}/pid; wait"
    run_id = launched(place, repo, "true", {name: hang}, timeout=0.3)
    end = settled(place)
    gone(place)
    words = f"hook {name} failed: it took longer than 0.3 s"
    assert words in (end.detail if name == "before_run" else place.log(run_id))
    wait_for(lambda: not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists())


def test_a_stop_during_before_run_is_heard(place: Place, repo: Path, tmp_path: Path) -> None:
    launched(place, repo, "echo agent", {"before_run": f"touch {tmp_path}/here; exec sleep 300"})
    wait_for((tmp_path / "here").exists)
    end = place.finish(R1)
    assert (end.reason, end.started) == (ExitReason.STOPPED, False)


def test_after_run_runs_after_a_stop_too_and_the_end_is_on_record_before(
    place: Place, repo: Path, tmp_path: Path
) -> None:
    """A shim that is killed in the hook takes nothing of the run's end with it."""
    hook = f"touch {tmp_path}/here; until test -e {tmp_path}/go; do sleep 0.05; done"
    run_id = launched(place, repo, "exec sleep 300", {"after_run": hook})
    fields = place.until_running()
    place.executor.stop([run_id], reason=ExitReason.STOPPED, at=0)
    wait_for((tmp_path / "here").exists)
    assert place.executor.poll()[run_id] is Liveness.ALIVE
    assert place.lease()["run_id"] == run_id
    os.kill(int(str(fields["pid"])), signal.SIGKILL)
    assert place.ended(run_id).reason is ExitReason.STOPPED


def test_what_a_hook_had_started_when_its_shim_was_killed_goes_with_the_run(
    place: Place, repo: Path, tmp_path: Path
) -> None:
    """The end was on record already, so nobody recovers such a run."""
    daemon = f"cd /; echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 300"
    hook = f"setsid sh -c '{daemon}' < /dev/null > /dev/null 2>&1 & exec sleep 300"
    run_id = launched(place, repo, "exec sleep 300", {"after_run": hook})
    fields = place.until_running()
    place.executor.stop([run_id], reason=ExitReason.STOPPED, at=0)
    wait_for((tmp_path / "pid").exists)
    os.kill(int(str(fields["pid"])), signal.SIGKILL)
    place.executor = place.another()
    settled(place)
    assert processes.look(int((tmp_path / "pid").read_text())) is None
    assert not place.executor.poll()
    group = cgroups.place(run_id)
    assert not group or not Path(group).exists()


def test_no_after_run_where_the_lease_was_taken_away(place: Place, repo: Path) -> None:
    run_id = launched(place, repo, "exec sleep 300", {"after_run": "echo after"})
    place.until_running()
    place.lease_of().unlink()
    assert place.ended(run_id).reason is ExitReason.LEASE_GONE
    assert place.log(run_id) == ""


# Going and staying


def test_a_removal_that_was_cut_off_goes_on(place: Place, repo: Path, tmp_path: Path) -> None:
    """Killed while before_remove runs, with the runner started anew: the hook has another try."""
    hook = f"echo once >> {tmp_path}/tries; test -e {tmp_path}/go || exec sleep 300"
    launched(place, repo, "true", {"before_remove": hook})
    settled(place)
    wait_for((tmp_path / "tries").exists)
    (kept,) = place.executor.kept()
    assert kept.reason == "its before_remove hook runs"
    found = subprocess.run(["pgrep", "-f", f"{R1} depart"], capture_output=True, text=True, check=True).stdout
    os.kill(int(found.split()[0]), signal.SIGKILL)
    (tmp_path / "go").touch()
    place.executor = place.another()
    gone(place)
    assert (tmp_path / "tries").read_text() == "once\nonce\n"


def test_what_before_remove_leaves_is_saved(place: Place, repo: Path) -> None:
    launched(place, repo, "true", {"before_remove": "echo late > gate"})
    settled(place)
    gone(place)
    assert git("show", f"{saved(place, repo, 'refs/tsched/salvage/7/1')}:gate", at=repo) == "late"


def test_no_workspace_goes_under_a_process_that_works_in_it(place: Place, repo: Path) -> None:
    run_id = launched(place, repo, "true", {})
    place.ended(run_id)
    with subprocess.Popen(["sleep", "300"], cwd=place.workspaces / run_id) as person:
        settled(place)
        place.executor.tidy()
        (kept,) = place.executor.kept()
        assert (kept.folder, kept.reason) == (place.workspaces / run_id, "a process works in it")
        assert kept.folder.is_dir()
        assert place.executor.poll() == {}, "the run itself is over"
        person.kill()
    gone(place)


def test_kept_ones_are_listed_and_can_be_released(place: Place, repo: Path) -> None:
    run_id = launched(place, repo, "echo mended > gate", {}, keep="always")
    settled(place)
    settled_again = place.another()
    settled_again.discard(run_id, succeeded=True)
    (kept,) = settled_again.kept()
    assert (kept.folder, kept.reason) == (place.workspaces / run_id, "keep: always")
    assert kept.run is not None
    assert (kept.run.task_id, kept.run.agent) == ("7", "vaela")
    (kept.folder / "gate").write_text("later\n")
    with subprocess.Popen(["sleep", "300"], cwd=kept.folder) as person:
        assert settled_again.release(run_id) == "a process works in it"
        person.kill()
    assert settled_again.release(run_id) is None
    assert not kept.folder.exists()
    assert settled_again.kept() == []
    assert git("show", f"{saved(place, repo, f'refs/tsched/salvage/7/1-{run_id}')}:gate", at=repo) == "later"
    assert settled_again.release(run_id) == "no workspace of that run is kept"
    cache = workspace.cache_of(place.workspaces, str(repo))
    assert not (cache / "worktrees" / run_id).exists()
