"""What is on record of a run: how it was prepared, how it ended, what it said."""

from collections.abc import Callable, Set
from pathlib import Path

import msgspec

from tsched.executors import durable
from tsched.executors.runfolder import Host
from tsched.executors.survey import Survey
from tsched.model.run import ExitReason, Run, RunExit


class Records:
    """The records of all runs that there are. `clock`: seconds since the epoch."""

    def __init__(self, host: Host, survey: Survey, clock: Callable[[], float]) -> None:
        self._host = host
        self._survey = survey
        self._clock = clock
        self._known: dict[str, Run] = {}  # of living runs, as they were read: none is ever written again

    def forget(self, gone: Set[str]) -> None:
        """These runs are there no more."""
        for run_id in gone & self._known.keys():
            del self._known[run_id]

    def run(self, run_id: str) -> Run | None:
        """The run as it was prepared; None where that can't be read, or is gone."""
        known = self._known.get(run_id)
        if known is not None:
            return known
        try:
            found = msgspec.json.decode(durable.read(self._host.folder(run_id).run), type=Run)
        except (OSError, msgspec.DecodeError):
            return None
        if run_id in self._survey.alive:
            self._known[run_id] = found
        return found

    def exit(self, run_id: str) -> RunExit | None:
        """How the run ended; a record that can't be read counts as a dead shim's. None while it has not ended."""
        folder = self._host.folder(run_id)
        try:
            return msgspec.json.decode(durable.read(folder.exit), type=RunExit)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError):
            return RunExit(
                run_id=run_id,
                reason=ExitReason.SHIM_DIED,
                started=True,
                detail=f"{folder.exit} could not be read",
                ended_at=self._clock(),
            )

    def lease(self, run_id: str) -> Path:
        """The file of its lease."""
        run = self.run(run_id)
        return self._host.running / f"task_{run.task_id if run is not None else ''}.json"

    def head(self, run_id: str) -> str:
        """The first 64 KiB of the run's log, "" where there is none."""
        try:
            return (
                durable.read(self._host.log(run_id), most=64 * 1024).decode(errors="replace").replace("\0", "\ufffd")
            )
        except OSError:
            return ""

    def tail(self, run_id: str, *, lines: int = 20) -> str:
        """The last lines of the run's log, of at most a MiB, "" where there is none."""
        most = min(1024 * 1024, max(64 * 1024, lines * 1024))
        try:
            text = durable.end(self._host.log(run_id), most).decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.replace("\0", "\ufffd").rstrip("\n").split("\n")[-lines:])
