"""Workspaces: fresh worktrees of a real repository, side by side, and work that is never lost."""

import fcntl
import os
from pathlib import Path

import pytest

from tests.integration.local_runs import R1, Place, git, launch_of, shell, wait_for
from tsched.executors import workspace
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Keep, Workspace
from tsched.model.run import ExitReason
from tsched.model.task import Task

COMMIT = "git -c user.name=a -c user.email=a@a commit -qam"


def tree_of(repo: Path, **fields: str) -> Workspace:
    return Workspace(repo=str(repo), ref=fields.get("ref", "main"), keep=Keep(fields.get("keep", "on-failure")))


def saved(place: Place, repo: Path, ref: str) -> str:
    """Fetch a salvage ref as its line tells a person to. Returns the commit."""
    cache = workspace.cache_of(place.workspaces, str(repo))
    git("fetch", "-q", str(cache), ref, at=repo)
    return git("rev-parse", "FETCH_HEAD", at=repo)


def test_a_run_without_a_repo_has_an_empty_folder_of_its_own(place: Place) -> None:
    run_id = place.launch(launch_of(shell("pwd; ls -A; touch left")))
    assert place.ended(run_id).exit_code == 0
    assert place.log(run_id) == f"{place.workspaces / R1}\n"
    assert place.executor.salvage(run_id) == ()
    place.executor.discard(run_id, succeeded=False)
    assert not (place.workspaces / R1).exists()


def test_a_run_works_in_a_fresh_worktree_of_the_ref(place: Place, repo: Path) -> None:
    git("tag", "v1", at=repo)
    (repo / "gate").write_text("mended\n")
    git("commit", "-qam", "second", at=repo)
    first = git("rev-parse", "v1", at=repo)
    for number, (ref, text) in enumerate(
        [("main", "mended"), ("v1", "squeaks"), ("HEAD", "mended"), (first, "squeaks")]
    ):
        run_id = f"{R1}-{number}"
        place.launch(
            launch_of(shell("cat gate; git status --short"), run_id=run_id, workspace=tree_of(repo, ref=ref))
        )
        assert place.ended(run_id).exit_code == 0
        assert place.log(run_id) == f"{text}\n"
        assert place.executor.salvage(run_id) == ()
        place.executor.discard(run_id, succeeded=True)
    assert [path.name for path in place.workspaces.iterdir()] == [".repos"]


def test_two_runs_of_a_repo_at_once_do_not_see_each_other(place: Place, repo: Path, tmp_path: Path) -> None:
    ids = [f"{R1}-a", f"{R1}-b"]
    for number, run_id in enumerate(ids):
        wait = f"touch {tmp_path}/{run_id}; until test -e {tmp_path}/go; do sleep 0.05; done"
        script = f"echo {number} > gate; {wait}; cat gate"
        task = Task(id=str(number), title="t", queue="dev")
        place.launch(launch_of(shell(script), run_id=run_id, task=task, workspace=tree_of(repo)))
    wait_for(lambda: all((tmp_path / run_id).exists() for run_id in ids))
    (tmp_path / "go").touch()
    for number, run_id in enumerate(ids):
        assert place.ended(run_id).exit_code == 0
        assert place.log(run_id) == f"{number}\n"
        (line,) = place.executor.salvage(run_id)
        place.executor.discard(run_id, succeeded=True)
        commit = saved(place, repo, f"refs/tsched/salvage/{number}/1")
        assert commit[:12] in line
        assert git("show", f"{commit}:gate", at=repo) == str(number)


def test_the_agent_can_push_from_its_worktree_and_nothing_is_salvaged_then(place: Place, repo: Path) -> None:
    script = f"echo mended > gate; {COMMIT} mend && git push -q origin HEAD:refs/heads/mend"
    run_id = place.launch(launch_of(shell(script), workspace=tree_of(repo)))
    assert place.ended(run_id).exit_code == 0, place.log(run_id)
    assert git("show", "mend:gate", at=repo) == "mended"
    assert git("branch", "--format=%(refname:short)", at=repo).split() == ["main", "mend"]
    assert place.executor.salvage(run_id) == ()


def test_unsaved_work_of_every_kind_is_kept_and_nothing_else(place: Place, repo: Path) -> None:
    script = f"echo one > gate; {COMMIT} one; echo two > gate; echo new > new; git add new; echo x > y; echo o > z.o"
    run_id = place.launch(launch_of(shell(script), workspace=tree_of(repo), attempt=2))
    place.ended(run_id)
    lines = place.executor.salvage(run_id)
    assert place.executor.salvage(run_id) == lines
    place.executor.discard(run_id, succeeded=True)
    commit = saved(place, repo, "refs/tsched/salvage/7/2")
    assert git("ls-tree", "--name-only", commit, at=repo).split() == [".gitignore", "gate", "new", "y"]
    assert git("log", "--format=%s", commit, at=repo).splitlines()[1:] == ["one", "first"]
    assert git("show", f"{commit}:gate", at=repo) == "two"


