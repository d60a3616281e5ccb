"""What a review found of work folders: nothing is called saved that is not, and no kill wedges them."""

import fcntl
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.local_runs import R1, Place, git, launch_of, shell, wait_for
from tests.integration.test_local_workspace import saved, tree_of
from tsched.executors import views
from tsched.executors.workspace import GONE, cache_of
from tsched.model.fleet import Hooks

R2 = f"{R1}-2"
COMMIT = "git -c user.name=a -c user.email=a@a commit -qam"


def ended(place: Place, repo: Path, script: str, *, keep: str = "never", run_id: str = R1) -> tuple[str, ...]:
    """A run that is over; what salvage says of it."""
    place.launch(launch_of(shell(script), run_id=run_id, workspace=tree_of(repo, keep=keep)))
    place.ended(run_id)
    return tuple(place.executor.salvage(run_id))


@pytest.mark.parametrize(
    "script",
    [
        "git worktree add -q -b side inner/side && echo precious > inner/side/new",
        f"git clone -q . sub && cd sub && echo precious > gate && {COMMIT} inner",
        "git init -q sub && cd sub && echo precious > new",
    ],
)
def test_work_in_repositories_inside_the_folder_is_not_called_saved(place: Place, repo: Path, script: str) -> None:
    (line,) = ended(place, repo, script)
    assert "could not be put into git" in line
    place.executor.discard(R1, succeeded=True)
    assert [one.folder.name for one in place.executor.kept()] == [R1]
    assert any(path.read_text() == "precious\n" for path in (place.workspaces / R1).rglob("*") if path.is_file())


def test_a_submodule_counts_once_it_was_changed(place: Place, repo: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    shutil.copytree(repo, inner)
    git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "sub", at=repo)
    git("commit", "-qm", "with a submodule", at=repo)
    update = "git -c protocol.file.allow=always submodule -q update --init"
    assert ended(place, repo, update) == ()
    (line,) = ended(place, repo, f"{update} && echo precious > sub/gate", run_id=R2)
    assert "sub" in line


