"""Runs as processes of this machine, each under a shim of its own that outlives the runner."""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tsched.executors import durable, processes, stops
from tsched.executors.afterwards import Afterwards
from tsched.executors.departures import Departures, Kept
from tsched.executors.executor import Launch, Liveness
from tsched.executors.locks import locked
from tsched.executors.pinned import Pinned, pin
from tsched.executors.premises import admitted, put_down
from tsched.executors.records import Records
from tsched.executors.recovery import Census, census, clear, end_of, fence, rebooted, remains_of
from tsched.executors.runfolder import Host, RunFolder
from tsched.executors.shims import Shims
from tsched.executors.survey import Survey
from tsched.failpoint import failpoint
from tsched.model.errors import TransientError
from tsched.model.fleet import Workspace
from tsched.model.run import ExitReason, Run, RunExit


class LocalExecutor:
    """The local machine. A held `runs/<run_id>/lock` is the sign of life; nothing else is asked.

    `runs`, `running`, `logs` and `workspaces` are folders below the state folder. `log_max`: bytes of a run's log.
    `agent_user`: the name of the user that agents run as, None: the runner's own. `address`: where nodes that
    share no folder with it find `tsched serve`. `clock`: seconds since the epoch.
    """

    def __init__(
        self,
        *,
        runs: Path,
        running: Path,
        logs: Path,
        workspaces: Path,
        environ: Mapping[str, str],
        pass_env: Collection[str] = (),
        log_max: int = 64 << 20,
        agent_user: str | None = None,
        address: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = Host(
            runs=runs.absolute(),
            running=running.absolute(),
            logs=logs.absolute(),
            workspaces=workspaces.absolute(),
            environ=dict(environ),
            pass_env=tuple(pass_env),
            boot_id=processes.boot_id(),
            log_max=log_max,
            address=address,
        )
        self._agent_user = agent_user
        self._clock = clock
        self._shims = shims = Shims(self._host.runs, self._host.environ)
        self._departures = Departures(self._host, lambda run_id, folder: _spawn(shims, run_id, folder, "depart"))
        self._survey = Survey(self._host.runs)
        self._records = Records(self._host, self._survey, clock)
        self._afterwards = Afterwards(self._host, self._records, self._departures)
        self._census: Census | None = None  # taken after the newest poll, shared by the recoveries of those runs

    # -- start -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises ConfigurationError where agents can't run as the user that they shall run as."""
        admitted(self._agent_user, self._host.runs.parent)

    def prepare(self, launch: Launch) -> None:
        """Write the run's folder, whole or not at all; see Executor. Raises TransientError where the disk refuses."""
        who = admitted(self._agent_user, self._host.runs.parent)
        pinned = self._pin(launch, replace(self._host, account=who))
        put_down(self._host, pinned, who, plain=launch.workspace is None)

    def _pin(self, launch: Launch, host: Host) -> Pinned:
        return pin(launch, host)

    def start(self, run_id: str) -> None:
        """Start the run's shim; see Executor."""
        self._taken(run_id)
        _spawn(self._shims, run_id, self._folder(run_id))

    def _taken(self, run_id: str) -> None:
        run = self.run(run_id)
        if run is not None and self._afterwards.borrowed(run):
            self._departures.take(run)

    def confirm(self) -> Mapping[str, TransientError]:
        """Wait until the server of shims has begun what it was asked for; see Executor."""
        return {run_id: _full(run_id, error) for run_id, error in self._shims.confirm().items()}

    # -- liveness ----------------------------------------------------------------------------------------------

    def poll(self) -> Mapping[str, Liveness]:
        """Look at the lock and exit record of every run whose end the kernel would not tell; see Executor."""
        self._census = None
        self._shims.confirm()  # what is refused is found lost
        for _ in self._survey.watched.ended():
            pass  # they are watched no more
        self._shims.reap(self._survey.watched.names)
        found = self._survey.poll(look=self._liveness, watch=self._begin_to_watch)
        self._shims.forget(self._survey.gone)
        self._records.forget(self._survey.gone)
        return found

    def _begin_to_watch(self, run_id: str) -> bool:
        """Have the kernel tell of a shim's end: our child's by its pid, another's by its lease and its lock.

        False: it is too soon, its lease names no shim yet.
        """
        if (pid := self._shims.child(run_id)) is not None:
            self._survey.watched.add(run_id, pid)  # nobody else reaps it, so the pid is its own
            return True
        lease = durable.record(self._records.lease(run_id))
        pid, start = durable.number(lease, "pid"), durable.number(lease, "process_start")
        if lease is None or lease.get("run_id") != run_id:
            return True
        if not pid:
            return False
        if lease.get("boot_id") == self._host.boot_id and start and self._survey.watched.add(run_id, pid):
            process = processes.look(pid)
            if process is None or process.start != start or not locked(self._folder(run_id).lock):
                self._survey.watched.drop(run_id)
        return True

    def _liveness(self, run_id: str) -> Liveness:
        if locked(f"{self._host.runs}/{run_id}/lock"):
            return Liveness.ALIVE  # also with the exit on record: it is still letting go of its lease
        if self._folder(run_id).exit.exists():
            return Liveness.ENDED
        return Liveness.ALIVE if self._shims.lives(run_id) else Liveness.LOST

    def attend(self) -> None:
        """Shims see to their runs themselves; see Executor."""

    def trouble(self) -> str:
        """Nothing of this machine is out of sight; see Executor."""
        return ""

    def run(self, run_id: str) -> Run | None:
        """The run as it was prepared; see Executor."""
        return self._records.run(run_id)

    def exit(self, run_id: str) -> RunExit | None:
        """How the run ended; see Executor."""
        return self._records.exit(run_id)

    def head(self, run_id: str) -> str:
        """The beginning of the run's log; see Executor."""
        return self._records.head(run_id)

    def tail(self, run_id: str, *, lines: int = 20) -> str:
        """The end of the run's log, at most a MiB of it; see Executor."""
        return self._records.tail(run_id, lines=lines)

    # -- recovery ----------------------------------------------------------------------------------------------

    def recover(self, run_id: str) -> RunExit | None:
        """Fence a lost run and clear away what is left of it; see Executor."""
        folder = self._folder(run_id)
        if locked(folder.lock):
            return None
        if folder.exit.exists():
            return self.exit(run_id)
        end = fence(folder, run_id, now=self._clock())
        if end is None and (rebooted(folder, self._host.boot_id) or self._clear(folder, run_id)):
            lease = durable.record(self._records.lease(run_id))
            end = end_of(folder, run_id, lease, boot_id=self._host.boot_id, now=self._clock())
        return self._decided(folder, end)

    def _decided(self, folder: RunFolder, end: RunExit | None) -> RunExit | None:
        """Put an end on record. None where it can't be: nothing is decided before."""
        if end is not None:
            try:
                durable.replace(folder.exit, json.dumps(asdict(end)).encode())
            except OSError:
                return None  # the disk is full
        return end

    def _clear(self, folder: RunFolder, run_id: str) -> bool:
        if self._census is None or run_id not in self._survey.lost:
            self._census = census()
        workspace = self._host.place(run_id, self.run(run_id))
        remains = remains_of(folder, run_id, workspace=workspace, log=self._host.log(run_id))
        return clear(remains, self._census)

    # -- stop --------------------------------------------------------------------------------------------------

    def stop(self, run_ids: Collection[str], *, reason: ExitReason, at: float) -> None:
        """Leave a stop request with each run; see Executor. Raises TransientError where it can't be written."""
        for run_id in run_ids:
            stops.ask(self._folder(run_id), reason=reason, at=at)

    def recall(self, run_id: str) -> bool:
        """Take a drain's stop request back; see Executor."""
        return stops.recall(self._folder(run_id))

    def stopping(self, run_id: str) -> bool:
        """Whether the run is being stopped at a drain's request; see Executor."""
        return stops.stopping(self._folder(run_id))

    # -- afterwards --------------------------------------------------------------------------------------------

    def salvage(self, run_id: str) -> Sequence[str]:
        """Save what the run left unsaved in its worktree; see Executor."""
        return self._afterwards.salvage(run_id)

    def discard(self, run_id: str, *, succeeded: bool) -> None:
        """Remove the run's workspace, unless it is kept, then its folder; see Executor."""
        self._afterwards.discard(run_id, succeeded=succeeded, clear=self._clear)

    def resumable(self, before: Run, pool_workspace: Workspace | None) -> bool:
        """Whether a run can go on where an earlier one was; see Executor."""
        return self._afterwards.resumable(before, pool_workspace)

    def tidy(self) -> None:
        """Go on with removals that waited, and clear away what a killed runner left half made; see Executor."""
        self._afterwards.tidy()

    def kept(self) -> Sequence[Kept]:
        """Workspaces whose run is over and that are still there."""
        return self._departures.all()

    def release(self, run_id: str) -> str | None:
        """Remove a kept workspace, its unsaved work saved first; see Departures.release."""
        return self._departures.release(run_id)

    def close(self) -> None:
        """End the server of shims; see Executor."""
        self._shims.close()

    def _folder(self, run_id: str) -> RunFolder:
        return self._host.folder(run_id)


def _spawn(shims: Shims, run_id: str, folder: RunFolder, *words: str) -> None:
    failpoint("shim to be started")
    try:
        shims.start(run_id, folder, *words)
    except OSError as error:
        raise _full(run_id, error) from error
    failpoint("shim started")


def _full(run_id: str, error: OSError) -> TransientError:
    return TransientError(f"run {run_id} can't be started: {error.strerror}: the machine is full?")