def test_work_that_was_committed_but_never_pushed_is_kept(place: Place, repo: Path) -> None:
    run_id = place.launch(launch_of(shell(f"echo one > gate; {COMMIT} one"), workspace=tree_of(repo)))
    place.ended(run_id)
    assert len(place.executor.salvage(run_id)) == 1
    commit = saved(place, repo, "refs/tsched/salvage/7/1")
    assert git("log", "-1", "--format=%s", commit, at=repo) == "one"


@pytest.mark.parametrize(
    ("script", "kept"),
    [
        (f"git switch -qc side; echo side > gate; {COMMIT} side; git switch -q --detach origin/main", "side"),
        (f"git switch -qc side; echo s > gate; {COMMIT} s; git switch -q --detach HEAD~1; git branch -qD side", "s"),
        (f"echo loose > gate; {COMMIT} loose; git switch -q --detach HEAD~1", "loose"),
        ("echo stashed > gate; git -c user.name=a -c user.email=a@a stash -q", "stashed"),
    ],
    ids=["a branch", "a branch that was deleted", "a commit on no branch", "a stash"],
)  # fmt: skip
def test_work_that_head_has_left_is_kept_too(place: Place, repo: Path, script: str, kept: str) -> None:
    run_id = place.launch(launch_of(shell(script), workspace=tree_of(repo)))
    assert place.ended(run_id).exit_code == 0, place.log(run_id)
    (line,) = place.executor.salvage(run_id)
    place.executor.discard(run_id, succeeded=True)
    commit = saved(place, repo, "refs/tsched/salvage/7/1")
    assert commit[:12] in line
    assert git("show", f"{commit}:gate", at=repo) == kept


def test_several_lines_of_work_are_kept_in_one_commit(place: Place, repo: Path) -> None:
    script = f"for i in 1 2; do git switch -q --detach origin/main; echo $i > gate; {COMMIT} $i; done; echo 3 > gate"
    run_id = place.launch(launch_of(shell(script), workspace=tree_of(repo)))
    place.ended(run_id)
    (line,) = place.executor.salvage(run_id)
    assert place.executor.salvage(run_id) == (line,)
    assert "with 1 other line(s) of work as parents" in line
    commit = saved(place, repo, "refs/tsched/salvage/7/1")
    assert [git("show", f"{commit}{parent}:gate", at=repo) for parent in ("", "^1", "^2")] == ["3", "2", "1"]


def test_branches_that_were_pushed_are_not_kept(place: Place, repo: Path) -> None:
    script = f"git switch -qc side; echo x > gate; {COMMIT} x; git push -q origin side; git switch -q --detach HEAD~1"
    run_id = place.launch(launch_of(shell(script), workspace=tree_of(repo)))
    assert place.ended(run_id).exit_code == 0, place.log(run_id)
    assert place.executor.salvage(run_id) == ()


def test_an_attempt_that_was_not_charged_does_not_overwrite_the_work_of_the_one_before(
    place: Place, repo: Path
) -> None:
    for name in ("a", "b"):
        run_id = place.launch(launch_of(shell(f"echo {name} > gate"), run_id=f"{R1}-{name}", workspace=tree_of(repo)))
        place.ended(run_id)
        place.executor.salvage(run_id)
        place.executor.discard(run_id, succeeded=False)
    for name, ref in (("a", "7/1"), ("b", f"7/1-{R1}-b")):
        assert git("show", f"{saved(place, repo, f'refs/tsched/salvage/{ref}')}:gate", at=repo) == name


def test_work_that_git_can_not_take_stays_where_it_is(place: Place, repo: Path) -> None:
    run_id = place.launch(launch_of(shell("echo mended > gate"), workspace=tree_of(repo, keep="never")))
    place.ended(run_id)
    objects = workspace.cache_of(place.workspaces, str(repo)) / "worktrees" / run_id / "index"
    objects.write_bytes(b"no index at all")
    (line,) = place.executor.salvage(run_id)
    folder = place.workspaces / run_id
    assert f"it stays in {folder}" in line
    place.executor.discard(run_id, succeeded=False)
    assert (folder / "gate").read_text() == "mended\n"


def test_an_agent_that_replaced_git_in_its_worktree_loses_nothing(place: Place, repo: Path) -> None:
    run_id = place.launch(launch_of(shell("rm .git; git init -q; echo mended > gate"), workspace=tree_of(repo)))
    place.ended(run_id)
    place.executor.salvage(run_id)
    place.executor.discard(run_id, succeeded=True)
    assert git("show", f"{saved(place, repo, 'refs/tsched/salvage/7/1')}:gate", at=repo) == "mended"
    assert [path.name for path in place.workspaces.iterdir()] == [".repos"]


