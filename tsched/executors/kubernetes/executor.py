"""Runs of `executor: kubernetes` as Jobs of a cluster; all others run as they do elsewhere. Experimental.

No shim stands beside the agent: its Job is the truth about the run, and in each pass this runner does for the run's
lease, log and end what a shim does for its own (care.py). A Job is asked for once, whatever comes of it.
Where nobody knows whether it has come to be, a Job without work takes the name: then it never can (DESIGN section 4,
"fenced").
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property

from tsched.executors import durable, whose
from tsched.executors.executor import Launch, Liveness
from tsched.executors.kubernetes import job as jobs
from tsched.executors.kubernetes import words
from tsched.executors.kubernetes.care import Attendant
from tsched.executors.kubernetes.cluster import Cluster, Clusters
from tsched.executors.kubernetes.run import ASKED, PodRun
from tsched.executors.kubernetes.words import Ended
from tsched.executors.pinned import Pinned
from tsched.executors.recovery import fence
from tsched.executors.runfolder import Host
from tsched.executors.slurm import SlurmExecutor
from tsched.failpoint import failpoint
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.fleet import Workspace
from tsched.model.placement import Engine
from tsched.model.run import ExitReason, Run, RunExit


class KubernetesExecutor(SlurmExecutor):
    """The local machine, a Slurm cluster, and Kubernetes clusters, for the runs that say so."""

    _seen: frozenset[str] = frozenset()  # runs that were there at the newest look
    _fresh = False  # whether that look was in this very pass

    @cached_property
    def _ours(self) -> set[str]:
        """The runs that are Jobs: looked for once, since none comes to be but by `prepare` here."""
        return {path.parent.name for path in self._host.runs.glob("[!.]*/kubernetes.json")}

    @cached_property
    def _clusters(self) -> Clusters:
        return Clusters(self._host.environ)

    # -- start ---------------------------------------------------------------------------------------------------

    def prepare(self, launch: Launch) -> None:
        """Write the run's folder; see Executor. Raises TransientError while its cluster gives no answer.

        Raises ConfigurationError where that is too old.
        """
        if launch.run.executor == Engine.KUBERNETES:
            cluster = self._clusters.at(launch.kubernetes.context, launch.kubernetes.namespace, self._owner)
            self._fit(cluster)
            self._ours.add(launch.run.run_id)
        super().prepare(launch)

    def _pin(self, launch: Launch, host: Host) -> Pinned:
        if launch.run.executor != Engine.KUBERNETES:
            return super()._pin(launch, host)
        cluster = self._clusters.at(launch.kubernetes.context, launch.kubernetes.namespace, self._owner)
        return jobs.pin_job(launch, host, place=cluster.api.place, owner=self._owner)

    def start(self, run_id: str) -> None:
        """Ask for the run's Job, or start it elsewhere; see Executor. A Job is asked for once in a run's life.

        A request that Kubernetes refuses is the run's end, on record when this returns.
        """
        run = self._pod_run(run_id)
        if not run.record.exists():
            super().start(run_id)
            return
        if run.reason is not None:
            self._never_asked_for(run)
            return
        if (cluster := self._clusters.of(run)) is None:
            raise TransientError(f"run {run_id} can't be started: {self._clusters.trouble}")
        try:
            durable.write(run.folder.started, f'{{"by": "{ASKED}"}}'.encode())
        except FileExistsError:
            return  # it was asked for before, or never will be
        failpoint("Job to be asked for")
        try:
            made = cluster.api.create(run.job)
        except ConfigurationError as error:
            run.over(Ended(reason=ExitReason.START_FAILED, started=False, detail=str(error)))
            return
        except TransientError as error:
            cluster.trouble = f"Kubernetes can't be asked: {error}"
            raise
        failpoint("Job asked for")
        if made is not None:
            run.seen(None)
            cluster.made(made)

    def _fit(self, cluster: Cluster) -> None:
        """Nothing is started on a cluster that gives no answer, or is too old."""
        if not cluster.trouble:
            try:
                cluster.prove()
            except TransientError as error:  # told for the rest of the pass: each try may take its time
                cluster.trouble = f"Kubernetes can't be asked: {error}"
        if cluster.trouble:
            raise TransientError(f"nothing is started: {cluster.trouble}")

    # -- liveness ------------------------------------------------------------------------------------------------

    def attend(self) -> None:
        """Do for runs in pods what shims do for theirs: heartbeats, stops, logs, ends. Never raises; see trouble."""
        super().attend()
        self._seen = self._clusters.look(self._pod_runs(), watch=True)
        self._fresh, attendant = True, Attendant(self._host)
        for run in self._pod_runs():
            if run.folder.exit.exists():
                run.release()
                continue
            cluster = self._clusters.of(run)
            if cluster is None or cluster.trouble or not run.asked_for:
                continue
            try:
                attendant.tend(run, cluster)
            except TransientError as error:
                cluster.trouble = f"Kubernetes can't be asked: {error}"
            except OSError as error:
                cluster.trouble = f"run {run.run_id} can't be attended to: {error}"

    def poll(self) -> Mapping[str, Liveness]:
        """One look at every run; see Executor. Runs of a cluster that gives no answer count as alive."""
        if not self._fresh:
            self._seen = self._clusters.look(self._pod_runs(), watch=False)
        self._fresh = False
        return super().poll()

    def trouble(self) -> str:
        """Why some runs could not be looked at; see Executor."""
        return "; ".join(filter(None, (super().trouble(), self._clusters.trouble)))

    def _liveness(self, run_id: str) -> Liveness:
        if run_id not in self._ours:
            return super()._liveness(run_id)
        run = self._pod_run(run_id)
        if run.folder.exit.exists():
            return Liveness.ENDED
        cluster = self._clusters.of(run)
        if cluster is None or cluster.trouble or run_id not in self._seen:
            return Liveness.ALIVE  # it can't be seen just now
        job = cluster.job(run_id) if run.asked_for else None
        return Liveness.LOST if job is None or job.fence else Liveness.ALIVE

    # -- recovery ------------------------------------------------------------------------------------------------

    def recover(self, run_id: str) -> RunExit | None:
        """See to it that a lost run never starts, or that nothing of it is left; see Executor."""
        run = self._pod_run(run_id)
        if not run.record.exists():
            return super().recover(run_id)
        if run.folder.exit.exists():
            return self.exit(run_id)
        cluster = self._clusters.of(run)
        if cluster is None or cluster.trouble or run_id not in self._seen:
            return None
        try:
            if not run.asked_for:
                return self._never_asked_for(run)
            if run.folder.submitted.exists():
                return Attendant(self._host).gone(run, cluster)
            return self._unmade(run, cluster)
        except (TransientError, ConfigurationError) as error:
            cluster.trouble = f"Kubernetes can't be asked: {error}"
        return None

    def _never_asked_for(self, run: PodRun) -> RunExit | None:
        """Its Job was not asked for, and from now on nobody will."""
        end = fence(run.folder, run.run_id, now=self._clock())
        if end is None:
            return None
        return run.over(Ended(reason=run.reason or end.reason, started=False, detail=run.why or end.detail))

    def _unmade(self, run: PodRun, cluster: Cluster) -> RunExit | None:
        """Its Job was asked for, and nobody has seen it: whoever takes the name now has decided."""
        failpoint("name to be taken")
        made = cluster.api.create(jobs.fence(run.run_id, self._owner))
        failpoint("name taken")
        if made is None:
            found = cluster.api.job(jobs.name_of(run.run_id))
            if found is None:
                return None
            if not words.job_of(found).fence:  # it has come to be after all
                run.seen(None)
                cluster.made(found)
                return None
        detail = run.why or "its Job was never made"
        return run.over(Ended(reason=run.reason or ExitReason.NOT_STARTED, started=False, detail=detail))

    # -- afterwards --------------------------------------------------------------------------------------------

    def discard(self, run_id: str, *, succeeded: bool) -> None:
        """Remove the run's Job and its record; see Executor. A Job that can't be removed now goes by its ttl."""
        run = self._pod_run(run_id)
        if run.folder.submitted.exists() and run.record.exists():
            cluster = self._clusters.of(run)
            if cluster is not None and not cluster.trouble:
                with suppress(TransientError):
                    cluster.api.end(jobs.name_of(run_id), "")
        super().discard(run_id, succeeded=succeeded)

    def resumable(self, before: Run, pool_workspace: Workspace | None) -> bool:
        """Whether a run can go on in an earlier one's folder; see Executor. Nothing of a pod's is kept."""
        return before.executor != Engine.KUBERNETES and super().resumable(before, pool_workspace)

    # -- which cluster -------------------------------------------------------------------------------------------

    @property
    def _owner(self) -> str:
        return whose.runner_id(self._host.runs)

    def _pod_run(self, run_id: str) -> PodRun:
        return PodRun(folder=self._folder(run_id), now=self._clock())

    def _pod_runs(self) -> Iterator[PodRun]:
        for name in sorted(self._ours):
            if (run := self._pod_run(name)).record.exists():
                yield run
            else:
                self._ours.discard(name)
