"""Workspaces whose run is over: those that are kept, with why, and those whose removal waits for something."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from tsched.executors import cgroups, durable, processes, views, workspace
from tsched.executors.locks import locked
from tsched.executors.runfolder import Host, RunFolder
from tsched.executors.salvage import salvage
from tsched.failpoint import failpoint
from tsched.model.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A workspace that is still there. `run` is None where nobody knows whose it was."""

    folder: Path
    run: Run | None
    reason: str


class Departures:
    """The folders `.kept` and `.leaving` beside the workspaces.

    `.kept/<name>.json` has the facts of the Kept of that name; `.leaving/<run_id>` is the folder of a run whose
    workspace goes as soon as its hook has run and no process is in it. `depart(run_id, folder)` starts that hook.
    """

    def __init__(self, host: Host, depart: Callable[[str, RunFolder], None]) -> None:
        self._host = host
        self._depart = depart
        self._kept = host.workspaces / ".kept"
        self._places: frozenset[Path] | None = None  # where processes work, looked at once between two `tidy`
        self._leaving = host.workspaces / ".leaving"

    # -- kept ----------------------------------------------------------------------------------------------------

    def keep(self, run_id: str, run: Run | None, reason: str) -> None:
        """Note that a workspace stays, and why; the first reason stands."""
        place = self._host.place(run_id, run)
        note = self._note(place)
        if note.exists() or not place.is_dir():
            return
        self._kept.mkdir(mode=0o700, exist_ok=True)
        facts = {"reason": reason, "run": None if run is None else asdict(run)}
        durable.replace(note, json.dumps(facts).encode())

    def reason(self, place: Path) -> str:
        """Why a workspace was kept, "" where it was not."""
        return str((durable.record(self._note(place)) or {}).get("reason", ""))

    def take(self, run: Run) -> None:
        """The run goes on in a workspace that was kept: it is no longer one that may be removed."""
        failpoint("note to be removed")
        self._note(Path(run.workspace)).unlink(missing_ok=True)
        failpoint("note removed")
        tree = self._host.worktree(run)
        if tree is not None:
            (tree.admin / "index.lock").unlink(missing_ok=True)  # of a git that was killed with the run before

    def all(self) -> Sequence[Kept]:
        """Every workspace without a living run, by name."""
        return sorted((*self._noted(), *self._waiting()), key=lambda one: one.folder)

    def _noted(self) -> Iterator[Kept]:
        for note in (name for name in _names(self._kept) if name.endswith(".json")):
            folder = self._host.workspaces / note.removesuffix(".json")
            facts = durable.record(self._kept / note) or {}
            if folder.is_dir():
                yield Kept(folder=folder, run=_run(facts.get("run")), reason=str(facts.get("reason", "")))

    def _waiting(self) -> Iterator[Kept]:
        for run_id in _names(self._leaving):
            path = self._leaving / run_id
            reason = "its before_remove hook runs" if locked(path / "lock") else "a process works in it"
            run = _run(durable.record(path / "run.json"))
            yield Kept(folder=self._host.place(run_id, run), run=run, reason=reason)

    def release(self, name: str) -> str | None:
        """Remove a kept workspace, its unsaved work saved first. Returns why it can't be, None where it is gone."""
        with self.releasing() as alone:
            return self._release(name) if alone else "another removal is under way: try again"

    @contextmanager
    def releasing(self) -> Iterator[bool]:
        """Whether nobody else removes a kept workspace just now; until the end nobody will."""
        self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._kept / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(handle)

    def _release(self, name: str) -> str | None:
        place = self._host.workspaces / name
        note = self._note(place)
        run = _run((durable.record(note) or {}).get("run"))
        if not note.exists():
            return "no workspace of that run is kept"
        if self.needed(place):
            return "a process works in it"
        tree = self._host.worktree(run) if run is not None else None
        if tree is None and (place / ".git").exists():
            return "nobody knows whose worktree it is: remove its folder by hand"
        if tree is not None and not self._saved(name, tree):
            return "its unsaved work could not be put into git: look into it, then remove the folder by hand"
        if self.needed(place):  # saving took its time
            return "a process works in it"
        self._remove(name, run)
        failpoint("note to be removed")
        note.unlink(missing_ok=True)
        return None

    # -- leaving -------------------------------------------------------------------------------------------------

    def _note(self, place: Path) -> Path:
        return self._kept / f"{place.name}.json"

    def needed(self, place: Path) -> bool:
        """Whether a run that is not over, a removal that has begun, or a process needs that workspace."""
        records = [*self._host.runs.glob("[!.]*/run.json"), *self._leaving.glob("*/run.json")]
        runs = [run for record in records if (run := _run(durable.record(record))) is not None]
        return any(run.workspace == str(place) for run in runs) or self.occupied(place)

    def leaving(self, run_id: str) -> bool:
        """Whether its removal has begun."""
        return (self._leaving / run_id).exists()

    def occupied(self, place: Path) -> bool:
        """Whether a process works in that workspace. What was so a moment ago is looked at again."""
        if self._places is None:
            self._places = processes.places()
        return any(one.is_relative_to(place) for one in self._places) and any(
            one.is_relative_to(place) for one in processes.places()
        )

    def begin(self, folder: RunFolder, run_id: str) -> None:
        """Take over the folder of a run, in one step, and go as far as it goes now."""
        self._leaving.mkdir(mode=0o700, exist_ok=True)
        failpoint("to depart")
        folder.path.rename(self._leaving / run_id)
        failpoint("departing")
        self._go_on(run_id)

    def tidy(self) -> None:
        """Go on with every removal that has begun."""
        self._places = None
        for run_id in _names(self._leaving):
            self._go_on(run_id)

    def _go_on(self, run_id: str) -> None:
        folder = RunFolder(path=self._leaving / run_id)
        run = _run(durable.record(folder.run))
        tree = self._host.worktree(run) if run is not None else None
        place = self._host.place(run_id, run)
        if locked(folder.lock):
            return
        if folder.hook("before_remove") and not folder.hooked.exists() and place.is_dir():
            self._depart(run_id, folder)
            return
        if (group := folder.group(run_id)) is not None:  # the shim of its hook was killed
            cgroups.kill(group)
            if any(cgroups.members(group)):
                return
            cgroups.remove(group)
        if self.occupied(place):
            return
        if tree is not None and not self._saved(run_id, tree):
            self.keep(run_id, run, "what was left in it since its run could not be put into git")
        else:
            self._remove(run_id, run)
        views.remove(folder.path)

    def _saved(self, run_id: str, tree: workspace.Worktree) -> bool:
        try:
            salvage(tree, self._env(run_id))
        except views.FAILURES:
            return False
        return True

    def _remove(self, run_id: str, run: Run | None) -> None:
        tree = self._host.worktree(run) if run is not None else None
        if tree is not None:
            workspace.remove_worktree(tree, self._env(run_id))
        else:
            views.remove(self._host.place(run_id, run))

    def _env(self, run_id: str) -> dict[str, str]:
        return workspace.git_environment(self._host.environ, run_id)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except FileNotFoundError:
        return []


def _run(facts: object) -> Run | None:
    try:
        return msgspec.convert(facts, Run)
    except msgspec.ValidationError:
        return None
