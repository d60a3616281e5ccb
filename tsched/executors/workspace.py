"""The folder that a run works in: an empty one, or a fresh git worktree whose unsaved work is never lost."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tsched.executors import durable
from tsched.failpoint import failpoint
from tsched.model.address import PROTOCOLS, fault
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Workspace
from tsched.model.run import Run

GIT = (
    "git",
    *("-c", "core.hooksPath=/dev/null"),  # no code of the repo or of an agent runs here
    *("-c", "core.fsmonitor=false"),
    *("-c", "gc.auto=0"),  # nothing may go on in the background
    *("-c", "maintenance.auto=false"),
)
FAILURES = (OSError, subprocess.SubprocessError)  # what git commands of ours can raise
PATIENCE = 120.0  # seconds for one git command of ours; setup commands have the run's max_runtime
GONE = ".gone_"  # what the name of a folder under removal begins with
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@-]*")
_LEFT = re.compile(r"([0-9a-f]+) .*\tcheckout: moving from (\S+) to ")  # a line of HEAD's log
_CHANGES = "Unsaved work"  # how the commit of changes that were not committed begins
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The unsaved work of a run: its worktree itself (`commit` is ""), or what salvage kept of it.

    `changes`: the commit is of changes that were not committed.
    """

    commit: str = ""
    changes: bool = False


def left_by(before: Run, tree: Worktree, env: Mapping[str, str]) -> Left | None:
    """What an earlier run in the same folder left unsaved, None where there is nothing of it."""
    if (tree.folder / ".git").exists():
        return Left()
    try:
        commit = _commit(tree, env, _left(before))
        if commit is None:
            return None
        words = _git([f"--git-dir={tree.cache}", "log", "-1", "--format=%ae %s", commit], env)
    except FAILURES:
        return None
    return Left(commit=commit, changes=words.startswith(f"{env['GIT_AUTHOR_EMAIL']} {_CHANGES}"))


def setup_commands(tree: Worktree, *, repo: str, ref: str, left: Left | None = None) -> list[tuple[str, list[str]]]:
    """What makes the worktree: words for people and argv, in this order, one run at a time for each cache.

    `left`: the work that it begins with, instead of `ref`.
    """
    git = [*GIT, f"--git-dir={tree.cache}"]
    heads = "+refs/heads/*:refs/remotes/origin/*"
    fetch = [
        "fetch",
        "--quiet",
        "--force",
        "--prune",
        "--no-write-fetch-head",
        "--",
        repo,
        heads,
        f"+{ref}:{tree.base}",
    ]
    making = f"making {tree.cache}"
    settings = "\n".join(_lines(tree.cache / "config"))
    made = f"url = {repo}" in settings and "logallrefupdates = true" in settings.lower() and heads in settings
    return [
        *([] if made else _making_commands(tree, git, repo, heads, making)),
        (f"fetching {ref} of {repo}", [*git, *fetch]),
        *_worktree_commands(tree, git, left),
    ]


def _making_commands(
    tree: Worktree, git: list[str], repo: str, heads: str, making: str
) -> list[tuple[str, list[str]]]:
    return [
        (
            making,
            [
                *GIT,
                "-c",
                "init.defaultBranch=main",
                "init",
                "--quiet",
                "--bare",
                "--template=",
                "--",
                str(tree.cache),
            ],
        ),
        (making, [*git, "config", "remote.origin.url", repo]),  # so that an agent can push from the worktree
        (making, [*git, "config", "remote.origin.fetch", heads]),
        (making, [*git, "config", "core.logAllRefUpdates", "true"]),  # salvage finds by it what HEAD has left
    ]


def _worktree_commands(tree: Worktree, git: list[str], left: Left | None) -> list[tuple[str, list[str]]]:
    if left is not None and not left.commit:
        return []
    # By force, where git remembers a worktree in that folder: its run is over and the folder gone.
    add = ["worktree", "add", "--quiet", "--detach", *(["--force"] if left else [])]
    start = left.commit if left is not None else tree.base
    making = [(f"making the worktree {tree.folder}", [*git, *add, "--", str(tree.folder), start])]
    if left is None or not left.changes:
        return making
    undoing = [*GIT, "-C", str(tree.folder), "reset", "--quiet", "HEAD^1"]
    return [*making, ("undoing the commit of unsaved changes", undoing)]


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


