"""The files of one revision, as git keeps them: names and blob ids first, content only when asked for."""

from collections.abc import Callable, Mapping
from enum import StrEnum

from tsched.model.records import dataclass


class FileKind(StrEnum):
    FILE = "file"
    SYMLINK = "symlink"
    SUBMODULE = "submodule"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoFile:
    """One entry of the tree. `size` is in bytes; `blob` is git's object id (40 hex digits)."""

    path: str
    blob: str
    kind: FileKind = FileKind.FILE
    size: int = 0


NOTHING: Mapping[str, RepoFile] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoFiles:
    """`pools/` and `recipes/` of one revision. `read` gives a file's bytes; entries are keyed by path.

    `content_key` identifies everything that decides the verdict: the tree ids of pools, recipes and schemas.
    `folders`: all entries by their folder at the top, each the same object for as long as its tree is the same; None
    where nobody keeps them so.
    """

    revision: str
    entries: Mapping[str, RepoFile]
    read: Callable[[RepoFile], bytes]
    content_key: str = ""
    folders: Mapping[str, Mapping[str, RepoFile]] | None = None

    def below(self, folder: str) -> Mapping[str, RepoFile]:
        """The entries of one folder at the top."""
        if self.folders is not None:
            return self.folders.get(folder, NOTHING)
        return {path: file for path, file in self.entries.items() if path.startswith(f"{folder}/")}
