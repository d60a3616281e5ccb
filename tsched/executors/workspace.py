"""The folder that a run works in: an empty one, or a fresh git worktree whose unsaved work is never lost."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tsched.executors import durable
from tsched.executors.views import FAILURES, GIT, View, owner_of, remove, run, view
from tsched.failpoint import failpoint
from tsched.model.address import PROTOCOLS, fault
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Workspace
from tsched.model.run import Run

GONE = ".gone_"  # what the name of a folder under removal begins with
MOST = 16 << 20  # bytes that are read of a file which an agent can write
DEEPEST = 16  # repositories inside one another that are looked into
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@-]*")
_LEFT = re.compile(r"([0-9a-f]+) .*\tcheckout: moving from (\S+) to ")  # a line of HEAD's log
_LISTED = ("ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard")
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
        with _view(tree, env) as git:
            commit = git.commit(_left(before))
            if commit is None:
                return None
            words = git.git("log", "-1", "--no-show-signature", "--format=%ae %s", commit)
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


@contextmanager
def _view(tree: Worktree, env: Mapping[str, str]) -> Iterator[View]:
    """The shared repository without its settings, which are the agent's."""
    at = tree.cache.with_name(f".view_{tree.run.run_id}")
    try:
        yield view(at, over=tree.cache, env=env, owner=owner_of(tree.folder) or owner_of(tree.cache))
    finally:
        remove(at)


def salvage(tree: Worktree, env: Mapping[str, str]) -> str | None:
    """Keep what the run neither committed nor pushed under a ref of the shared repository.

    Returns a line for people, None where nothing was unsaved. Repeatable: the same work is the same commit.
    Raises OSError or subprocess.SubprocessError where git can't; the folder is then the only copy.
    """
    if not tree.folder.is_dir():
        return None
    with _view(tree, env) as git:
        return _salvage(tree, git)


def _salvage(tree: Worktree, git: View) -> str | None:
    base = git.commit(tree.base)  # None: the run took over the folder and got no further
    head = git.head(tree.admin) or base
    if head is None:
        return None
    # With its time: a file that was changed in the very moment of the checkout is told from that alone.
    if not git.take_index(tree.admin):
        git.git("read-tree", head)
    # Not `git add`, which looks into repositories inside this one by a git that goes by their settings.
    changes = git.git(*_LISTED, work_tree=tree.folder)
    paths = "".join(f"{path.rstrip('/')}\0" for path in changes.split("\0") if path)
    git.git("update-index", "-z", "--add", "--remove", "--replace", "--stdin", given=paths, work_tree=tree.folder)
    work = git.git("write-tree")
    if nested := _nested(tree.folder, git, head):
        names = ", ".join(nested)[:300].encode(errors="replace").decode()
        raise OSError(f"repositories inside it hold work that is nowhere else: {names}")
    changed = work != git.git("rev-parse", f"{head}^{{tree}}")
    tips = _unsaved(tree, git, head, base)
    if not changed and not tips:
        return None
    saved, others = tips[0] if tips else head, [tip for tip in tips if tip != head]
    together = changed or len(tips) > 1
    if together:
        when = f"@{int(tree.run.created_at)} +0000"
        words = f"{_CHANGES} of {tree.run.agent} on task {tree.run.task_id}, run {tree.run.run_id}"
        parents = [word for commit in (head, *others) for word in ("-p", commit)]
        dated = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
        saved = git.git("commit-tree", work, *parents, "-m", words, more=dated)
    ref = _keep(tree, git, saved)
    more = f", with {len(others)} other line(s) of work as parents" if together and others else ""
    return f"Unsaved work is kept as {saved[:12]}{more}: `git fetch {tree.cache} {ref}` brings it"


