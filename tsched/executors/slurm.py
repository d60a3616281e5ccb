"""Runs of `executor: slurm` as jobs of a Slurm cluster whose nodes share the state folder; all others run here.

A job's shim writes the lease, the log and the end into that folder as a local one does; what differs is how a run
comes to be and who says that it lives. A job's name is its run's id. Nothing is ever submitted a second time: what
was not seen to start is fenced (DESIGN section 4), so that a job which turns up late goes home.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from functools import cached_property
from types import MappingProxyType

from tsched.executors import durable, jobs
from tsched.executors.clocks import clocks
from tsched.executors.controller import Controller, SilentError
from tsched.executors.executor import Launch, Liveness
from tsched.executors.jobs import Job, Word
from tsched.executors.local import LocalExecutor
from tsched.executors.recovery import fence
from tsched.executors.runfolder import RunFolder
from tsched.failpoint import failpoint
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.placement import Engine
from tsched.model.run import ExitReason, RunExit

SILENT = 4  # heartbeats after which a job's shim that can't reach the state folder ends its run; see shim.py
SLACK = 30.0  # seconds more until it is taken for over, beside stop_grace
LATE = 300.0  # seconds that a job has beyond all that its run may take, before Slurm ends it


class SlurmExecutor(LocalExecutor):
    """The local machine, and a Slurm cluster for the runs that say so. squeue is asked once a poll, if at all."""

    _jobs: Mapping[str, Job] = MappingProxyType({})  # by run id, by the newest poll
    _asked: frozenset[str] = frozenset()  # runs that were submitted before that poll
    _trouble = ""  # why it got no answer

    @cached_property
    def _slurm(self) -> Controller:
        return Controller(self._host.environ)

    # -- start ---------------------------------------------------------------------------------------------------

    def prepare(self, launch: Launch) -> None:
        """Write the run's folder; see Executor. Raises TransientError while the cluster gives no answer."""
        if launch.run.executor == Engine.SLURM:
            self._slurm.there()
            if self._trouble:
                raise TransientError(f"nothing is submitted: {self._trouble}")
            if launch.slurm.apart:
                self._parted(launch)
        super().prepare(launch)

    def _parted(self, launch: Launch) -> None:
        """Raises ConfigurationError where a run can't do without a folder that its node shares."""
        if not self._host.address:
            why = "TSCHED_SERVE_URL says where its node finds `tsched serve`: set it"
        elif launch.workspace is not None:
            why = "its pool has a workspace, whose work is saved here: take one of the two away"
        elif self._agent_user is not None:
            why = "TSCHED_AGENT_USER is set, and may be nobody on its node: run the runner as that user instead"
        else:
            return
        raise ConfigurationError(f"`slurm: {{shared: false}}`: {why}")

    def start(self, run_id: str) -> None:
        """Submit the run's job, or start its shim here; see Executor. Repeatable: one name, one job.

        A request that Slurm refuses is the run's end, on record when this returns.
        """
        folder = self._folder(run_id)
        if not folder.job.exists():
            super().start(run_id)
            return
        self._taken(run_id)
        if folder.submitted.exists() and run_id in self._slurm.jobs(run_id):
            return
        folder.submitted.touch(mode=0o600)
        failpoint("job to be submitted")
        try:
            self._slurm.submit(jobs.command(folder.path, self._options(folder, run_id), shared=not folder.apart))
        except ConfigurationError as error:
            self._refused(folder, run_id, str(error))
        except TransientError as error:
            self._trouble = str(error)
            raise
        failpoint("job submitted")

    def _options(self, folder: RunFolder, run_id: str) -> list[str]:
        given = (durable.record(folder.job) or {}).get("options")
        asked = [str(one) for one in given] if isinstance(given, list) else []
        times = clocks(self._host.runs, run_id)
        if times is not None and not any(one.startswith("--time=") for one in asked):
            asked.append(jobs.time_limit(times.allowed + LATE))
        return asked

    def _refused(self, folder: RunFolder, run_id: str, why: str) -> None:
        end = fence(folder, run_id, now=self._clock())
        if end is not None:
            self._decided(folder, self._end(run_id, ExitReason.START_FAILED, why, started=False))

    # -- liveness ------------------------------------------------------------------------------------------------

    def poll(self) -> Mapping[str, Liveness]:
        """One look at every run; see Executor. Where the cluster gives no answer its runs count as alive."""
        unwatched = self._survey.unwatched()  # no job is watched
        self._asked = frozenset(name for name in unwatched if self._awaited(self._folder(name)))
        if self._asked or self._trouble:
            try:
                self._jobs, self._trouble = self._slurm.jobs(), ""
            except (TransientError, ConfigurationError) as error:
                self._trouble = f"Slurm can't be asked: {error}"
        return super().poll()

    def trouble(self) -> str:
        """Why jobs could not be looked at; see Executor."""
        return self._trouble

    def _awaited(self, folder: RunFolder) -> bool:
        """Whether it takes Slurm's word to know how a run is."""
        return folder.job.exists() and (not folder.exit.exists() or self._leased(folder.path.name))

    def _leased(self, run_id: str) -> bool:
        return (durable.record(self._records.lease(run_id)) or {}).get("run_id") == run_id

    def _liveness(self, run_id: str) -> Liveness:
        folder = self._folder(run_id)
        if not folder.job.exists():
            return super()._liveness(run_id)
        unseen = bool(self._trouble) or run_id not in self._asked
        word = jobs.word(self._jobs.get(run_id))
        if folder.exit.exists():  # a shim lets go of its lease last of all
            going = (unseen or word is Word.RUNNING) and not self._fenced(folder) and self._leased(run_id)
            return Liveness.ALIVE if going else Liveness.ENDED
        if unseen or word is Word.RUNNING or (word is Word.WAITING and not self._unwanted(folder)):
            return Liveness.ALIVE
        return Liveness.LOST

    def _begin_to_watch(self, run_id: str) -> bool:
        """A job is Slurm's to tell of, also where its node is this machine."""
        return self._folder(run_id).job.exists() or super()._begin_to_watch(run_id)

    def _unwanted(self, folder: RunFolder) -> bool:
        """Whether a stop request's time has come."""
        at = (durable.record(folder.stop) or {}).get("at")
        return isinstance(at, int | float) and at <= self._clock()

    def _fenced(self, folder: RunFolder) -> bool:
        """Whether it is certain that no agent of the run ever started."""
        return (durable.record(folder.started) or {}).get("by") == "recovery"

    # -- recovery ------------------------------------------------------------------------------------------------

    def recover(self, run_id: str) -> RunExit | None:
        """Fence a lost run, end its job, and see that nothing of it is left; see Executor."""
        folder = self._folder(run_id)
        if not folder.job.exists():
            return super().recover(run_id)
        if folder.exit.exists():
            return self.exit(run_id)
        if self._trouble or run_id not in self._asked:
            return None
        job, end = self._jobs.get(run_id), fence(folder, run_id, now=self._clock())
        if end is not None:
            return self._decided(folder, self._never(folder, run_id, job)) if self._cancelled(run_id, job) else None
        match jobs.word(job):
            case Word.OVER:
                pass
            case Word.NONE | Word.NODE_LOST:
                if not self._silent(folder, run_id):
                    return None
            case Word.WAITING | Word.REFUSED | Word.RUNNING:
                return None  # it has started in this very moment
        reason, detail = jobs.ended(job)
        return self._decided(folder, self._end(run_id, self._request(folder) or reason, detail, started=True))

    def _decided(self, folder: RunFolder, end: RunExit | None) -> RunExit | None:
        """As on this machine; but a node's own word may come at this very moment: the first of the two stands."""
        if end is None or not folder.apart:
            return super()._decided(folder, end)
        try:
            durable.decide(folder.exit, json.dumps(asdict(end)).encode(), writer="recovery")
        except FileExistsError:
            return self.exit(folder.path.name)
        except OSError:
            return None
        return end

    def _never(self, folder: RunFolder, run_id: str, job: Job | None) -> RunExit:
        reason, detail = jobs.unstarted(job)
        if self._unwanted(folder):
            reason = self._request(folder) or reason
        return self._end(run_id, reason, detail, started=False)

    def _request(self, folder: RunFolder) -> ExitReason | None:
        """Why the run was asked to stop, where it was."""
        request = durable.record(folder.stopping) or (durable.record(folder.stop) if self._unwanted(folder) else None)
        try:
            return ExitReason(str((request or {}).get("reason")))
        except ValueError:
            return None

    def _end(self, run_id: str, reason: ExitReason, detail: str, *, started: bool) -> RunExit:
        agent = self._folder(run_id).agent
        began = agent.stat().st_mtime if started and agent.exists() else 0.0
        return RunExit(
            run_id=run_id, reason=reason, started=started, detail=detail, started_at=began, ended_at=self._clock()
        )

    def _cancelled(self, run_id: str, job: Job | None) -> bool:
        """Take a job that must not run off Slurm's hands: some hold those behind them back."""
        if job is None or jobs.word(job) not in (Word.WAITING, Word.REFUSED, Word.RUNNING):
            return True
        failpoint("job to be cancelled")
        try:
            self._slurm.cancel(run_id, job)
        except SilentError as error:
            self._trouble = f"Slurm can't be asked: {error}"  # once a pass is enough to wait for it in vain
            return False
        except (TransientError, ConfigurationError):
            return False
        failpoint("job cancelled")
        return True

    def _silent(self, folder: RunFolder, run_id: str) -> bool:
        """Whether the run's last heartbeat is so old that its shim has ended it, wherever it is.

        Both times are those of the file system that the lease is on: no clock of this machine has a say.
        """
        times, spec = clocks(self._host.runs, run_id), durable.record(folder.spec) or {}
        grace = spec.get("stop_grace")
        if times is None or not isinstance(grace, int | float):
            return True
        if not folder.missed.exists():
            folder.missed.touch(mode=0o600)
        folder.submitted.touch(mode=0o600)
        now, since = (place.stat().st_mtime for place in (folder.submitted, folder.missed))
        last = self._last_beat(run_id) or since
        if folder.apart:  # its node may have had Slurm's word for longer than ours: see courier.py
            last = max(last, since)
        return now - last >= SILENT * times.heartbeat + grace + SLACK

    def _last_beat(self, run_id: str) -> float | None:
        try:
            return self._records.lease(run_id).stat().st_mtime if self._leased(run_id) else None
        except OSError:
            return None

    # -- stop ----------------------------------------------------------------------------------------------------

    def stop(self, run_ids: Collection[str], *, reason: ExitReason, at: float) -> None:
        """Leave a stop request with each run; see Executor. A job that has not obeyed it long after is cancelled."""
        super().stop(run_ids, reason=reason, at=at)
        for run_id in run_ids:  # who asks for it asks again in each pass
            if not self._trouble and (job := self._jobs.get(run_id)) is not None and self._deaf(run_id, job):
                self._cancelled(run_id, job)

    def _deaf(self, run_id: str, job: Job) -> bool:
        folder = self._folder(run_id)
        request = durable.record(folder.stopping) or durable.record(folder.stop) or {}
        at, grace = request.get("at"), (durable.record(folder.spec) or {}).get("stop_grace")
        if jobs.word(job) is not Word.RUNNING or folder.exit.exists():
            return False
        return isinstance(at, int | float) and isinstance(grace, int | float) and self._clock() > at + grace + SLACK
