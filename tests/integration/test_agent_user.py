"""Agents as a user of their own (here `nobody`): what it needs it has, and all else of the runner's is shut to it."""

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.local_runs import R1, Place, git, launch_of, shell, wait_for
from tests.integration.test_local_workspace import tree_of
from tsched.executors import processes
from tsched.executors.account import account
from tsched.executors.views import Owner
from tsched.executors.workspace import cache_of
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Hooks, Resources, Workspace
from tsched.model.run import ExitReason, RunExit

USER = "nobody"
R2 = f"{R1}-2"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may start programs as another user")
WHO = pwd.getpwnam(USER)


class Shared(Place):
    """A place whose agents run as another user."""

    def __init__(self, root: Path) -> None:
        home = root.parent / "home"  # the runner's, shut to others as root's is
        home.mkdir(mode=0o700)
        super().__init__(root, HOME=str(home))
        self.executor = self.another(agent_user=USER)


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that everybody may pass through, as pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="tsched-agent-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def place(base: Path) -> Shared:
    return Shared(base / "state")


@pytest.fixture
def source(base: Path) -> Path:
    """The repository that agents work on: theirs to read, as git wants it of a local one."""
    folder = base / "source"
    git("init", "-q", "-b", "main", str(folder), at=base)
    (folder / "gate").write_text("squeaks\n")
    git("add", ".", at=folder)
    git("commit", "-qm", "first", at=folder)
    subprocess.run(["chown", "-R", USER, str(folder)], check=True)
    return folder


def after(place: Place, script: str, *, run_id: str = R1, workspace: Workspace | None = None) -> RunExit:
    place.launch(launch_of(shell(script), run_id=run_id, workspace=workspace, stop_grace=1))
    return place.ended(run_id)


@as_root
def test_an_agent_is_that_user_and_nothing_leads_back(place: Shared) -> None:
    who = "id -u; id -g; id -G; echo $HOME; grep NoNewPrivs /proc/self/status"
    end = after(place, f'{who}; cat "$TSCHED_TASK_FILE"; echo > mine')
    assert end.exit_code == 0, place.log(R1)
    user, group, groups, home, privileges, *task = place.log(R1).splitlines()
    assert (user, group, home) == (str(WHO.pw_uid), str(WHO.pw_gid), WHO.pw_dir)
    assert set(groups.split()) == {str(one) for one in os.getgrouplist(USER, WHO.pw_gid)}
    assert privileges.split()[1] == "1"
    assert json.loads("\n".join(task))["id"] == "7"
    assert (place.workspaces / R1 / "mine").stat().st_uid == WHO.pw_uid


@as_root
def test_a_folder_changes_hands_with_what_its_owner_had_and_nothing_else(tmp_path: Path) -> None:
    """Another user could have put a name of root's file there, or a link to it: neither becomes the next one's."""
    folder, roots = tmp_path / "folder", tmp_path / "roots"
    (folder / "deep").mkdir(parents=True)
    roots.write_text("root's")
    (folder / "deep" / "file").touch()
    Owner(uid=WHO.pw_uid, gid=WHO.pw_gid).give(folder)
    (folder / "deep" / "name").hardlink_to(roots)
    (folder / "deep" / "link").symlink_to(roots)
    (folder / "deep" / "way").symlink_to(tmp_path)
    Owner(uid=4321, gid=4321).give(folder)
    owners = {path.name: path.lstat().st_uid for path in (folder, *folder.rglob("*"))}
    assert owners == {"folder": 4321, "deep": 4321, "file": 4321, "name": 0, "link": 0, "way": 0}
    assert (roots.stat().st_uid, tmp_path.stat().st_uid) == (0, 0)


