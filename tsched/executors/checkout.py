"""The commands by which a run's worktree comes to be: of a ref, or of the work that an earlier run left."""

from tsched.executors.salvage import Left
from tsched.executors.views import GIT
from tsched.executors.workspace import Worktree, lines_of


def setup_commands(tree: Worktree, *, repo: str, ref: str, left: Left | None = None) -> list[tuple[str, list[str]]]:
    """What makes the worktree: words for people and argv, in this order, one run at a time for each cache.

    `left`: the work that it begins with, instead of `ref`.
    """
    git = [*GIT, f"--git-dir={tree.cache}"]
    heads = "+refs/heads/*:refs/remotes/origin/*"
    fetch = [*("fetch", "--quiet", "--force", "--prune", "--no-write-fetch-head", "--"), repo, heads]
    making = f"making {tree.cache}"
    settings = "\n".join(lines_of(tree.cache / "config"))
    made = f"url = {repo}" in settings and "logallrefupdates = true" in settings.lower() and heads in settings
    return [
        *([] if made else _making_commands(tree, git, repo, heads, making)),
        (f"fetching {ref} of {repo}", [*git, *fetch, f"+{ref}:{tree.base}"]),
        *_worktree_commands(tree, git, left),
    ]


def _making_commands(
    tree: Worktree, git: list[str], repo: str, heads: str, making: str
) -> list[tuple[str, list[str]]]:
    bare = ["-c", "init.defaultBranch=main", "init", "--quiet", "--bare", "--template=", "--", str(tree.cache)]
    return [
        (making, [*GIT, *bare]),
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
