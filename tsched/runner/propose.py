"""A change made by a command: checked before a byte is written, shown with its plan, then written or pushed."""

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tsched.gitops.changes import Changes
from tsched.gitops.worktree import Worktree, replace_file
from tsched.model.diagnostic import Diagnostic, Severity
from tsched.model.files import RepoFile, RepoFiles
from tsched.schedule.plan import Plan, plan
from tsched.schedule.review import Review, review
from tsched.settings import Settings
from tsched.validate.fleet import load_fleet
from tsched.validate.folder import read_folder

UNENDED = "\\ No newline at end of file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A change, what it looks like, and what it comes to. `plan` is None where the result breaks rules."""

    changes: Changes
    diff: str
    diagnostics: tuple[Diagnostic, ...] = ()
    plan: Plan | None = None
    review: Review | None = None

    @property
    def sound(self) -> bool:
        return all(one.severity is not Severity.ERROR for one in self.diagnostics)


def propose(files: RepoFiles, changes: Changes) -> Proposal:
    """Check what files would be with these changes. Nothing is written."""
    return between(files, _overlaid(files, changes))


def between(before: RepoFiles, after: RepoFiles) -> Proposal:
    """The step between two whole sets of files."""
    paths = sorted(path for path in before.entries.keys() | after.entries.keys() if _differs(before, after, path))
    changes = {path: _text(after, path) for path in paths}
    old, new = load_fleet(before), load_fleet(after)
    found = Proposal(changes=changes, diff=_diff(before, changes), diagnostics=new.diagnostics)
    if new.fleet is None:
        return found
    return replace(found, plan=plan(old.fleet, new.fleet), review=review(old.fleet, new.fleet))


def _differs(before: RepoFiles, after: RepoFiles, path: str) -> bool:
    old, new = before.entries.get(path), after.entries.get(path)
    same = old is not None and new is not None and old.blob == new.blob
    return not same and _text(before, path) != _text(after, path)


def _text(files: RepoFiles, path: str) -> str | None:
    file = files.entries.get(path)
    return None if file is None else files.read(file).decode("utf-8", "surrogateescape")


def _overlaid(files: RepoFiles, changes: Changes) -> RepoFiles:
    texts = {path: text.encode("utf-8", "surrogateescape") for path, text in changes.items() if text is not None}
    entries = {path: file for path, file in files.entries.items() if path not in changes}
    entries |= {path: RepoFile(path=path, blob=f"new {path}", size=len(data)) for path, data in texts.items()}

    def read(file: RepoFile) -> bytes:
        return texts[file.path] if file.path in texts else files.read(file)

    return replace(files, entries=entries, read=read)


def _diff(files: RepoFiles, changes: Changes) -> str:
    """As `git diff` shows it."""
    lines: list[str] = []
    for path, text in sorted(changes.items()):
        before = _text(files, path)
        old, new = ("/dev/null" if one is None else f"{side}/{path}" for side, one in (("a", before), ("b", text)))
        lines += difflib.unified_diff(_lines(before), _lines(text), old, new)
    return "".join(line if line.endswith("\n") else f"{line}\n{UNENDED}\n" for line in lines)


def _lines(text: str | None) -> list[str]:
    shown = (text or "").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return re.findall(r"[^\n]*\n|[^\n]+", shown)  # a line ends where git says so: not at a form feed


def write(root: Path, changes: Changes) -> None:
    """Put the changes into a work tree."""
    for path, text in changes.items():
        target = root / path
        if text is None:
            target.unlink(missing_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_file(target, text)


def address_of(settings: Settings) -> str:
    """The fleet repo's address; where no setting says it, the origin of the repository around."""
    if settings.repo is not None:
        return settings.repo
    with Worktree.around(Path()) as here:
        return here.origin


@contextmanager
def cloned(settings: Settings) -> Iterator[tuple[Worktree, str]]:
    """A fresh clone of the fleet repo's tracked branch, and its address."""
    url = address_of(settings)
    with (
        TemporaryDirectory(prefix="tsched-edit-") as folder,
        Worktree.clone(url, Path(folder) / "clone", settings.branch) as clone,
    ):
        yield clone, url


def files_of(root: Path) -> RepoFiles:
    """The fleet's files of a work tree."""
    return read_folder(root)


def message(title: str, trailers: Sequence[str]) -> str:
    """A commit's message."""
    return title if not trailers else f"{title}\n\n" + "\n".join(trailers)
