"""A work tree for edits: write, commit, push, revert. Short-lived: the daemon never uses it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from git import GitCommandError, InvalidGitRepositoryError, NoSuchPathError, Repo

from tsched.gitops.git import GitFailed, check_branch, clean_environment, git, last_line
from tsched.gitops.remotes import remote_of
from tsched.model.errors import ConfigurationError

NOBODY = ("tsched", "tsched@localhost")  # who commits where the user has no git identity


def make_bare(folder: Path, branch: str = "main") -> None:
    """An empty bare repository, as a remote to push to."""
    Repo.init(folder, bare=True, initial_branch=check_branch(branch)).close()


def replace_file(path: Path, text: str) -> None:
    """Write a file of a work tree so that a reader sees the old text or the new. Its mode is kept."""
    temporary = path.with_name(f".{path.name}.tsched")
    try:
        temporary.write_bytes(text.encode())
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o777)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


class Worktree:
    """A work tree of our own, or a person's. Use it with `with`: its handles are closed at the end.

    Hooks run in a person's alone: there they are theirs, and may take their time.
    """

    def __init__(
        self, folder: Path, repo: Repo, branch: str, *, theirs: bool = False, environ: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._repo = repo
        self._branch = branch
        self._theirs = theirs
        self._environ = environ or {}  # what its remote needs

    @classmethod
    def make(cls, folder: Path, branch: str = "main") -> "Worktree":
        """A new repository in a folder."""
        repo = Repo.init(folder, initial_branch=check_branch(branch))
        repo.git.update_environment(**clean_environment())
        return cls(folder, repo, branch)

    @classmethod
    def around(cls, folder: Path) -> "Worktree":
        """A person's work tree that a folder stands in. Raises ConfigurationError where it is in none."""
        try:
            repo = Repo(folder, search_parent_directories=True)
        except (InvalidGitRepositoryError, NoSuchPathError):
            raise ConfigurationError(f"{folder.resolve()} is in no git repository: `git init` makes one") from None
        if repo.bare:
            repo.close()
            raise ConfigurationError(f"{folder.resolve()} is in a bare repository: stand in a work tree")
        repo.git.update_environment(**clean_environment())
        branch = "HEAD" if repo.head.is_detached else repo.active_branch.name
        return cls(folder, repo, branch, theirs=True)

    @property
    def origin(self) -> str:
        """The address of the remote `origin`. Raises ConfigurationError where there is none."""
        for remote in self._repo.remotes:
            if remote.name == "origin":
                return str(remote.url)
        raise ConfigurationError("this repository has no remote `origin`: set TSCHED_REPO to the fleet repo")

    @classmethod
    def clone(cls, url: str, folder: Path, branch: str = "main") -> "Worktree":
        """Clone a remote (an empty one too). Raises TransientError where it can't be reached."""
        remote = remote_of(url)
        git("clone", "--quiet", "--end-of-options", remote.address, str(folder), environ=remote.environ)
        repo = Repo(folder)
        repo.git.update_environment(**clean_environment())
        if not repo.heads:
            repo.git.symbolic_ref("HEAD", f"refs/heads/{check_branch(branch)}")
        return cls(folder, repo, branch, environ=remote.environ)

    def __enter__(self) -> "Worktree":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._repo.close()

    def write(self, files: Mapping[str, bytes]) -> None:
        """Put files into the work tree, by path."""
        for path, data in files.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    def remove(self, path: str) -> None:
        """Take a file out of the work tree."""
        (self.folder / path).unlink()

    def commit(self, message: str, paths: Sequence[str] = (".",)) -> str:
        """Commit what changed below these paths (by default: all); the commit's id.

        What a person has staged elsewhere stays so. Raises ConfigurationError where nothing changed.
        """
        self._identify()
        self._git("add", "--all", "--", *paths)
        self._git("commit", "--quiet", "--only", "--message", message, "--", *paths)
        return self._repo.head.commit.hexsha

    def restore(self, revision: str, folders: Sequence[str]) -> Sequence[str]:
        """Make these folders what they were in a revision, in work tree and index. Returns those that there are.

        Raises ConfigurationError where a person has changes in them, or the revision is not known.
        """
        if self._repo.git.status("--porcelain", "--", *folders):
            raise ConfigurationError(f"there are changes in {', '.join(folders)}: commit or stash them first")
        tree = self._repo.git.rev_parse("--verify", "--quiet", "--end-of-options", f"{revision}^{{tree}}")
        kept = [name for name in folders if self._repo.git.ls_tree("--name-only", tree, name)]
        before = [name for name in folders if self._repo.git.ls_tree("--name-only", "HEAD", name)]
        self._git("rm", "-r", "--quiet", "--force", "--ignore-unmatch", "--", *folders)
        if kept:
            self._git("checkout", "--quiet", tree, "--", *kept)
        return [name for name in folders if name in kept or name in before]

    def revert(self, commit: str) -> str:
        """Commit the undoing of a commit; its id. Raises ConfigurationError where it can't be undone cleanly."""
        self._identify()
        self._git("revert", "--no-edit", commit)
        return self._repo.head.commit.hexsha

    def push(self, branch: str | None = None) -> None:
        """Push to a branch (default: the one that was cloned). Raises ConfigurationError where the remote refuses."""
        self._git("push", "--quiet", "origin", f"HEAD:refs/heads/{check_branch(branch or self._branch)}")

    def _git(self, command: str, *arguments: str) -> None:
        try:
            if self._theirs:
                self._repo.git.execute(["git", command, *arguments])
            else:
                git(command, *arguments, cwd=self.folder, environ=self._environ)
        except GitFailed as error:
            raise ConfigurationError(f"git {command}: {error.line}") from None
        except GitCommandError as error:
            raise ConfigurationError(
                f"git {command}: {last_line(str(error.stderr)) or last_line(str(error))}"
            ) from None

    def _identify(self) -> None:
        """Commit as the user; as nobody where they never told git who they are."""
        with self._repo.config_reader() as known:
            if known.has_option("user", "email"):
                return
        with self._repo.config_writer() as writer:
            writer.set_value("user", "name", NOBODY[0])
            writer.set_value("user", "email", NOBODY[1])