def salvage(tree: Worktree, env: Mapping[str, str], *, scratch: Path) -> str | None:
    """Keep what the run neither committed nor pushed under a ref of the shared repository.

    Returns a line for people, None where nothing was unsaved. Repeatable: the same work is the same commit.
    Raises OSError or subprocess.SubprocessError where git can't; the folder is then the only copy.
    """
    if not tree.folder.is_dir():
        return None
    base = _commit(tree, env, tree.base)  # None: the run took over the folder and got no further
    head = (_commit(tree, env, "HEAD", git_dir=tree.admin) if tree.admin.is_dir() else None) or base
    if head is None:
        return None
    # A repository of our own over the same objects: the shared one's settings are the agent's, and may name commands.
    own = scratch / "salvage.git"
    remove(own)
    for folder in (own / "objects", own / "refs"):
        folder.mkdir(mode=0o700, parents=True)
    (own / "HEAD").write_text("ref: refs/heads/main\n")
    for name in ("salvage.index", "salvage.index.lock"):
        (scratch / name).unlink(missing_ok=True)
    objects = {"GIT_OBJECT_DIRECTORY": str(tree.cache / "objects")}
    index = {**env, **objects, "GIT_INDEX_FILE": str(scratch / "salvage.index")}
    here = [f"--git-dir={own}", f"--work-tree={tree.folder}"]
    if (tree.admin / "index").is_file():
        # With its time: a file that was changed in the very moment of the checkout is told from that alone.
        shutil.copy2(tree.admin / "index", scratch / "salvage.index")
    else:
        _git([*here, "read-tree", head], index)
    _git([*here, "add", "--all", "--", "."], index, cwd=tree.folder)
    work = _git([*here, "write-tree"], index)
    nested = _nested(tree, index, here, head)
    if nested:
        raise OSError(f"repositories inside it hold work that is nowhere else: {', '.join(nested)[:300]}")
    changed = work != _git([*here, "rev-parse", f"{head}^{{tree}}"], index)
    tips = _unsaved(tree, env, head, base)
    if not changed and not tips:
        return None
    saved, others = tips[0] if tips else head, [tip for tip in tips if tip != head]
    together = changed or len(tips) > 1
    if together:
        when = f"@{int(tree.run.created_at)} +0000"
        dated = {**index, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
        words = f"{_CHANGES} of {tree.run.agent} on task {tree.run.task_id}, run {tree.run.run_id}"
        parents = [word for commit in (head, *others) for word in ("-p", commit)]
        saved = _git([*here, "commit-tree", work, *parents, "-m", words], dated)
    ref = _keep(tree, env, saved)
    more = f", with {len(others)} other line(s) of work as parents" if together and others else ""
    return f"Unsaved work is kept as {saved[:12]}{more}: `git fetch {tree.cache} {ref}` brings it"


def _nested(tree: Worktree, index: Mapping[str, str], here: list[str], head: str) -> list[str]:
    """Repositories and worktrees inside the worktree with anything that the commit `head` does not name.

    git itself keeps no more of them than the id of their commit.
    """
    lines = _git([*here, "ls-files", "--stage", "-z"], index).split("\0")
    links = {line.partition("\t")[2]: line.split()[1] for line in lines if line.startswith("160000 ")}
    if not links:
        return []
    listed = _git([*here, "ls-tree", "-r", "-z", "--full-tree", head], index).split("\0")
    known = {line.partition("\t")[2]: line.split()[2] for line in listed if line.startswith("160000 ")}
    plain = {name: index[name] for name in ("PATH", "HOME", "LC_ALL") if name in index}
    found = []
    for path, commit in links.items():
        status = ["-C", str(tree.folder / path), "status", "--porcelain", "--untracked-files=all"]
        if known.get(path) != commit or ((tree.folder / path / ".git").exists() and _git(status, plain)):
            found.append(path)
    return found


def _unsaved(tree: Worktree, env: Mapping[str, str], head: str, base: str | None) -> list[str]:
    """The run's commits that are on no remote and that no other of them contains, HEAD first.

    Looked at: HEAD, each branch or commit that it has left (by its log), and what was stashed since the run began.
    """
    here = f"--git-dir={tree.cache}"
    branches = dict(
        line.split(" ", 1)
        for line in _git(
            [here, "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads"], env
        ).splitlines()
    )
    left = [match.groups() for line in _lines(tree.admin / "logs" / "HEAD") if (match := _LEFT.match(line))]
    stashes = [line.split() for line in _lines(tree.cache / "logs" / "refs" / "stash")]
    found = [head, *(branches.get(name, commit) for commit, name in left)]
    found += [words[1] for words in stashes if _stashed_at(words) >= tree.run.created_at]
    known = [commit for commit in dict.fromkeys(found) if commit == head or _commit(tree, env, commit) is not None]
    there = ["--remotes", *([base] if base is not None else [])]
    elsewhere = set(_git([here, "rev-list", *known, "--not", *there], env).split())
    tips = [commit for commit in known if commit in elsewhere]
    if len(tips) > 1:
        apart = set(_git([here, "merge-base", "--independent", *tips], env).split())
        tips = [commit for commit in tips if commit in apart]
    return tips


def _stashed_at(words: list[str]) -> float:
    """The time in a line of a log: `OLD NEW Name <address> SECONDS ZONE\tmessage`."""
    end = next((index for index, word in enumerate(words) if word.endswith(">")), 0)
    try:
        return float(words[end + 1])
    except (IndexError, ValueError):
        return 0.0


def _lines(path: Path) -> list[str]:
    try:
        return durable.read(path).decode(errors="replace").splitlines()
    except OSError:
        return []


def _keep(tree: Worktree, env: Mapping[str, str], commit: str) -> str:
    """Point the salvage ref at the commit. An attempt that was not charged has its number again: keep both."""
    if tree.run.keeps_session:
        _git([f"--git-dir={tree.cache}", "update-ref", _left(tree.run), commit], env)
    ref = f"refs/tsched/salvage/{tree.run.task_id}/{tree.run.attempt}"
    for name in (ref, f"{ref}-{tree.run.run_id}"):
        known = _commit(tree, env, name)
        if known is None:
            _git([f"--git-dir={tree.cache}", "update-ref", name, commit], env)
        if known in (None, commit):
            return name
    return f"{ref}-{tree.run.run_id}"


def _left(run: Run) -> str:
    """The ref of what that very run left unsaved: a salvage ref may be of another run of the same attempt."""
    return f"refs/tsched/left/{run.run_id}"


def _commit(tree: Worktree, env: Mapping[str, str], name: str, *, git_dir: Path | None = None) -> str | None:
    try:
        arguments = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
        return _git([f"--git-dir={git_dir or tree.cache}", *arguments], env)
    except subprocess.CalledProcessError:
        return None


def _git(arguments: list[str], env: Mapping[str, str], *, cwd: Path | None = None) -> str:
    failpoint(f"git {next(word for word in arguments if word[0].isalpha())}")
    done = subprocess.run(
        [*GIT, *arguments],
        env=dict(env),
        cwd=cwd or "/",
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )
    return done.stdout.decode(errors="replace").strip()


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it; what can't be removed (another user's files) is left there."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError:
        for base, _, _ in os.walk(folder):  # folders that were made read-only
            if not os.path.islink(base):
                with suppress(OSError):  # another user's
                    os.chmod(base, 0o700)
        shutil.rmtree(folder, ignore_errors=True)


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
    try:
        _git([f"--git-dir={tree.cache}", "worktree", "prune"], env)
        _git([f"--git-dir={tree.cache}", "update-ref", "-d", tree.base], env)
    except FAILURES:
        return
