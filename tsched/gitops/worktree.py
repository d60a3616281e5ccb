"""A work clone for edits: write, commit, push, revert. Short-lived: the daemon never uses it."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from git import GitCommandError, Repo

from tsched.gitops.git import check_address, check_branch, clean_environment, last_line
from tsched.model.errors import ConfigurationError, TransientError

NOBODY = ("tsched", "tsched@localhost")  # who commits where the user has no git identity


def make_bare(folder: Path, branch: str = "main") -> None:
    """An empty bare repository, as a remote to push to."""
    Repo.init(folder, bare=True, initial_branch=check_branch(branch)).close()


class Worktree:
    """A clone with a work tree. Use it with `with`: its handles are closed at the end."""

    def __init__(self, folder: Path, repo: Repo, branch: str) -> None:
        self.folder = folder
        self._repo = repo
        self._branch = branch

    @classmethod
    def clone(cls, url: str, folder: Path, branch: str = "main") -> "Worktree":
        """Clone a remote (an empty one too). Raises TransientError where it can't be reached."""
        try:
            repo = Repo.clone_from(check_address(url), folder, env=clean_environment())
        except GitCommandError as error:
            raise TransientError(last_line(str(error.stderr))) from None
        repo.git.update_environment(**clean_environment())
        if not repo.heads:
            repo.git.symbolic_ref("HEAD", f"refs/heads/{check_branch(branch)}")
        return cls(folder, repo, branch)

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

    def commit(self, message: str) -> str:
        """Commit all that changed; the commit's id. Raises ConfigurationError where nothing did."""
        self._identify()
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", message)
        return self._repo.head.commit.hexsha

    def revert(self, commit: str) -> str:
        """Commit the undoing of a commit; its id. Raises ConfigurationError where it can't be undone cleanly."""
        self._identify()
        self._git("revert", "--no-edit", commit)
        return self._repo.head.commit.hexsha

    def push(self) -> None:
        """Push the branch. Raises ConfigurationError where the remote refuses."""
        self._git("push", "--quiet", "origin", f"HEAD:refs/heads/{self._branch}")

    def _git(self, command: str, *arguments: str) -> None:
        try:
            self._repo.git.execute(["git", "-c", "core.hooksPath=/dev/null", command, *arguments])
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