@as_root
def test_what_is_passed_through_is_not_open(place: Shared, source: Path) -> None:
    """Under a careless umask: folders on the way are passed, task and recipe are that group's to read, no more."""
    before = os.umask(0)
    try:
        assert after(place, "true", workspace=tree_of(source)).exit_code == 0
    finally:
        os.umask(before)
    run, repos = place.runs / R1, place.workspaces / ".repos"
    passed = {place.root, place.runs, run, place.workspaces, repos}
    assert {path for path in place.root.rglob("*") if path.lstat().st_mode & 0o777 == 0o711} == passed - {place.root}
    theirs = {run / "task.json", run / "recipe", *(run / "recipe").rglob("*")}
    inside = [place.workspaces / R1, *repos.glob("*.git")]
    rest = {path for path in place.root.rglob("*") if not any(one in path.parents for one in inside)}
    rest -= {path for path in rest if path.is_symlink()} | passed | theirs
    assert {path: oct(path.stat().st_mode) for path in rest if path.stat().st_mode & 0o077} == {}
    assert {path.stat().st_gid for path in theirs} == {WHO.pw_gid}
    assert not [path for path in theirs if path.stat().st_mode & 0o027]
    assert all(place.root in path.parents and path.stat().st_uid == WHO.pw_uid for path in inside)


@as_root
def test_it_can_open_its_output_anew(place: Shared) -> None:
    assert after(place, "echo said > /dev/stderr").exit_code == 0
    assert place.log(R1) == "said\n"


@as_root
def test_nothing_of_the_runners_can_be_read_or_changed_or_signalled(place: Shared, base: Path) -> None:
    """Every file and folder of the state folder is tried, and the shim; what does open has to be the run's own."""
    first = after(place, "echo secret > mine", run_id=R2)
    assert first.exit_code == 0
    state = base / "state"
    for name in ("tsched.db", "tsched.db-wal", "history.db", "runner_id"):
        (state / name).write_bytes(b"private")
        (state / name).chmod(0o600)
    (state / "mirror.git").mkdir(mode=0o700)
    (state / "mirror.git" / "HEAD").write_text("ref: x")
    place.prepare(launch_of(shell('SHIM=$PPID exec sh "$TSCHED_TASK_TITLE"')))
    spec = place.runs / R1 / "spec.json"
    facts = json.loads(spec.read_text())
    found = sorted(path for path in [state, *state.rglob("*")] if not path.is_symlink())
    probe = base / "probe"
    ours = ("$SHIM", os.getpid())
    lines = [f"kill -0 {one} && echo signalled; cat /proc/{one}/environ && echo environ" for one in ours]
    for path in found:
        lines += [f"ls {path} > /dev/null && [ -d {path} ] && echo 'listed {path}'"]
        lines += [f"[ -f {path} ] && cat {path} > /dev/null && echo 'read {path}'"]
        lines += [f"[ -f {path} ] && (: >> {path}) && echo 'wrote {path}'"]
        lines += [f"[ -d {path} ] && touch {path}/x && rm {path}/x && echo 'made {path}'"]
        lines += [f"mv {path} {path}.moved && echo 'moved {path}'"]
    probe.write_text("\n".join(f"({line}) 2>/dev/null" for line in lines))
    probe.chmod(0o644)
    spec.write_text(json.dumps({**facts, "env": {**facts["env"], "TSCHED_TASK_TITLE": str(probe)}}))
    place.executor.start(R1)
    place.ended(R1)
    told = set(place.log(R1).splitlines())
    own = (str(place.workspaces / R1), str(place.workspaces / R2))
    recipe, task = "recipe/vaela.yaml", "task.json"  # of another run too: it has the same user
    readable = {f"read {place.runs / run / name}" for run in (R1, R2) for name in (recipe, task)}
    readable |= {f"listed {place.runs / run / 'recipe'}" for run in (R1, R2)}
    assert f"made {place.workspaces / R1}" in told  # the probe did probe
    assert {line for line in told if not line.partition(" ")[2].startswith(own)} == readable


@as_root
def test_it_works_in_a_worktree_and_its_unsaved_work_is_kept(place: Shared, source: Path) -> None:
    script = "git config user.name a; git config user.email a@a; echo b > gate; git commit -qam b; echo new > more"
    hooks = Hooks(before_run="id -u > before", after_run="id -u > after", before_remove="touch removed")
    tree = Workspace(repo=str(source), ref="main", hooks=hooks)
    end = after(place, script, workspace=tree)
    assert end.exit_code == 0, (end, place.log(R1))
    (line,) = place.executor.salvage(R1)
    cache = cache_of(place.workspaces, str(source))
    commit = line.split()[5].rstrip(":")
    shown = git(f"--git-dir={cache}", "show", f"{commit}:more", at=place.root)
    assert shown == "new"
    assert git(f"--git-dir={cache}", "show", f"{commit}:before", at=place.root) == str(WHO.pw_uid)
    assert {path.stat().st_uid for path in cache.rglob("*")} == {WHO.pw_uid}
    place.executor.discard(R1, succeeded=True)  # and what the hook before that left is saved too

    def tidied() -> bool:
        place.executor.tidy()
        return not (place.workspaces / R1).exists()

    wait_for(tidied)
    assert not (cache / "worktrees" / R1).exists()
    refs = git(f"--git-dir={cache}", "for-each-ref", "--format=%(refname)", "refs/tsched/salvage", at=place.root)
    trees = [git(f"--git-dir={cache}", "ls-tree", "--name-only", ref, at=place.root) for ref in refs.splitlines()]
    assert ["removed" in tree for tree in trees] == [False, True]


