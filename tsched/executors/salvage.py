"""Unsaved work of a run's worktree: found, kept under a ref of the shared repository, found again by a later run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tsched.executors.views import FAILURES, View, remove, view
from tsched.executors.workspace import Worktree, lines_of, shared_view
from tsched.model.run import Run

DEEPEST = 16  # repositories inside one another that are looked into
_LEFT = re.compile(r"([0-9a-f]+) .*\tcheckout: moving from (\S+) to ")  # a line of HEAD's log
_LISTED = ("ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard")
_CHANGES = "Unsaved work"  # how the commit of changes that were not committed begins


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
        with shared_view(tree, env) as git:
            commit = git.commit(_left(before))
            if commit is None:
                return None
            words = git.git("log", "-1", "--no-show-signature", "--format=%ae %s", commit)
    except FAILURES:
        return None
    return Left(commit=commit, changes=words.startswith(f"{env['GIT_AUTHOR_EMAIL']} {_CHANGES}"))


def salvage(tree: Worktree, env: Mapping[str, str]) -> str | None:
    """Keep what the run neither committed nor pushed under a ref of the shared repository.

    Returns a line for people, None where nothing was unsaved. Repeatable: the same work is the same commit.
    Raises OSError or subprocess.SubprocessError where git can't; the folder is then the only copy.
    """
    if not tree.folder.is_dir():
        return None
    with shared_view(tree, env) as git:
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
    line = next(iter(lines_of(git)), "")
    if not line.startswith("gitdir: "):
        return None
    place = git.parent / line.removeprefix("gitdir: ")
    return place / next(iter(lines_of(place / "commondir")), ""), place  # of a worktree they are two


def _unsaved(tree: Worktree, git: View, head: str, base: str | None) -> list[str]:
    """The run's commits that are on no remote and that no other of them contains, HEAD first.

    Looked at: HEAD, each branch or commit that it has left (by its log), and what was stashed since the run began.
    """
    listed = git.git("for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads")
    branches = dict(line.split(" ", 1) for line in listed.splitlines())
    left = [match.groups() for line in lines_of(tree.admin / "logs" / "HEAD") if (match := _LEFT.match(line))]
    stashes = [line.split() for line in lines_of(tree.cache / "logs" / "refs" / "stash")]
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