@pytest.mark.parametrize(
    ("keep", "succeeded", "stays"),
    [
        ("never", False, False), ("never", True, False), ("on-failure", False, True),
        ("on-failure", True, False), ("always", True, True),
    ],
)  # fmt: skip
def test_what_is_kept(place: Place, repo: Path, keep: str, succeeded: bool, stays: bool) -> None:
    run_id = place.launch(launch_of(shell("true"), workspace=tree_of(repo, keep=keep)))
    place.ended(run_id)
    place.executor.salvage(run_id)
    for _ in range(2):
        place.executor.discard(run_id, succeeded=succeeded)
    assert (place.workspaces / run_id).exists() == stays
    cache = workspace.cache_of(place.workspaces, str(repo))
    assert (cache / "worktrees" / run_id).exists() == stays
    assert place.executor.poll() == {}


@pytest.mark.parametrize(("fields", "words"), [({"ref": "nope"}, "nope"), ({"repo": "/nowhere"}, "/nowhere")])
def test_a_worktree_that_can_not_be_made_says_why_and_is_not_charged(
    place: Place, repo: Path, fields: dict[str, str], words: str
) -> None:
    wanted = Workspace(repo=fields.get("repo", str(repo)), ref=fields.get("ref", "main"))
    run_id = place.launch(launch_of(shell("echo started"), workspace=wanted))
    end = place.ended(run_id)
    assert (end.reason, end.started) == (ExitReason.START_FAILED, False)
    assert words in end.detail
    assert "started" not in place.log(run_id)
    assert place.executor.salvage(run_id) == ()
    place.executor.discard(run_id, succeeded=False)


def test_a_stop_while_the_worktree_is_made_is_heard(place: Place, repo: Path) -> None:
    """Another run holds the repository's lock."""
    place.prepare(launch_of(shell("echo started"), workspace=tree_of(repo)))
    lock = Path(f"{workspace.cache_of(place.workspaces, str(repo))}.lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        place.executor.start(R1)
        wait_for((place.runs / R1 / "started").exists)
        end = place.finish(R1)
    assert (end.reason, end.started) == (ExitReason.STOPPED, False)
    assert not (place.logs / f"{R1}.log").exists()


@pytest.mark.parametrize(
    "wanted",
    [
        Workspace(repo="--upload-pack=touch owned"),
        Workspace(repo="ext::sh -c touch% owned"),
        Workspace(repo="/r", ref="--output=x"),
        Workspace(repo="/r", ref="main:refs/heads/owned"),
        Workspace(repo="/r", ref="+main"),
        Workspace(repo=""),
    ],
)
def test_an_address_or_ref_that_git_could_take_for_something_else_is_refused(place: Place, wanted: Workspace) -> None:
    with pytest.raises(ConfigurationError, match=r"workspace\.(repo|ref)"):
        place.executor.prepare(launch_of(shell("true"), workspace=wanted))
    assert place.executor.poll() == {}


def test_no_hook_of_the_repository_runs(place: Place, repo: Path, tmp_path: Path) -> None:
    place.launch(launch_of(shell("true"), workspace=tree_of(repo)))
    place.ended(R1)
    hooks = workspace.cache_of(place.workspaces, str(repo)) / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-checkout", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/owned\n")
        os.chmod(hooks / name, 0o755)
    place.launch(launch_of(shell("echo x > gate"), run_id=f"{R1}-2", workspace=tree_of(repo)))
    place.ended(f"{R1}-2")
    assert place.executor.salvage(f"{R1}-2")
    place.executor.discard(f"{R1}-2", succeeded=True)
    assert not (tmp_path / "owned").exists()


def test_a_change_in_the_moment_of_the_checkout_is_saved_too(place: Place, repo: Path) -> None:
    """Same size, same times: git then compares contents, as long as its index keeps its own time."""
    racing = (
        "git config core.trustctime false; touch -d '1 hour ago' gate; git update-index -q --refresh; "
        "touch -r gate stamp; echo 'creaks!' > gate; touch -r stamp gate; "
        "touch -r stamp $(git rev-parse --git-dir)/index; rm stamp"
    )
    run_id = place.launch(launch_of(shell(racing), workspace=tree_of(repo)))
    assert place.ended(run_id).exit_code == 0
    (line,) = place.executor.salvage(run_id)
    commit = saved(place, repo, "refs/tsched/salvage/7/1")
    assert commit[:12] in line
    assert git("show", f"{commit}:gate", at=repo) == "creaks!"
