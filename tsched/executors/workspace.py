"""A run's git worktree: where it is, the repository behind it, how git is started for it, and its removal."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tsched.executors import durable
from tsched.executors.views import FAILURES, View, owner_of, remove, run, view
from tsched.failpoint import failpoint
from tsched.model.address import PROTOCOLS, fault
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Workspace
from tsched.model.run import Run

GONE = ".gone_"  # what the name of a folder under removal begins with
MOST = 16 << 20  # bytes that are read of a file which an agent can write
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@-]*")
_PASSED = (
    *("PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR", "SSH_AUTH_SOCK"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worktree:
    """One run's worktree: its folder, and the bare repository that all runs of that address share."""

    folder: Path
    cache: Path
    run: Run

    @property
    def base(self) -> str:
        """The ref of the commit that the run began with."""
        return f"refs/tsched/base/{self.run.run_id}"

    @property
    def admin(self) -> Path:
        """Where git keeps this worktree's HEAD and index."""
        return self.cache / "worktrees" / self.folder.name


def cache_of(workspaces: Path, repo: str) -> Path:
    """The shared bare repository of an address."""
    return workspaces / ".repos" / f"{hashlib.sha256(repo.encode()).hexdigest()[:16]}.git"


def address(workspace: Workspace) -> str:
    """The repository's address for git; a relative path counts from the runner's folder.

    Raises ConfigurationError for an address or ref that git could take for an option or a command.
    """
    repo = workspace.repo
    if (why := fault(repo)) is not None:
        raise ConfigurationError(f"workspace.repo: {why}")
    if not _REF.fullmatch(workspace.ref):
        raise ConfigurationError(f"workspace.ref {workspace.ref!r} is no branch, tag or commit: write its plain name")
    remote = "://" in repo or re.match(r"[^/]+:", repo) is not None
    return repo if remote else str(Path(repo).expanduser().absolute())


def git_environment(host: Mapping[str, str], run_id: str) -> dict[str, str]:
    """The environment of our own git commands: no inherited GIT_*, no question to anybody."""
    return {name: host[name] for name in _PASSED if name in host} | {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": ":".join((*PROTOCOLS, "http")),  # http: to this machine alone, see model/address.py
        "GIT_AUTHOR_NAME": "tsched",
        "GIT_AUTHOR_EMAIL": "tsched@localhost",
        "GIT_COMMITTER_NAME": "tsched",
        "GIT_COMMITTER_EMAIL": "tsched@localhost",
        "TSCHED_RUN_ID": run_id,
    }


@contextmanager
def shared_view(tree: Worktree, env: Mapping[str, str]) -> Iterator[View]:
    """The shared repository without its settings, which are the agent's."""
    at = tree.cache.with_name(f".view_{tree.run.run_id}")
    try:
        yield view(at, over=tree.cache, env=env, owner=owner_of(tree.folder) or owner_of(tree.cache))
    finally:
        remove(at)


def lines_of(path: Path) -> list[str]:
    """The lines of a file that an agent can write, none where it can't be read."""
    try:
        return durable.read(path, most=MOST).decode(errors="replace").splitlines()
    except OSError:
        return []


def remove_worktree(tree: Worktree, env: Mapping[str, str]) -> None:
    """Remove a worktree and what git remembers of it. A broken shared repository keeps no run from ending.

    It goes away in one step: whoever looks after a kill finds all of it or nothing, and saves no half of it.
    """
    gone = tree.folder.with_name(f"{GONE}{tree.folder.name}")
    remove(gone)
    with suppress(OSError):
        tree.folder.rename(gone)
    failpoint("worktree out of the way")
    remove(gone)
    remove(tree.folder)
    if not tree.cache.is_dir():
        return
    with suppress(*FAILURES), shared_view(tree, env) as git:
        run(["rm", "-rf", "--", str(tree.admin)], env, owner=git.owner)
        git.git("update-ref", "-d", tree.base)
