"""Commits and their files, read from a repository's objects: never from a work tree."""

import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pygit2
from pygit2.enums import FileMode, SortMode

from tsched.model.commit import Commit
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.files import FileKind, RepoFile, RepoFiles
from tsched.validate.fleet import FleetCache, Loaded, load_fleet

FOLDERS = ("pools", "recipes", "schemas")
MOST = 10_000  # commits that are gone through
_FULL_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
T = TypeVar("T")
Trees = dict[str, tuple[str, dict[str, RepoFile]]]  # folders by name: their newest tree, and its files


class Commits:
    """Any repository on this machine. `shown`: what messages call it."""

    def __init__(self, folder: Path, *, shown: str | None = None) -> None:
        self.folder = folder
        self.shown = shown if shown is not None else str(folder)
        self._repository: pygit2.Repository | None = None
        self._trees: Trees = {}

    @classmethod
    def around(cls, folder: Path) -> "Commits":
        """The repository that a folder stands in. Raises ConfigurationError where it is in none."""
        found = pygit2.discover_repository(str(folder))
        if found is None:
            raise ConfigurationError(f"{folder} is in no git repository: stand in one, or set TSCHED_REPO")
        return cls(Path(found), shown=f"the repository around {folder.resolve()}")

    def close(self) -> None:
        """Give file handles back."""
        if self._repository is not None:
            self._repository.free()
            self._repository = None

    def _open(self) -> pygit2.Repository | None:
        if self._repository is None and self.folder.exists():
            self._repository = pygit2.Repository(str(self.folder))
        return self._repository

    def _names(self) -> Mapping[str, str]:
        """What people call a revision, where it has another name here."""
        return {}

    def files(self, revision: str) -> RepoFiles:
        """The files of `pools/` and `recipes/` of a commit: names, kinds and sizes; content only when it is read."""
        files = self._read(lambda repository: _files(repository, revision, self._trees))

        def read(file: RepoFile) -> bytes:
            return self._read(lambda repository: bytes(repository[file.blob].peel(pygit2.Blob).data))

        return replace(files, read=read)

    def load(self, files: RepoFiles, cache: FleetCache) -> Loaded:
        """The fleet that a commit's files come to, or what is wrong with them."""
        return load_fleet(files, cache)

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether `new` descends from `old` (or is it). False where `old` is not known here."""

        def ask(repository: pygit2.Repository) -> bool:
            return old == new or (old in repository and repository.descendant_of(new, old))

        return self._read(ask)

    def distance(self, old: str, new: str) -> int | None:
        """How many commits `new` has that `old` has not; None where either is not known here."""

        def ask(repository: pygit2.Repository) -> int | None:
            known = old in repository and new in repository
            return int(repository.ahead_behind(new, old)[0]) if known else None

        return self._read(ask)

    def resolve(self, text: str) -> str:
        """The full commit id of what a person calls a revision: an id or its beginning, a branch, `HEAD~1`.

        Raises ConfigurationError where it names no commit.
        """
        named = self._names()
        base = next((name for name in named if text == name or text.startswith((f"{name}~", f"{name}^"))), None)
        wanted = text if base is None else named[base] + text[len(base) :]

        def ask(repository: pygit2.Repository) -> str | None:
            try:
                return str(repository.revparse_single(wanted).peel(pygit2.Commit).id)
            except (KeyError, ValueError, pygit2.GitError):
                return None

        found = self._read(ask) if text and not text.startswith("-") else None
        if found is None:
            raise ConfigurationError(f"{text!r} names no commit of {self.shown}: give an id, a branch, or HEAD~1")
        return found

    def commit(self, revision: str) -> Commit | None:
        """Who made a commit (by its full id) and why; None where it is not known here."""

        def ask(repository: pygit2.Repository) -> Commit | None:
            found = _known(repository, revision)
            return None if found is None else _told(found)

        return self._read(ask)

    def last_change(self, revision: str, path: str) -> Commit | None:
        """The newest commit of a revision's history, itself included, that gave a file the content it has there.

        None where the revision or the file is not known here, or the change lies over MOST commits back.
        """

        def ask(repository: pygit2.Repository) -> Commit | None:
            found = _known(repository, revision)
            wanted = None if found is None else _blob_id(found, path)
            for _ in range(MOST):
                if found is None or wanted is None:
                    return None
                same = next((one for one in found.parents if _blob_id(one, path) == wanted), None)
                if same is None:
                    return _told(found)
                found = same
            return None

        return self._read(ask)

    def merge_base(self, one: str, other: str) -> str:
        """The newest commit that both revisions descend from. Raises ConfigurationError where there is none."""
        first, second = self.resolve(one), self.resolve(other)
        found = self._read(lambda repository: repository.merge_base(first, second))
        if found is None:
            raise ConfigurationError(f"{one} and {other} share no commit: fetch the history of both")
        return str(found)

    def trailers(
        self, since: str | None, tip: str, key: str, *, bound: tuple[str, ...] = ("pools",)
    ) -> tuple[str, ...]:
        """Values of a trailer on the commits after `since` up to `tip` that have the tip's `bound` folders."""

        def ask(repository: pygit2.Repository) -> tuple[str, ...]:
            trees = [_tree_id(repository, tip, name) for name in bound]
            found = []
            for commit in _between(repository, since, tip):
                if [_tree_id(repository, str(commit.id), name) for name in bound] == trees:
                    found += [value for name, value in commit.message_trailers.items() if name.lower() == key.lower()]
            return tuple(found)

        return self._read(ask)

    def _read(self, ask: Callable[[pygit2.Repository], T]) -> T:
        try:
            repository = self._open()
            if repository is None:
                raise TransientError(f"{self.shown} is not there")
            return ask(repository)
        except (pygit2.GitError, KeyError) as error:
            raise TransientError(f"{self.shown} can't be read: {error}") from error


