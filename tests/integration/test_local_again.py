"""Runs that go on in the folder of the run before: kept or removed, taken over whole, never by two."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.local_runs import R1, Place, launch_of, shell, wait_for
from tests.integration.test_local_workspace import tree_of
from tsched.executors.executor import Again, Launch
from tsched.executors.workspace import cache_of
from tsched.model.fleet import Hooks, Keep, Runtime, Workspace
from tsched.model.run import Run

R2, R3 = f"{R1}-2", f"{R1}-3"
WORK = "git rm -q gate; echo new > new; echo more > staged; git add staged; exit 3"
LOOK = "git status --porcelain; git log -1 --format=%s; pwd"
LEFT = "D  gate\nA  staged\n?? new\nfirst\n"


def first_run(place: Place, workspace: Workspace | None, script: str = WORK) -> Run:
    """A run that failed, its result taken, its folder left as its pool says."""
    place.launch(keeping(launch_of(shell(script), run_id=R1, workspace=workspace)))
    place.ended(R1)
    run = place.executor.run(R1)
    assert run is not None
    place.executor.salvage(R1)
    place.executor.discard(R1, succeeded=False)
    return run


def keeping(launch: Launch) -> Launch:
    return replace(launch, run=replace(launch.run, keeps_session=True))


def going_on(before: Run, workspace: Workspace | None, script: str = LOOK, run_id: str = R2) -> Launch:
    runtime = Runtime(name="shell", argv=("/bin/sh", "-c", "exit 99"), resume=("/bin/sh", "-c", script, "{prompt}"))
    launch = launch_of(runtime, run_id=run_id, workspace=workspace, attempt=2)
    run = replace(launch.run, keeps_session=True, session="s")
    return replace(launch, run=run, again=Again(session="s", before=before, ended="exit status 3"))


@pytest.mark.parametrize("keep", ["on-failure", "never"])
def test_it_finds_its_work_as_it_was_left(place: Place, repo: Path, keep: str) -> None:
    tree = tree_of(repo, keep=keep)
    before = first_run(place, tree)
    assert (place.workspaces / R1).exists() == (keep == "on-failure")
    assert place.executor.resumable(before, tree)
    place.launch(going_on(before, tree))
    assert place.ended(R2).exit_code == 0
    # What was staged is not told apart from other changes once the folder had to be made again.
    found = LEFT if keep == "on-failure" else " D gate\n?? new\n?? staged\nfirst\n"
    assert place.log(R2) == f"{found}{place.workspaces / R1}\n"
    assert place.executor.kept() == []
    place.executor.salvage(R2)
    place.executor.discard(R2, succeeded=True)
    assert not (place.workspaces / R1).exists()


def test_commits_are_there_again_and_nothing_is_undone_that_was_committed(place: Place, repo: Path) -> None:
    tree = tree_of(repo, keep="never")
    commit = "git -c user.name=a -c user.email=tsched@localhost commit -qam"
    before = first_run(place, tree, f"echo mended > gate; {commit} 'Mend it'; exit 3")
    place.launch(going_on(before, tree))
    place.ended(R2)
    assert place.log(R2).startswith("Mend it\n")


def test_a_kept_folder_is_no_longer_to_be_had_while_a_run_goes_on_in_it(place: Place, repo: Path) -> None:
    tree = tree_of(repo)
    before = first_run(place, tree)
    assert [one.folder.name for one in place.executor.kept()] == [R1]
    launch = going_on(before, tree, "touch here; sleep 60")
    place.prepare(launch)
    assert place.executor.release(R1) == "a process works in it", "not even before it has started"
    place.executor.start(R2)
    wait_for((place.workspaces / R1 / "here").exists)
    assert place.executor.kept() == []
    assert not place.executor.resumable(before, tree), "nobody else goes on there"
    place.finish(R2)
    place.executor.salvage(R2)
    place.executor.discard(R2, succeeded=False)
    assert [(one.folder.name, one.run.run_id if one.run else "") for one in place.executor.kept()] == [(R1, R2)]
    assert place.executor.release(R1) is None
    assert not (place.workspaces / R1).exists()


@pytest.mark.parametrize("keep", ["on-failure", "never"])
def test_a_run_that_never_started_leaves_the_folder_as_it_was(place: Place, repo: Path, keep: str) -> None:
    tree = tree_of(repo)
    before = first_run(place, tree)
    place.prepare(going_on(before, replace(tree, keep=tree_of(repo, keep=keep).keep)))
    place.executor.discard(R2, succeeded=False)  # its task was claimed by another
    assert (place.workspaces / R1 / "new").read_text() == "new\n"
    assert [one.folder.name for one in place.executor.kept()] == [R1]
    assert place.executor.resumable(before, tree)


def test_the_runner_may_die_between_taking_the_folder_and_starting(place: Place, repo: Path) -> None:
    tree = tree_of(repo)
    before = first_run(place, tree)
    place.prepare(going_on(before, tree))
    again = place.executor.run(R2)
    assert again is not None
    place.executor._departures.take(again)  # and here it is killed
    later = place.another()
    later.poll()
    assert later.recover(R2) is not None
    later.salvage(R2)
    later.discard(R2, succeeded=False)
    assert [one.reason for one in later.kept()] == ["the run that would have gone on in it never started"]
    assert (place.workspaces / R1 / "new").exists()


def test_a_folder_that_is_the_only_copy_is_not_taken_over(place: Place, repo: Path) -> None:
    tree = tree_of(repo, keep="never")
    place.launch(keeping(launch_of(shell("echo precious > new; exit 3"), run_id=R1, workspace=tree)))
    place.ended(R1)
    before = place.executor.run(R1)
    assert before is not None
    (cache_of(place.workspaces, str(repo)) / "worktrees" / R1 / "index").write_bytes(b"no index at all")
    assert "could not be put into git" in place.executor.salvage(R1)[0]
    place.executor.discard(R1, succeeded=False)
    assert not place.executor.resumable(before, tree)


def test_a_run_that_took_over_a_folder_and_got_no_further_leaves_it(place: Place, repo: Path) -> None:
    tree = tree_of(repo)
    before = first_run(place, tree)
    repo.rename(repo.with_name("away"))  # the remote is down: setup fails
    place.launch(going_on(before, replace(tree, keep=Keep.NEVER)))
    assert place.ended(R2).started is False
    assert "Unsaved work is kept" in place.executor.salvage(R2)[0]
    place.executor.discard(R2, succeeded=False)
    assert (place.workspaces / R1 / "new").read_text() == "new\n"
    assert [one.reason for one in place.executor.kept()] == ["the run that would have gone on in it never started"]
    assert place.executor.resumable(before, tree)


def test_nobody_goes_on_in_another_repository_or_where_somebody_works(place: Place, repo: Path) -> None:
    tree = tree_of(repo)
    before = first_run(place, tree)
    with subprocess.Popen(["sleep", "60"], cwd=place.workspaces / R1) as somebody:
        assert not place.executor.resumable(before, tree)
        somebody.kill()
    assert not place.executor.resumable(before, replace(tree, repo=str(repo.parent)))
    assert not place.executor.resumable(before, replace(tree, repo="ext::sh"))
    assert not place.executor.resumable(before, None)
    assert not place.executor.resumable(replace(before, workspace=str(place.root / "moved" / R1)), tree)
    assert not place.executor.resumable(replace(before, workspace=""), tree)


def test_a_git_that_was_killed_with_the_run_before_blocks_nothing(place: Place, repo: Path) -> None:
    tree = tree_of(repo)
    before = first_run(place, tree, "touch $(git rev-parse --git-dir)/index.lock; exit 3")
    place.launch(going_on(before, tree, "echo new > new && git add new"))
    assert place.ended(R2).exit_code == 0


def test_what_an_earlier_run_of_the_same_attempt_left_is_not_brought_back(place: Place, repo: Path) -> None:
    """A run that was not charged shares its attempt's number, and its salvage ref, with the next."""
    tree = tree_of(repo, keep="never")
    first_run(place, tree, "echo stale > stale; exit 3")
    place.launch(keeping(launch_of(shell("exit 3"), run_id=R2, workspace=tree)))
    place.ended(R2)
    before = place.executor.run(R2)
    assert before is not None
    place.executor.salvage(R2)
    place.executor.discard(R2, succeeded=False)
    place.launch(going_on(before, tree, run_id=R3))
    place.ended(R3)
    assert place.log(R3) == f"first\n{place.workspaces / R2}\n"


def test_a_folder_that_is_still_there_is_not_created_again(place: Place, repo: Path, tmp_path: Path) -> None:
    hooks = Hooks(after_create=f"echo made >> {tmp_path}/made", before_run=f"echo run >> {tmp_path}/made")
    tree = replace(tree_of(repo), hooks=hooks)
    before = first_run(place, tree)
    place.launch(going_on(before, tree))
    place.ended(R2)
    assert (tmp_path / "made").read_text() == "made\nrun\nrun\n"


def test_without_a_repo_the_folder_is_the_same_and_empty(place: Place) -> None:
    before = first_run(place, None, "touch left; exit 3")
    assert place.executor.resumable(before, None)
    place.launch(going_on(before, None, 'ls -A; pwd; printf %s "$0"'))
    place.ended(R2)
    said = place.log(R2)
    assert said.startswith(f"{place.workspaces / R1}\nYou have worked on this task before")
    assert f"Your working folder, {place.workspaces / R1}, is empty." in said
    place.executor.discard(R2, succeeded=True)
    assert not (place.workspaces / R1).exists()
    assert place.executor.kept() == []
