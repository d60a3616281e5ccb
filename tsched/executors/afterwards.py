"""What becomes of an ended run's workspace and folder: its unsaved work is saved, then they are kept or removed."""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tsched.executors import views, workspace
from tsched.executors.departures import Departures
from tsched.executors.records import Records
from tsched.executors.runfolder import HALF_GONE, HALF_MADE, Host, RunFolder
from tsched.executors.salvage import salvage
from tsched.failpoint import failpoint
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.fleet import Keep, Workspace
from tsched.model.run import Run

UNSAVED = "its unsaved work could not be put into git"


class Afterwards:
    """Of the runs of one host. `departures`: workspaces that are kept, and those whose removal takes longer."""

    def __init__(self, host: Host, records: Records, departures: Departures) -> None:
        self._host = host
        self._records = records
        self._departures = departures
        self._swept = False

    def salvage(self, run_id: str) -> Sequence[str]:
        """Save what the run left unsaved in its worktree; see Executor."""
        run = self._records.run(run_id)
        tree = self._host.worktree(run) if run is not None else None
        if tree is None:
            return ()
        folder = self._host.folder(run_id)
        try:
            line = salvage(tree, self._environment(run_id))
        except views.FAILURES as error:
            folder.unsaved.touch(mode=0o600)
            return (f"Its unsaved work could not be put into git ({_reason(error)}): it stays in {tree.folder}",)
        folder.unsaved.unlink(missing_ok=True)
        return (line,) if line is not None else ()

    def discard(self, run_id: str, *, succeeded: bool, clear: Callable[[RunFolder, str], bool]) -> None:
        """Remove the run's workspace, unless it is kept, then its folder; see Executor."""
        folder, run = self._host.folder(run_id), self._records.run(run_id)
        if self._departures.leaving(run_id):
            return
        if (folder.hook("after_run") or folder.group(run_id) is not None) and not clear(folder, run_id):
            return  # its shim was killed in the hook, and what that had started is slow to die
        place = self._host.place(run_id, run)
        why = self._why_kept(folder, run, run_id, succeeded=succeeded)
        try:
            if why is None and (folder.hook("before_remove") or self._departures.occupied(place)):
                self._departures.begin(folder, run_id)
                return
            if why is not None:
                self._departures.keep(run_id, run, why)
            elif tree := self._host.worktree(run) if run is not None else None:
                workspace.remove_worktree(tree, self._environment(run_id))
            else:
                views.remove(place)
            if why is None and place.exists():
                self._departures.keep(run_id, run, "what is left of it belongs to another user: remove it by hand")
            gone = self._host.runs / f"{HALF_GONE}{run_id}"
            views.remove(gone)
            failpoint("run's folder to be removed")
            folder.path.rename(gone)  # in one step: a late shim finds all of it or nothing
            failpoint("run's folder out of the way")
        except FileNotFoundError:
            return
        except OSError as error:
            raise TransientError(f"{folder.path} can't be removed: {error}") from error
        views.remove(gone)

    def _why_kept(self, folder: RunFolder, run: Run | None, run_id: str, *, succeeded: bool) -> str | None:
        borrowed = run is not None and run.workspace_repo and self.borrowed(run)
        if borrowed and not folder.agent.exists():
            return "the run that would have gone on in it never started"
        if run is None and (self._host.place(run_id, run) / ".git").exists():
            return "it is a worktree of a run whose record can't be read"
        if folder.unsaved.exists():
            return UNSAVED
        if run is not None and run.workspace_repo and _kept(run.keep, succeeded=succeeded) and _any(run.workspace):
            return f"keep: {run.keep}"
        return None

    def borrowed(self, run: Run) -> bool:
        """Whether it works in the folder of the run that it goes on from."""
        return Path(run.workspace) != self._host.workspaces / run.run_id

    def resumable(self, before: Run, pool_workspace: Workspace | None) -> bool:
        """Whether a run can go on where an earlier one was; see Executor."""
        try:
            repo = "" if pool_workspace is None else workspace.address(pool_workspace)
        except ConfigurationError:
            return False
        place = Path(before.workspace)
        here = place.parent == self._host.workspaces  # and not in a state folder that was moved since
        with self._departures.releasing() as alone:
            if not alone:
                return False
        free = not self._departures.needed(place) and self._departures.reason(place) != UNSAVED
        return here and before.workspace_repo == repo and free

    def tidy(self) -> None:
        """Go on with removals that waited, and clear away what a killed runner left half made; see Executor."""
        if not self._swept and self._host.runs.is_dir():
            self._swept = True
            for entry in list(self._host.runs.iterdir()):
                if entry.name.startswith(HALF_MADE):
                    views.remove(self._host.workspaces / entry.name.removeprefix(HALF_MADE))
                if entry.name.startswith((HALF_MADE, HALF_GONE)):
                    views.remove(entry)
        self._departures.tidy()

    def _environment(self, run_id: str) -> dict[str, str]:
        return workspace.git_environment(self._host.environ, run_id)


def _any(folder: str) -> bool:
    """Whether there is anything in a folder: where its making failed there is not."""
    try:
        return bool(os.listdir(folder))
    except OSError:
        return False


def _kept(keep: str, *, succeeded: bool) -> bool:
    return keep == Keep.ALWAYS or (keep == Keep.ON_FAILURE and not succeeded)


def _reason(error: OSError | subprocess.SubprocessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return str(error.stderr.decode(errors="replace")).strip().rpartition("\n")[2]
    return str(error)