def _nested(folder: Path, git: View, head: str, depth: int = 0) -> list[str]:
    """Repositories and worktrees inside a folder with anything that its commit `head` does not name.

    git itself keeps no more of them than the id of their commit.
    """
    lines = git.git("ls-files", "--stage", "-z").split("\0")
    links = {line.partition("\t")[2]: line.split()[1] for line in lines if line.startswith("160000 ")}
    if not links:
        return []
    listed = git.git("ls-tree", "-r", "-z", "--full-tree", head).split("\0")
    known = {line.partition("\t")[2]: line.split()[2] for line in listed if line.startswith("160000 ")}
    return [path for path, commit in links.items() if known.get(path) != commit or _dirty(folder / path, git, depth)]


def _dirty(folder: Path, outer: View, depth: int) -> bool:
    """Whether a repository inside another has changes, or one inside it has."""
    found = _repository(folder / ".git")
    if found is None:
        return False
    if depth >= DEEPEST:
        return True
    git = view(outer.path.with_name(f"{outer.path.name}-{depth}"), over=found[0], env=outer.env, owner=outer.owner)
    try:
        head = git.head(found[1])
        if head is None:
            return True
        git.git("update-ref", "--no-deref", "HEAD", head)
        git.take_index(found[1])
        changes = ["status", "--porcelain", "--untracked-files=all", "--ignore-submodules=all"]
        return bool(git.git(*changes, work_tree=folder) or _nested(folder, git, head, depth + 1))
    finally:
        remove(git.path)


def _repository(git: Path) -> tuple[Path, Path] | None:
    """Where a folder's repository and its HEAD are: `.git` itself, or as the file of that name says."""
    if git.is_dir():
        return git, git
    line = next(iter(_lines(git)), "")
    if not line.startswith("gitdir: "):
        return None
    place = git.parent / line.removeprefix("gitdir: ")
    return place / next(iter(_lines(place / "commondir")), ""), place  # of a worktree they are two


def _unsaved(tree: Worktree, git: View, head: str, base: str | None) -> list[str]:
    """The run's commits that are on no remote and that no other of them contains, HEAD first.

    Looked at: HEAD, each branch or commit that it has left (by its log), and what was stashed since the run began.
    """
    listed = git.git("for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads")
    branches = dict(line.split(" ", 1) for line in listed.splitlines())
    left = [match.groups() for line in _lines(tree.admin / "logs" / "HEAD") if (match := _LEFT.match(line))]
    stashes = [line.split() for line in _lines(tree.cache / "logs" / "refs" / "stash")]
    found = [head, *(branches.get(name, commit) for commit, name in left)]
    found += [words[1] for words in stashes if _stashed_at(words) >= tree.run.created_at]
    known = [commit for commit in dict.fromkeys(found) if commit == head or git.commit(commit) is not None]
    there = ["--remotes", *([base] if base is not None else [])]
    elsewhere = set(git.git("rev-list", *known, "--not", *there).split())
    tips = [commit for commit in known if commit in elsewhere]
    if len(tips) > 1:
        apart = set(git.git("merge-base", "--independent", *tips).split())
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
        return durable.read(path, most=MOST).decode(errors="replace").splitlines()
    except OSError:
        return []


def _keep(tree: Worktree, git: View, commit: str) -> str:
    """Point the salvage ref at the commit. An attempt that was not charged has its number again: keep both."""
    if tree.run.keeps_session:
        git.git("update-ref", _left(tree.run), commit)
    ref = f"refs/tsched/salvage/{tree.run.task_id}/{tree.run.attempt}"
    for name in (ref, f"{ref}-{tree.run.run_id}"):
        known = git.commit(name)
        if known is None:
            git.git("update-ref", name, commit)
        if known in (None, commit):
            return name
    return f"{ref}-{tree.run.run_id}"


def _left(run: Run) -> str:
    """The ref of what that very run left unsaved: a salvage ref may be of another run of the same attempt."""
    return f"refs/tsched/left/{run.run_id}"


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
    with suppress(*FAILURES), _view(tree, env) as git:
        run(["rm", "-rf", "--", str(tree.admin)], env, owner=git.owner)
        git.git("update-ref", "-d", tree.base)
