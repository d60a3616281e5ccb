"""Git over a repository that an agent could write: its objects and refs, none of its settings, and never as another.

Settings, hooks and attributes of such a repository may name commands. So ours are run in a view: a repository of our
own whose objects and refs are links to the other's. Where the agent ran as another user, they run as that user too:
what a link leads them to is then no more than the agent itself could read.
"""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tsched.failpoint import failpoint

GIT = (
    "git",
    *("-c", "core.hooksPath=/dev/null"),  # no code of the repo or of an agent runs here
    *("-c", "core.fsmonitor=false"),
    *("-c", "gc.auto=0"),  # nothing may go on in the background
    *("-c", "maintenance.auto=false"),
)
OWN = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_NO_REPLACE_OBJECTS": "1", "GIT_NO_LAZY_FETCH": "1"}
FAILURES = (OSError, subprocess.SubprocessError)  # what git commands of ours can raise
PATIENCE = 120.0  # seconds for one git command of ours; setup commands have the run's max_runtime
_ANOTHERS = ("XDG_CONFIG_HOME", "SSH_AUTH_SOCK")
_HEAD = re.compile(r"(?:ref: )?(refs/\S+|[0-9a-f]{40,64})\s*")
_SHARED = ("objects", "refs", "packed-refs", "shallow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who a folder belongs to, where that is not this process: git in it runs as that user."""

    uid: int
    gid: int

    def environ(self, env: Mapping[str, str]) -> Mapping[str, str]:
        """An environment as it is for that user: nothing in it leads to another's home or keys."""
        try:
            home = pwd.getpwuid(self.uid).pw_dir
        except KeyError:
            home = "/"
        return {**{name: value for name, value in env.items() if name not in _ANOTHERS}, "HOME": home}

    def give(self, folder: Path) -> None:
        """Make it the owner of a folder with all in it that has the folder's owner now.

        Links themselves, not what they lead to; by handle, and the folder last: until then nobody else gets in, and
        nothing that is put there leads root to a file of others.
        """
        before = folder.lstat().st_uid
        for _, folders, files, at in os.fwalk(folder, topdown=False):
            for name in (*folders, *files):
                if os.stat(name, dir_fd=at, follow_symlinks=False).st_uid == before:
                    os.chown(name, self.uid, self.gid, dir_fd=at, follow_symlinks=False)
        os.chown(folder, self.uid, self.gid, follow_symlinks=False)


def owner_of(folder: Path) -> Owner | None:
    """The owner of a folder that root may act as; None where that is this process itself, or nobody it may be."""
    try:
        stat = folder.lstat()
    except OSError:
        return None
    return Owner(uid=stat.st_uid, gid=stat.st_gid) if os.geteuid() == 0 != stat.st_uid else None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view at `path`, in the environment `env`. Make it with `view`."""

    path: Path
    env: Mapping[str, str]
    owner: Owner | None

    def git(
        self, *arguments: str, given: str | None = None, work_tree: Path | None = None,
        more: Mapping[str, str] | None = None,
    ) -> str:  # fmt: skip
        """Run git in it. `given`: its standard input. `more`: variables. Raises what FAILURES names."""
        tree = [] if work_tree is None else [f"--work-tree={work_tree}"]
        failpoint(f"git {arguments[0]}")
        command = [*GIT, f"--git-dir={self.path}", *tree, *arguments]
        return run(command, {**self.env, **(more or {})}, owner=self.owner, cwd=work_tree, given=given)

    def commit(self, name: str) -> str | None:
        """The id of the commit that a name stands for, None where there is none."""
        try:
            return self.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except subprocess.CalledProcessError:
            return None

    def head(self, admin: Path) -> str | None:
        """The commit that HEAD of the other repository (or of the worktree that it keeps at `admin`) stands for."""
        if not (admin / "HEAD").is_file():
            return None
        said = self._without_git("head", "-c", "1000", "--", str(admin / "HEAD"))
        match = _HEAD.fullmatch(said or "")
        return self.commit(match[1]) if match else None

    def take_index(self, admin: Path) -> bool:
        """Copy an index into it, with its time. Whether there was one."""
        index = admin / "index"
        return index.is_file() and self._without_git("cp", "-p", "--", str(index), str(self.path)) is not None

    def _without_git(self, *command: str) -> str | None:
        try:
            return run(command, self.env, owner=self.owner)
        except subprocess.CalledProcessError:
            return None


def view(path: Path, *, over: Path, env: Mapping[str, str], owner: Owner | None) -> View:
    """Make a view at `path`, instead of what is there, over the repository `over`. Raises what FAILURES names.

    One that git can't use is none: in it nothing would be found that could be lost.
    """
    remove(path)
    path.mkdir(mode=0o700)
    for name in _SHARED:
        if name != "shallow" or (over / name).exists():
            (path / name).symlink_to(over / name)
    (path / "HEAD").write_text("ref: refs/tsched/none\n")
    if owner is not None:
        owner.give(path)
        env = owner.environ(env)
    made = View(path=path, env={**env, **OWN}, owner=owner)
    made.git("rev-parse", "--git-dir")
    return made


def run(
    command: Sequence[str], env: Mapping[str, str], *, owner: Owner | None, cwd: Path | None = None,
    given: str | None = None,
) -> str:  # fmt: skip
    """Run a command as that owner, None: as this process. Returns what it said; raises what FAILURES names."""
    who = {} if owner is None else {"user": owner.uid, "group": owner.gid, "extra_groups": []}
    done = subprocess.run(
        command,
        env=dict(env),
        cwd=cwd or "/",
        check=True,
        input=None if given is None else given.encode(errors="surrogateescape"),
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        timeout=PATIENCE,
        **who,  # type: ignore[call-overload]  # a matter of who asks
    )
    return str(done.stdout.decode(errors="surrogateescape").strip("\n"))


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it; what can't be removed (another user's files) is left there."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError:
        if os.geteuid() != 0:  # whom no mode stops; and its chmod could be led astray
            for base, _, _ in os.walk(folder):  # folders that were made read-only
                if not os.path.islink(base):
                    with suppress(OSError):  # another user's
                        os.chmod(base, 0o700)
        shutil.rmtree(folder, ignore_errors=True)