@as_root
def test_saving_its_work_follows_no_link_further_than_the_user_itself_could(
    place: Shared, source: Path, base: Path
) -> None:
    """Root would put what a link leads to into git, for the agent to read."""
    secret = base / "secret"
    secret.mkdir(mode=0o700)
    (secret / "gate").write_text("top secret\n")
    script = f"echo new > more; index=$(git rev-parse --git-dir)/index; rm $index; ln -s {secret}/gate $index"
    assert after(place, script, workspace=tree_of(source)).exit_code == 0
    lines = place.executor.salvage(R1)
    found = subprocess.run(["grep", "-r", "top secret", str(place.root)], capture_output=True, check=False)
    assert found.stdout == b""
    assert lines


@as_root
def test_a_run_of_that_user_is_stopped_and_dies_with_its_shim(place: Shared) -> None:
    run_id = place.launch(launch_of(shell("trap '' TERM; while :; do sleep 0.1; done"), stop_grace=0.2))
    fields = place.until_running()
    agent, pid = fields["agent_pid"], fields["pid"]
    assert isinstance(agent, int)
    assert isinstance(pid, int)
    assert place.finish(run_id).reason is ExitReason.STOPPED
    assert processes.look(agent) is None
    run_id = place.launch(launch_of(shell("while :; do sleep 0.1; done"), run_id=R2))
    pid = wait_for(lambda: p if (p := place.lease().get("pid")) and place.lease()["run_id"] == R2 else None)
    agent = wait_for(lambda: json.loads((place.runs / R2 / "agent.json").read_text())["agent_pid"])
    assert isinstance(pid, int)
    os.kill(pid, 9)
    wait_for(lambda: processes.look(agent) is None)  # a change of user takes the death signal away: it was set again
    assert wait_for(lambda: place.executor.recover(R2)) is not None


BOMB = """
import os, time
while True:
    try:
        os.fork()
    except OSError:
        open("full", "w").close()
    time.sleep(0.01)
"""


@as_root
def test_a_fork_bomb_is_bounded_and_all_of_it_goes(place: Shared) -> None:
    launch = launch_of(shell(f"exec python3 -c '{BOMB}'"), stop_grace=0.2, resources=Resources(processes=24))
    run_id = place.launch(launch)
    full = place.workspaces / R1 / "full"
    wait_for(full.exists)
    most = sum(processes.run_id_of(one) == R1 for one in processes.everything())
    assert 0 < most <= 25  # the shim's own not counted in: it is root's
    assert place.finish(run_id).reason is ExitReason.STOPPED
    assert not [one for one in processes.everything() if processes.run_id_of(one) == R1]


@as_root
def test_the_folders_are_shut_again_where_agents_are_the_runner_itself(place: Shared) -> None:
    after(place, "true")
    folders = (place.root, place.runs, place.workspaces)
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o711] * 3
    place.executor = place.another()
    place.prepare(launch_of(shell("true"), run_id=R2))
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700] * 3


@as_root
def test_a_state_folder_that_the_user_cannot_reach_is_one_clear_error(base: Path) -> None:
    (base / "shut").mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match=r"can't pass through .*/shut: let it \(chmod o\+x\)"):
        Shared(base / "shut" / "state").executor.check()


@pytest.mark.parametrize(
    ("name", "words"), [("no-such-user", "there is no such user"), ("root", "only root|which is root itself")]
)
def test_a_user_that_cannot_be_is_one_clear_error(name: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        account(name)


def test_only_root_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigurationError, match="only root may"):
        account(USER)