def test_an_agents_settings_name_no_command_that_saving_runs(place: Place, repo: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"git config filter.x.clean 'touch {mark}; cat'; echo '* filter=x' > .gitattributes; echo new > gate"
    (line,) = ended(place, repo, script)
    assert not mark.exists()
    assert git("show", f"{saved(place, repo, line.split()[-3].rstrip('`'))}:gate", at=repo) == "new"


SETTINGS = (
    *("core.fsmonitor", "core.alternateRefsCommand", "core.sshCommand", "core.editor", "core.pager", "core.askPass"),
    *("diff.external", "diff.x.textconv", "filter.x.clean", "filter.x.smudge", "filter.x.process", "gpg.program"),
    *("merge.x.driver", "remote.origin.uploadpack", "credential.helper", "uploadpack.packObjectsHook"),
)


def hostile(mark: Path, *, worktree: bool) -> str:
    """Commands wherever git looks for some: settings, attributes, hooks; of the repository, or of one worktree."""
    into = "git config extensions.worktreeConfig true; git config --worktree" if worktree else "git config"
    lines = [f"{into} {name} 'touch {mark}; cat'" for name in SETTINGS]
    lines += [f"{into} {name} true" for name in ("log.showSignature", "commit.gpgSign", "core.untrackedCache")]
    lines += [f"{into} include.path {mark}.included", f"{into} core.hooksPath {mark.parent}/hooks"]
    lines += ["hooks=$(git rev-parse --git-common-dir)/hooks; mkdir -p $hooks"]
    names = ("reference-transaction", "post-index-change", "pre-commit", "post-checkout", "fsmonitor-watchman")
    lines += [f"printf '#!/bin/sh\\ntouch {mark}\\n' > $hooks/{name}; chmod +x $hooks/{name}" for name in names]
    lines += ["cat .git >> .gitmodules; echo '* filter=x diff=x merge=x' > .gitattributes; echo newer > gate"]
    return "\n".join(lines)


def test_no_setting_or_hook_of_an_agents_runs_while_its_work_is_saved_and_removed(
    place: Place, repo: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    everywhere = f"{hostile(mark, worktree=False)}\n{hostile(mark, worktree=True)}"
    script = f"{COMMIT} one --allow-empty\n{everywhere}\nrm -f {mark}"
    (line,) = ended(place, repo, script)
    assert "is kept as" in line
    place.executor.discard(R1, succeeded=True)
    assert not (place.workspaces / R1).exists()
    assert not mark.exists()


@pytest.mark.parametrize(
    "make",
    [
        "git init -q sub",
        "git worktree add -q -b side sub",
    ],
)
def test_no_setting_of_a_repository_inside_the_folder_runs(
    place: Place, repo: Path, tmp_path: Path, make: str
) -> None:
    """git looks into such a one by another git, which goes by what it finds there."""
    mark = tmp_path / "mark"
    make += f"; cd sub; echo a > f; git add f; {COMMIT} a; cd ..; git add sub; cd sub"
    script = f"{make}\n{hostile(mark, worktree=False)}\ntouch -d 2020-01-01 f; rm -f {mark}; cd ..; {COMMIT} with"
    (line,) = ended(place, repo, f"{script}; touch -d 2020-01-02 sub/f; rm -f {mark}")
    assert "sub" in line
    assert not mark.exists()


def test_no_missing_object_is_fetched_by_a_command_of_an_agents(place: Place, repo: Path, tmp_path: Path) -> None:
    """A partial clone asks its remote for what is missing, and the agent says how."""
    mark = tmp_path / "mark"
    script = (
        "git config core.repositoryFormatVersion 1; git config extensions.partialClone origin;"
        f"git config remote.origin.promisor true; git config remote.origin.uploadpack 'touch {mark};';"
        f"echo lost > lost; git add lost; {COMMIT} lost; echo more > gate;"
        "lost=$(git rev-parse HEAD); rm -f $(git rev-parse --git-common-dir)/objects/$(echo $lost | cut -c1-2)/*"
    )
    (line,) = ended(place, repo, script)
    place.executor.discard(R1, succeeded=True)
    assert not mark.exists()
    assert line


@pytest.mark.parametrize("head", ["garbage", "ref: refs/heads/nowhere"])
def test_whatever_an_agent_makes_of_its_head_its_work_is_saved(place: Place, repo: Path, head: str) -> None:
    script = f"echo new > gate; echo more > more; printf '{head}' > $(git rev-parse --git-dir)/HEAD"
    (line,) = ended(place, repo, script)
    assert git("show", f"{saved(place, repo, line.split()[-3].rstrip('`'))}:more", at=repo) == "more"


def test_a_repository_that_git_cannot_use_is_not_one_without_work(place: Place, repo: Path) -> None:
    (line,) = ended(place, repo, "echo new > gate; rm -rf $(git rev-parse --git-common-dir)/refs")
    assert "could not be put into git" in line
    place.executor.discard(R1, succeeded=True)
    assert (place.workspaces / R1 / "gate").read_text() == "new\n"


def test_a_kill_while_a_folder_is_removed_saves_no_half_of_it(place: Place, repo: Path) -> None:
    assert ended(place, repo, "true") == ()
    (place.workspaces / R1).rename(place.workspaces / f"{GONE}{R1}")  # and here the runner is killed
    later = place.another()
    assert later.salvage(R1) == ()
    later.discard(R1, succeeded=True)
    assert not (place.runs / R1).exists()
    place.executor = place.another()
    ended(place, repo, "true", run_id=R2)
    assert not (place.workspaces / f"{GONE}{R1}").exists()


def test_what_is_written_while_a_folder_waits_to_go_is_saved(place: Place, repo: Path) -> None:
    ended(place, repo, "true")
    with subprocess.Popen(["sleep", "60"], cwd=place.workspaces / R1) as somebody:
        place.executor.discard(R1, succeeded=True)
        (place.workspaces / R1 / "late").write_text("precious\n")
        place.executor.tidy()
        assert (place.workspaces / R1 / "late").exists()
        somebody.kill()
    place.executor.tidy()
    assert not (place.workspaces / R1).exists()
    assert git("show", f"{saved(place, repo, 'refs/tsched/salvage/7/1')}:late", at=repo) == "precious"


def test_two_removals_by_hand_do_not_meet(place: Place, repo: Path) -> None:
    ended(place, repo, "echo new > new", keep="always")
    place.executor.discard(R1, succeeded=True)
    with (place.workspaces / ".kept" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert place.executor.release(R1) == "another removal is under way: try again"
    assert place.executor.release(R1) is None


def test_locks_of_a_git_that_was_killed_with_its_shim_stop_no_later_run(place: Place, repo: Path) -> None:
    ended(place, repo, "true")
    cache = cache_of(place.workspaces, str(repo))
    old = time.time() - 3600
    for name in ("config.lock", "packed-refs.lock", "refs/remotes/origin/main.lock"):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).touch()
        os.utime(cache / name, (old, old))
    git("commit", "-q", "--allow-empty", "-m", "more", at=repo)
    place.launch(launch_of(shell("git log -1 --format=%s"), run_id=R2, workspace=tree_of(repo)))
    assert place.ended(R2).exit_code == 0
    assert place.log(R2) == "more\n"


def test_a_named_pipe_in_the_place_of_a_file_stops_nobody(place: Place) -> None:
    run_id = place.launch(launch_of(shell("true")))
    place.ended(run_id)
    for path in (place.runs / run_id / "run.json", place.logs / f"{run_id}.log"):
        path.unlink()
        os.mkfifo(path)
    assert place.executor.run(run_id) is None
    assert place.executor.tail(run_id) == place.executor.head(run_id) == ""


def test_what_belongs_to_another_user_is_left_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs" / "inner").mkdir(parents=True)

    def refused(*_: object, **options: object) -> None:
        if not options.get("ignore_errors"):
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(shutil, "rmtree", refused)
    monkeypatch.setattr(os, "chmod", refused)
    views.remove(tmp_path / "theirs")
    assert (tmp_path / "theirs").exists()


def test_a_hook_after_a_run_that_ran_out_of_time_is_waited_for(place: Place, repo: Path, tmp_path: Path) -> None:
    tree = replace(tree_of(repo), hooks=Hooks(after_run=f"sleep 0.3; touch {tmp_path}/after"))
    place.launch(launch_of(shell("exec sleep 300"), workspace=tree, max_runtime=0.5, stop_grace=0.2))
    wait_for((tmp_path / "after").exists)
