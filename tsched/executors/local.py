"""Runs as processes of this machine, each under a shim of its own that outlives the runner."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import asdict, replace
from pathlib import Path

import msgspec

from tsched.executors import cgroups, durable, processes, views, workspace
from tsched.executors.departures import Departures, Kept
from tsched.executors.executor import Launch, Liveness
from tsched.executors.locks import locked
from tsched.executors.pinned import Pinned, pin
from tsched.executors.premises import PRIVATE, admitted, hand_over, make, make_folders
from tsched.executors.recovery import Census, Remains, census, clear, end_of, rebooted
from tsched.executors.runfolder import SAFE, Host, RunFolder
from tsched.executors.shims import Shims
from tsched.executors.watch import Watch
from tsched.failpoint import failpoint
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.fleet import Keep, Workspace
from tsched.model.kept import Kept as Answers
from tsched.model.run import ExitReason, Run, RunExit
from tsched.stamp import Listing

UNSAVED = "its unsaved work could not be put into git"
_NEW, _GONE = ".new_", ".gone_"  # run folders half made, half removed


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
        self._watch = Watch()  # shims that live
        self._listing = Listing(self._host.runs)
        self._tried: Set[str] = frozenset()  # to have it told when they end; what can't be watched is looked at
        self._known: dict[str, Run] = {}  # records as they were read: none is ever written again
        self._alive: frozenset[str] = frozenset()  # by the newest poll
        self._lost: frozenset[str] = frozenset()  # the same
        self._answers = Answers()
        self._polled: frozenset[str] = frozenset()  # what was in the folder of runs
        self._found: Mapping[str, Liveness] = {}  # and what that poll said
        self._census: Census | None = None  # taken after that poll, shared by the recoveries of those runs
        self._swept = False

    # -- start -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises ConfigurationError where agents can't run as the user that they shall run as."""
        admitted(self._agent_user, self._host.runs.parent)

    def prepare(self, launch: Launch) -> None:
        """Write the run's folder, whole or not at all; see Executor. Raises TransientError where the disk refuses."""
        who = admitted(self._agent_user, self._host.runs.parent)
        pinned = self._pin(launch, replace(self._host, account=who))
        run_id = pinned.run.run_id
        target, temp = self._folder(run_id).path, self._host.runs / f"{_NEW}{run_id}"
        try:
            make_folders(self._host, who)
            cgroups.hand_down()
            temp.mkdir(mode=PRIVATE)
            for name, data in pinned.files.items():
                path = temp / name
                make(path.parent)
                durable.write(path, data, lasting=name == "run.json")  # after a power cut no agent is left to start
            if who is not None:
                hand_over(self._host, pinned.run, temp, who)
            elif launch.workspace is None:
                Path(pinned.run.workspace).mkdir(mode=PRIVATE, exist_ok=True)
            durable.sync(temp)
            failpoint("run's folder made")
            temp.rename(target)
            failpoint("run's folder in place")
            durable.sync(self._host.runs)
        except OSError as error:
            views.remove(temp)
            if launch.workspace is None and not target.exists():
                views.remove(Path(pinned.run.workspace))
            raise TransientError(f"run {run_id} can't be prepared in {target}: {error}: make room there") from error

    def _pin(self, launch: Launch, host: Host) -> Pinned:
        return pin(launch, host)

    def start(self, run_id: str) -> None:
        """Start the run's shim; see Executor."""
        self._taken(run_id)
        _spawn(self._shims, run_id, self._folder(run_id))

    def _taken(self, run_id: str) -> None:
        run = self.run(run_id)
        if run is not None and self._borrowed(run):
            self._departures.take(run)

    def confirm(self) -> Mapping[str, TransientError]:
        """Wait until the server of shims has begun what it was asked for; see Executor."""
        return {run_id: _full(run_id, error) for run_id, error in self._shims.confirm().items()}

    # -- liveness ----------------------------------------------------------------------------------------------

    def poll(self) -> Mapping[str, Liveness]:
        """Look at the lock and exit record of every run whose end the kernel would not tell; see Executor."""
        self._census = None
        self._shims.confirm()  # what is refused is found lost
        for _ in self._watch.ended():
            pass  # they are watched no more
        self._shims.reap(self._watch.names)
        names, unknown = self._listing.names(), self._unwatched()
        if names is self._polled and not unknown and len(self._alive) == len(self._found):
            return self._found
        found = {
            name: Liveness.ALIVE if name not in unknown else self._liveness(name)
            for name in sorted(names)
            if name not in unknown or SAFE.fullmatch(name)
        }
        self._lost = frozenset(name for name, state in found.items() if state is Liveness.LOST)
        alive = frozenset(name for name, state in found.items() if state is Liveness.ALIVE)
        due = (alive & self._alive) - self._tried  # seen twice: to look once alone costs less than this
        self._tried = (self._tried | {name for name in due if self._begin_to_watch(name)}) & found.keys()
        self._alive = alive
        for name in self._known.keys() - found.keys():
            del self._known[name]
        self._shims.forget(self._polled - names)
        self._polled, self._found = names, found
        return found

    def _unwatched(self) -> frozenset[str]:
        """What is in the folder of runs and has to be looked at."""
        return self._answers(_but, self._listing.names(), self._watch.names)

    def _begin_to_watch(self, run_id: str) -> bool:
        """Have the kernel tell of a shim's end: our child's by its pid, another's by its lease and its lock.

        False: it is too soon, its lease names no shim yet.
        """
        if (pid := self._shims.child(run_id)) is not None:
            self._watch.add(run_id, pid)  # nobody else reaps it, so the pid is its own
            return True
        lease = durable.record(self._lease_of(run_id))
        pid, start = durable.number(lease, "pid"), durable.number(lease, "process_start")
        if lease is None or lease.get("run_id") != run_id:
            return True
        if not pid:
            return False
        if lease.get("boot_id") == self._host.boot_id and start and self._watch.add(run_id, pid):
            process = processes.look(pid)
            if process is None or process.start != start or not locked(self._folder(run_id).lock):
                self._watch.drop(run_id)
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
        known = self._known.get(run_id)
        if known is not None:
            return known
        try:
            found = msgspec.json.decode(durable.read(self._folder(run_id).run), type=Run)
        except (OSError, msgspec.DecodeError):
            return None
        if run_id in self._alive:
            self._known[run_id] = found
        return found

    def exit(self, run_id: str) -> RunExit | None:
        """How the run ended; a record that can't be read counts as a dead shim's. None while it has not ended."""
        folder = self._folder(run_id)
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

    def recover(self, run_id: str) -> RunExit | None:
        """Fence a lost run and clear away what is left of it; see Executor."""
        folder = self._folder(run_id)
        if locked(folder.lock):
            return None
        if folder.exit.exists():
            return self.exit(run_id)
        end = self._fence(folder, run_id)
        if end is None and (rebooted(folder, self._host.boot_id) or self._clear(folder, run_id)):
            lease = durable.record(self._lease_of(run_id))
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

    def _fence(self, folder: RunFolder, run_id: str) -> RunExit | None:
        """Be the one who creates `started`: then it never started, and a late shim goes home. None: it was there."""
        try:
            durable.write(folder.started, b'{"by": "recovery"}')
        except FileExistsError:
            if (durable.record(folder.started) or {}).get("by") != "recovery":
                return None
        except OSError:
            return None
        detail = "the runner ended before it was started"
        return RunExit(
            run_id=run_id, reason=ExitReason.NOT_STARTED, started=False, detail=detail, ended_at=self._clock()
        )

    def _clear(self, folder: RunFolder, run_id: str) -> bool:
        if self._census is None or run_id not in self._lost:
            self._census = census()
        agent = durable.record(folder.agent)
        remains = Remains(
            run_id=run_id,
            agent_pid=durable.number(agent, "agent_pid"),
            agent_start=durable.number(agent, "agent_start"),
            workspace=self._host.place(run_id, self.run(run_id)),
            output=str((agent or {}).get("output", self._host.log(run_id))),  # an older version's: the log itself
            group=folder.group(run_id),
        )
        return clear(remains, self._census)

    def _lease_of(self, run_id: str) -> Path:
        run = self.run(run_id)
        return self._host.running / f"task_{run.task_id if run is not None else ''}.json"

    # -- stop --------------------------------------------------------------------------------------------------

    def stop(self, run_ids: Collection[str], *, reason: ExitReason, at: float) -> None:
        """Leave a stop request with each run; see Executor. Raises TransientError where it can't be written."""
        for run_id in run_ids:
            folder = self._folder(run_id)
            known = (durable.record(folder.stop) or {}).get("at")
            earlier = isinstance(known, int | float) and known <= at
            if earlier or folder.stopping.exists() or not folder.path.is_dir():
                continue
            try:
                durable.replace(
                    folder.stop, json.dumps({"at": at, "reason": str(reason)}).encode(), writer=f".{os.getpid()}"
                )  # `tsched stop --now` and the runner that it wakes both ask
            except FileNotFoundError:
                continue  # it has just ended, and been reaped
            except OSError as error:
                raise TransientError(f"run {run_id} can't be asked to stop: {error}: make room there") from error

    def recall(self, run_id: str) -> bool:
        """Take a drain's stop request back; see Executor."""
        folder = self._folder(run_id)
        if (durable.record(folder.stop) or {}).get("reason") in (None, str(ExitReason.DRAIN)):
            failpoint("stop to be recalled")
            folder.stop.unlink(missing_ok=True)
            failpoint("stop recalled")
        return not self._drained(folder)

    def stopping(self, run_id: str) -> bool:
        """Whether the run is being stopped at a drain's request; see Executor."""
        folder = self._folder(run_id)
        return self._drained(folder) and not folder.exit.exists()

    def _drained(self, folder: RunFolder) -> bool:
        return folder.stopping.exists() and (durable.record(folder.stopping) or {}).get("reason") in (
            None,
            str(ExitReason.DRAIN),
        )

    # -- afterwards --------------------------------------------------------------------------------------------

    def salvage(self, run_id: str) -> Sequence[str]:
        """Save what the run left unsaved in its worktree; see Executor."""
        run = self.run(run_id)
        tree = self._host.worktree(run) if run is not None else None
        if tree is None:
            return ()
        folder = self._folder(run_id)
        try:
            line = workspace.salvage(tree, self._git_environment(run_id))
        except views.FAILURES as error:
            folder.unsaved.touch(mode=0o600)
            return (f"Its unsaved work could not be put into git ({_reason(error)}): it stays in {tree.folder}",)
        folder.unsaved.unlink(missing_ok=True)
        return (line,) if line is not None else ()

    def discard(self, run_id: str, *, succeeded: bool) -> None:
        """Remove the run's workspace, unless it is kept, then its folder; see Executor."""
        folder, run = self._folder(run_id), self.run(run_id)
        if self._departures.leaving(run_id):
            return
        if (folder.hook("after_run") or folder.group(run_id) is not None) and not self._clear(folder, run_id):
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
                workspace.remove_worktree(tree, self._git_environment(run_id))
            else:
                views.remove(place)
            if why is None and place.exists():
                self._departures.keep(run_id, run, "what is left of it belongs to another user: remove it by hand")
            gone = self._host.runs / f"{_GONE}{run_id}"
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
        borrowed = run is not None and run.workspace_repo and self._borrowed(run)
        if borrowed and not folder.agent.exists():
            return "the run that would have gone on in it never started"
        if run is None and (self._host.place(run_id, run) / ".git").exists():
            return "it is a worktree of a run whose record can't be read"
        if folder.unsaved.exists():
            return UNSAVED
        if run is not None and run.workspace_repo and _kept(run.keep, succeeded=succeeded) and _any(run.workspace):
            return f"keep: {run.keep}"
        return None

    def _borrowed(self, run: Run) -> bool:
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
                if entry.name.startswith(_NEW):
                    views.remove(self._host.workspaces / entry.name.removeprefix(_NEW))
                if entry.name.startswith((_NEW, _GONE)):
                    views.remove(entry)
        self._departures.tidy()

    def kept(self) -> Sequence[Kept]:
        """Workspaces whose run is over and that are still there."""
        return self._departures.all()

    def release(self, run_id: str) -> str | None:
        """Remove a kept workspace, its unsaved work saved first; see Departures.release."""
        return self._departures.release(run_id)

    def head(self, run_id: str) -> str:
        """The beginning of the run's log; see Executor."""
        try:
            return (
                durable.read(self._host.log(run_id), most=64 * 1024).decode(errors="replace").replace("\0", "\ufffd")
            )
        except OSError:
            return ""

    def tail(self, run_id: str, *, lines: int = 20) -> str:
        """The end of the run's log, at most a MiB of it; see Executor."""
        most = min(1024 * 1024, max(64 * 1024, lines * 1024))
        try:
            text = durable.end(self._host.log(run_id), most).decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.replace("\0", "\ufffd").rstrip("\n").split("\n")[-lines:])

    def close(self) -> None:
        """End the server of shims; see Executor."""
        self._shims.close()

    def _folder(self, run_id: str) -> RunFolder:
        return self._host.folder(run_id)

    def _git_environment(self, run_id: str) -> dict[str, str]:
        return workspace.git_environment(self._host.environ, run_id)


def _spawn(shims: Shims, run_id: str, folder: RunFolder, *words: str) -> None:
    failpoint("shim to be started")
    try:
        shims.start(run_id, folder, *words)
    except OSError as error:
        raise _full(run_id, error) from error
    failpoint("shim started")


def _full(run_id: str, error: OSError) -> TransientError:
    return TransientError(f"run {run_id} can't be started: {error.strerror}: the machine is full?")


def _but(names: frozenset[str], known: frozenset[str]) -> frozenset[str]:
    return names - known


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
