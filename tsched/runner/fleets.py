"""Where fleets come from, revision by revision: a fleet repo, or this machine's own control file and limits."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tsched.gitops.mirror import Mirror
from tsched.model.errors import ConfigurationError
from tsched.model.files import RepoFile, RepoFiles
from tsched.model.fleet import LOCAL, Fleet
from tsched.runner.installed import check_source, sources
from tsched.settings import Settings
from tsched.state import applied
from tsched.state.database import Database
from tsched.state.folder import StateFolder
from tsched.validate.fleet import FleetCache, Loaded
from tsched.validate.installation import Installation, build


class FleetSource(Protocol):
    """What steps 1 to 5 of a cycle ask; for a fleet repo it is its Mirror."""

    shown: str  # what people call it, without credentials

    def poll(self) -> str:
        """The newest revision. Raises TransientError or ConfigurationError: no reason to change anything."""
        ...

    def fetch(self, tip: str) -> None:
        """Bring what `poll` named here. Raises as it does."""
        ...

    def resolve(self, text: str) -> str:
        """The revision that a person means. Raises ConfigurationError where there is none."""
        ...

    def verify(self, revision: str, allowed_signers: Path) -> str:
        """Make sure that an allowed signer signed it; who, in words. Raises ConfigurationError."""
        ...

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether `new` goes on from `old`."""
        ...

    def trailers(self, since: str | None, tip: str, key: str) -> tuple[str, ...]:
        """What people said on the way from `since` to `tip`."""
        ...

    def files(self, revision: str) -> RepoFiles:
        """The revision's files; content only when it is read."""
        ...

    def load(self, files: RepoFiles, cache: FleetCache) -> Loaded:
        """The fleet that files come to, or what is wrong with them."""
        ...

    def close(self) -> None:
        """Give file handles back."""
        ...


class HostFiles:
    """The control file, limits and recipes of this machine, read anew at each poll: its content is its revision.

    `before` gives the applied fleet, which legacy mode goes on from.
    """

    def __init__(self, settings: Settings, before: Callable[[], Fleet | None]) -> None:
        self.shown = str(settings.control_file)
        self._settings = settings
        self._before = before
        self._cache = FleetCache()
        self._files = RepoFiles(revision="", entries={}, read=_nothing)
        self.found: Installation | None = None  # of the newest poll

    def poll(self) -> str:
        settings = self._settings.reread()
        self.shown = str(settings.control_file)
        given = sources(settings)
        self.found = build(given, self._before(), self._cache)
        self._files = given.files
        return self.found.fleet.revision

    def fetch(self, tip: str) -> None:
        """There is nothing to bring."""

    def resolve(self, text: str) -> str:
        tip = self.poll() if self.found is None else self.found.fleet.revision
        if text == "HEAD" or (len(text) > len(LOCAL) and tip.startswith(text)):
            return tip
        raise ConfigurationError(f"{text!r} is no revision: without a fleet repo there is only what stands here now")

    def verify(self, revision: str, allowed_signers: Path) -> str:
        raise ConfigurationError(
            f"TSCHED_ALLOWED_SIGNERS is set, but {self.shown} can't be signed: set TSCHED_REPO, or unset it"
        )

    def is_ancestor(self, old: str, new: str) -> bool:
        return True

    def trailers(self, since: str | None, tip: str, key: str) -> tuple[str, ...]:
        return ()

    def files(self, revision: str) -> RepoFiles:
        return self._files

    def load(self, files: RepoFiles, cache: FleetCache) -> Loaded:
        return Loaded(fleet=self.found.fleet if self.found is not None else None)

    def close(self) -> None:
        pass


def source_for(settings: Settings, folder: StateFolder, db: Database) -> FleetSource:
    """The fleet repo's mirror where one is set, else this machine's own files. Raises ConfigurationError."""
    check_source(settings)
    if settings.repo is not None:
        return Mirror(folder.mirror, settings.repo, settings.branch)
    return HostFiles(settings, lambda: applied.load(db).fleet)


def _nothing(file: RepoFile) -> bytes:
    raise KeyError(file.path)