def _between(repository: pygit2.Repository, since: str | None, tip: str) -> Iterator[pygit2.Commit]:
    walker = repository.walk(tip, SortMode.TOPOLOGICAL)
    if since is not None and since in repository:
        walker.hide(since)
    for number, commit in enumerate(walker):
        if number >= MOST or (since is None and number):
            return
        yield commit


def _known(repository: pygit2.Repository, revision: str) -> pygit2.Commit | None:
    there = _FULL_ID.fullmatch(revision) is not None and revision in repository
    return repository[revision].peel(pygit2.Commit) if there else None


def _told(commit: pygit2.Commit) -> Commit:
    return Commit(
        id=str(commit.id),
        author=_plain(commit.author.name),
        email=_plain(commit.author.email),
        date=float(commit.author.time),
        message=_plain(commit.message),
    )


def _blob_id(commit: pygit2.Commit, path: str) -> str | None:
    try:
        return str(commit.tree[path].id)
    except KeyError:
        return None


def _tree_id(repository: pygit2.Repository, revision: str, name: str) -> str:
    tree = repository[revision].peel(pygit2.Tree)
    return str(tree[name].id) if name in tree else ""


def _files(repository: pygit2.Repository, revision: str, known: Trees) -> RepoFiles:
    """`known`: trees that were gone through before, and will have been now."""
    root = repository[revision].peel(pygit2.Tree)
    for name in FOLDERS[:2]:
        tree, before = known.get(name, ("", {}))
        if name not in root:
            known.pop(name, None)
        elif str(root[name].id) != tree:
            entries = {file.path: file for file in _walk(repository, root[name], name, before)}
            known[name] = (str(root[name].id), entries)
    folders = {name: entries for name, (_, entries) in known.items()}
    return RepoFiles(
        revision=revision,
        entries=ChainMap(*folders.values()),
        folders=folders,
        read=lambda file: repository[file.blob].peel(pygit2.Blob).data,
        content_key=" ".join(_tree_id(repository, revision, name) or "-" for name in FOLDERS),
    )


def _plain(name: str | None) -> str:
    """A file's name as text, also where its bytes are none."""
    return (name or "").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _walk(
    repository: pygit2.Repository, entry: pygit2.Object, path: str, known: Mapping[str, RepoFile]
) -> Iterator[RepoFile]:
    """`known`: files as they were; one that is as it was is the same object."""
    if entry.filemode == FileMode.COMMIT:
        yield RepoFile(path=path, blob=str(entry.id), kind=FileKind.SUBMODULE)
    elif entry.filemode == FileMode.TREE:
        for child in repository[entry.id].peel(pygit2.Tree):
            yield from _walk(repository, child, f"{path}/{_plain(child.name)}", known)
    else:
        kind = FileKind.SYMLINK if entry.filemode == FileMode.LINK else FileKind.FILE
        before, blob = known.get(path), str(entry.id)
        if before is not None and (before.blob, before.kind) == (blob, kind):
            yield before
        else:
            yield RepoFile(path=path, blob=blob, kind=kind, size=repository.odb.read_header(entry.id)[1])
