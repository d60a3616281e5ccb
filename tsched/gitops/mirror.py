"""A bare mirror of the fleet repo in the state folder: only a cache, rebuilt when it is damaged."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pygit2

from tsched.failpoint import failpoint
from tsched.gitops.commits import Commits
from tsched.gitops.git import TIMEOUT, GitFailed, check_branch, git
from tsched.gitops.heads import Heads
from tsched.gitops.remotes import remote_of
from tsched.gitops.verify import verify_signature
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.secrets import mask

TIP = "refs/tsched/tip"
PRIVATE = 0o077  # umask: what a fleet is, is nobody else's business
REPACK = 600.0  # seconds: nobody waits for it
T = TypeVar("T")


class RemoteUnreachable(TransientError):  # noqa: N818  # named for what happened
    """The remote can't be reached or read just now."""


class BranchMissing(ConfigurationError):  # noqa: N818
    """The remote is there but the tracked branch is not."""


class EmptyRepository(ConfigurationError):  # noqa: N818
    """The remote holds no commit at all."""


class Mirror(Commits):
    """The remote as this machine knows it. A poll of an unchanged remote starts no process where libgit2 speaks its
    transport, one otherwise."""

    def __init__(self, folder: Path, url: str, branch: str, *, timeout: float = TIMEOUT) -> None:
        super().__init__(folder, shown=mask(url))
        self._timeout = timeout  # seconds, for each talk with the remote
        self.url = url
        self._remote = remote_of(url)
        self.branch = check_branch(branch)
        self._heads = Heads(self._remote, self.branch, repository=self._another)

    def _names(self) -> Mapping[str, str]:
        return {"HEAD": TIP, self.branch: TIP}

    # the remote

    def poll(self) -> str:
        """The commit id of the tracked branch's tip.

        Raises RemoteUnreachable, BranchMissing or EmptyRepository: none of them is a reason to change anything.
        """
        try:
            heads = self._heads.ask(self._timeout)
        except GitFailed as error:
            raise RemoteUnreachable(f"{mask(self.url)}: {error.line}") from None
        except TransientError:
            raise self._slow() from None
        tip = heads.get(f"refs/heads/{self.branch}")
        if tip is not None:
            return tip
        if not heads:
            raise EmptyRepository(f"{mask(self.url)} holds no commit: push a fleet to its branch {self.branch}")
        names = ", ".join(sorted(name.removeprefix("refs/heads/") for name in heads)[:5])
        raise BranchMissing(
            f"{mask(self.url)} has no branch {self.branch} (it has {names}): push it, or set TSCHED_BRANCH"
        )

    def _talk(self, *arguments: str) -> str:
        return git(*arguments, environ=self._remote.environ, timeout=self._timeout, umask=PRIVATE)

    def _slow(self) -> RemoteUnreachable:
        """A git whose time was up."""
        return RemoteUnreachable(
            f"{mask(self.url)} gave no whole answer within {self._timeout:g} s: see that it is up, and the line to it"
        )

    def fetch(self, tip: str) -> None:
        """Bring the tip's objects and history here. No process where they are here already.

        Raises RemoteUnreachable. A damaged mirror is made anew.
        """
        if self._recorded() == tip and self._readable(tip):
            return
        self._open_or_make()
        if self._fetch_once(tip):
            return
        if self._damaged():
            self.rebuild()
            if self._fetch_once(tip):
                return
        raise RemoteUnreachable(f"{mask(self.url)} moved on while {tip[:12]} was fetched: the next cycle sees it")

    def _fetch_once(self, tip: str) -> bool:
        """One `git fetch`; whether the tip can be read after it. Raises RemoteUnreachable."""
        refspec = f"+refs/heads/{self.branch}:{TIP}"
        try:
            self._talk(
                *("-c", "core.fsync=loose-object"),  # a power cut damages no object
                f"--git-dir={self.folder}", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head",
                "--end-of-options", self._remote.address, refspec,
            )  # fmt: skip
        except TransientError as error:
            self._sweep()
            if not isinstance(error, GitFailed):
                raise self._slow() from None
            if ".lock" in error.line and self._unlocked():
                return self._fetch_once(tip)
            if not self._damaged():
                raise RemoteUnreachable(f"{mask(self.url)}: {error.line}") from None
            return False
        self.close()  # a new pack: look again
        return self._readable(tip)

    def _unlocked(self) -> bool:
        """Remove the locks of a git that was killed; whether there was one. Nobody else writes to the mirror."""
        left = [*self.folder.glob("*.lock"), *self.folder.glob("refs/**/*.lock")]
        for lock in left:
            failpoint("lock to be removed")
            lock.unlink(missing_ok=True)
        return bool(left)

    def _sweep(self) -> None:
        """Remove what a fetch that was broken off had brought so far: else each try leaves its part on the disk."""
        objects = self.folder / "objects"
        for half in (*objects.glob("pack/tmp_*"), *objects.glob("[0-9a-f][0-9a-f]/tmp_*")):
            half.unlink(missing_ok=True)

    def _recorded(self) -> str | None:
        """The tip that the last fetch brought."""
        try:
            repository = self._open()
            return None if repository is None else str(repository.references[TIP].target)
        except (pygit2.GitError, KeyError, ValueError):
            return None

    def _readable(self, tip: str) -> bool:
        try:
            repository = self._open()
            return repository is not None and bool(repository[tip].peel(pygit2.Tree).id)
        except (pygit2.GitError, KeyError, ValueError):
            return False

    def _damaged(self) -> bool:
        try:
            git(f"--git-dir={self.folder}", "fsck", "--connectivity-only", "--no-dangling", "--no-progress")
        except TransientError:
            return True
        return False

    def verify(self, revision: str, allowed_signers: Path) -> str:
        """Make sure an allowed signer signed that commit; who. Raises ConfigurationError."""
        return verify_signature(self.folder, revision, allowed_signers)

    def loose(self) -> tuple[int, int]:
        """How many loose objects and how many packs the mirror has."""
        objects = self.folder / "objects"
        return sum(1 for _ in objects.glob("[0-9a-f][0-9a-f]/*")), sum(1 for _ in objects.glob("pack/*.pack"))

    def repack(self) -> None:
        """Bring all that the tip reaches into one pack, and drop what nothing has reached for an hour.

        Safe beside a runner: no ref is touched or locked, and what a fetch is bringing is younger. Raises
        TransientError.
        """
        if not self.folder.is_dir():
            return
        self.close()
        here = f"--git-dir={self.folder}"
        git(here, "repack", "-A", "-d", "-l", "-q", "--unpack-unreachable=1.hour.ago", timeout=REPACK, umask=PRIVATE)
        git(here, "prune", "--expire=1.hour.ago", timeout=REPACK)

    def rebuild(self) -> None:
        """Throw the cache away and begin a new one."""
        self.close()
        self._remove()
        self._open_or_make()

    def _remove(self) -> None:
        """Also what is no folder, in the mirror's place."""
        failpoint("mirror to be removed")
        if self.folder.is_dir() and not self.folder.is_symlink():
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            self.folder.unlink(missing_ok=True)

    def _open(self) -> pygit2.Repository | None:
        if self._repository is None and self.folder.exists():
            self._repository = self._opened()
        return self._repository

    def _opened(self) -> pygit2.Repository:
        return pygit2.Repository(str(self.folder), pygit2.enums.RepositoryOpenFlag.BARE)

    def _open_or_make(self) -> pygit2.Repository:
        try:
            found = self._open()
        except pygit2.GitError:
            self._remove()
            found = None
        if found is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            git("init", "--quiet", "--bare", "--template=", "--end-of-options", str(self.folder), umask=PRIVATE)
            found = self._open()
        assert found is not None  # it was made just now
        return found

    def _another(self) -> pygit2.Repository:
        """The same, for somebody else's use alone."""
        self._open_or_make()
        return self._opened()

    def borrow(self, folder: Path) -> "Mirror":
        """A mirror of its own in an empty temporary folder, which reads this one's objects and never writes here."""
        other = Mirror(folder, self.url, self.branch, timeout=self._timeout)
        other._open_or_make()
        objects = self.folder / "objects"
        if objects.is_dir():
            alternates = folder / "objects" / "info" / "alternates"
            alternates.parent.mkdir(parents=True, exist_ok=True)
            alternates.write_text(f"{objects.absolute()}\n", encoding="utf-8")
            other.close()
        return other

    def _read(self, ask: Callable[[pygit2.Repository], T]) -> T:
        try:
            repository = self._open()
            if repository is None:
                raise RemoteUnreachable(f"{mask(self.url)} was not fetched yet: `tsched sync` does it")
            return ask(repository)
        except (pygit2.GitError, KeyError) as error:
            self.rebuild()
            raise TransientError(
                f"the mirror of {mask(self.url)} can't be read ({error}): it is fetched anew"
            ) from error


class Fetched(Commits):
    """What a mirror holds already, to read alone: nothing is fetched, made or mended."""

    def __init__(self, folder: Path, url: str, branch: str) -> None:
        super().__init__(folder, shown=f"what was fetched of {mask(url)}")
        self.branch = branch

    def _names(self) -> Mapping[str, str]:
        return {"HEAD": TIP, self.branch: TIP}
