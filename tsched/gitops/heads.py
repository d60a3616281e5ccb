"""The branches of a remote: asked in this process where libgit2 reaches it as git would, else by `git ls-remote`."""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pygit2
from pygit2.enums import CredentialType
from pygit2.remotes import RemoteHead

from tsched.gitops import refs
from tsched.gitops.git import git
from tsched.gitops.remotes import Credentials, Remote
from tsched.limited import within
from tsched.model.secrets import mask

REFUSALS = 3  # in a row, of what git then could: such as a server whose password a credential helper has
MANY = 1000  # names: libgit2 is sent all that a server has, git by its protocol 2 the branches alone
_HOW = ("http.", "url.")  # git's settings of how to reach a server; libgit2 knows few of them
_ENVIRON = ("http_proxy", "https_proxy", "all_proxy", "git_ssl_cainfo")


class Heads:
    """Where the branches of one remote are."""

    def __init__(self, remote: Remote, branch: str, *, repository: Callable[[], pygit2.Repository]) -> None:
        """`repository`: opens one that nobody else uses, for its settings."""
        self._remote = remote
        self._branch = branch
        self._repository = repository
        self._own: pygit2.Repository | None = None
        self._local = _is_local(remote.address)
        # A local remote's branches, with what its files looked like then.
        self._seen: tuple[refs.Mark | None, dict[str, str]] = (None, {})
        self._asking = False  # also once nobody waits for it, such as a file system that is gone
        self._refused = 0
        self._many = False

    def ask(self, timeout: float) -> dict[str, str]:
        """The commit ids by names such as refs/heads/main. `timeout`: seconds, of each try.

        Raises GitFailed; TransientError where no whole answer came in time.
        """
        if not self._in_process():
            return self._by_git(timeout)
        try:
            own, self._own = self._settings(), None  # who is left behind keeps it: libgit2 crashes where two use one
            heads = within(timeout, lambda: self._by_libgit2(own, timeout), what=mask(self._remote.address))
        except (pygit2.GitError, KeyError, ValueError, OSError):
            heads = self._by_git(timeout)  # git itself has the last word, and the better message
            self._refused += 1
            return heads
        self._own = own
        self._refused = REFUSALS if self._many else 0
        return heads

    def _settings(self) -> pygit2.Repository:
        self._own = self._own or self._repository()
        return self._own

    def _in_process(self) -> bool:
        if self._asking:  # by a process, then, that can be ended
            return False
        return self._local or (self._refused < REFUSALS and self._reached_as_by_git())

    def _reached_as_by_git(self) -> bool:
        """Whether libgit2 goes the way to a web server that git would go: no proxy, nothing that a user set."""
        if urlsplit(self._remote.address).scheme.lower() not in ("http", "https"):
            return False  # ssh: its settings, agents and known hosts are ssh's own
        if any(name.lower() in _ENVIRON for name in os.environ):
            return False
        try:
            return not any(entry.name.lower().startswith(_HOW) for entry in self._settings().config)
        except (pygit2.GitError, ValueError, OSError):
            return False  # settings that can't be read: git says where

    def _by_git(self, timeout: float) -> dict[str, str]:
        text = git(
            *("ls-remote", "--heads", "--end-of-options", self._remote.address),
            environ=self._remote.environ, timeout=timeout,
        )  # fmt: skip
        pairs = (line.split("\t", 1) for line in text.splitlines() if "\t" in line)
        return {name: commit for commit, name in pairs}

    def _by_libgit2(self, own: pygit2.Repository, timeout: float) -> dict[str, str]:
        """By calls that let go of Python meanwhile: looking up one ref would hold all of it while a disk hangs."""
        self._asking = True
        try:
            return self._local_heads(own) if self._local else self._served_heads(own, timeout)
        finally:
            self._asking = False

    def _local_heads(self, own: pygit2.Repository) -> dict[str, str]:
        address = self._remote.address
        mark = refs.mark(address, self._branch)  # taken first: who moves the branch from now on leaves another one
        if mark is None or mark != self._seen[0]:
            self._seen = (mark, _branches(own.remotes.create_anonymous(address).list_heads()))
        return self._seen[1]

    def _served_heads(self, own: pygit2.Repository, timeout: float) -> dict[str, str]:
        # Of the process as a whole, and for each read: who was left behind does not wait for ever.
        pygit2.settings.server_connect_timeout = pygit2.settings.server_timeout = int(2 * timeout * 1000)
        remote = own.remotes.create_anonymous(self._remote.address)
        names = remote.list_heads(callbacks=_Login(self._remote.address, self._remote.credentials))
        self._many = len(names) > MANY
        return _branches(names)


class _Login(pygit2.RemoteCallbacks):
    """Credentials for their own server alone, wherever it may send us on to, and once."""

    def __init__(self, address: str, credentials: Credentials | None) -> None:
        super().__init__()
        self._server = _server_of(address)
        self._credentials = credentials

    def credentials(self, url: str, username_from_url: str | None, allowed_types: CredentialType) -> pygit2.UserPass:
        given, self._credentials = self._credentials, None
        if given is None or _server_of(url) != self._server:
            raise pygit2.GitError("the server wants credentials")
        return pygit2.UserPass(given.user, given.password)


def _is_local(address: str) -> bool:
    """Whether an address is a folder of this machine's."""
    return address.startswith(("/", "./", "../", "file://")) or ("://" not in address and Path(address).exists())


def _server_of(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    return parts.scheme.lower(), parts.netloc.rpartition("@")[2].lower()


def _branches(names: list[RemoteHead]) -> dict[str, str]:
    return {one.name: str(one.oid) for one in names if one.name and one.name.startswith("refs/heads/")}
