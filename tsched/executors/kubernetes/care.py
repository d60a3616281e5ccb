"""What a runner does for a run in its pod, as a shim does for its own: heartbeats, stops, the log, the end."""

from contextlib import suppress
from dataclasses import replace

from tsched.executors.kubernetes import job as jobs
from tsched.executors.kubernetes import words
from tsched.executors.kubernetes.cluster import Cluster
from tsched.executors.kubernetes.log import Output
from tsched.executors.kubernetes.run import PodRun
from tsched.executors.kubernetes.words import Job, Pod
from tsched.executors.runfolder import Host
from tsched.failpoint import failpoint
from tsched.model.errors import TransientError
from tsched.model.run import ExitReason, RunExit

LOG_PATIENCE = 600.0  # seconds that a run's log is asked for, in vain, until its end is told without
WATCH_PATIENCE = 5.0  # seconds that a watch may take to tell how a pod ended that is gone
NO_LOG = "its log could not be brought back"


class Attendant:
    """For the runs of one pass. Each method raises TransientError, and OSError where the disk refuses."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._silent_nodes: frozenset[str] = frozenset()  # that gave no log in this pass

    def tend(self, run: PodRun, cluster: Cluster) -> None:
        """One look at a run whose Job was asked for, and what follows from it."""
        job, pod = cluster.job(run.run_id), cluster.pod(run.run_id)
        if job is None or job.fence:
            if job is None and run.folder.submitted.exists() and run.folder.stopping.exists():
                self.gone(run, cluster)  # as was asked of it
            return
        run.seen(pod)
        leased = run.beat(pod)
        ours = job.leaving and run.folder.stopping.exists()  # then its end is known once it is gone
        if job.finished and not ours and self._finish(run, cluster, job, pod):
            return
        if run.reason is None and not leased:
            run.begin_to_stop(ExitReason.LEASE_GONE)
        self._mend(run, cluster, job, pod)
        if run.reason is not None and not job.leaving:
            self._stop(run, cluster, job, pod)
        elif run.overdue and pod is not None and not pod.over:
            cluster.api.forget(pod.name, pod.uid)

    def _mend(self, run: PodRun, cluster: Cluster, job: Job, pod: Pod | None) -> None:
        """See to it that what can't go on does not."""
        if run.reason is not None or job.leaving:
            return
        if run.overdue and pod is not None and not pod.over:
            run.begin_to_stop(ExitReason.REBOOT, f"its node {pod.node} is lost")
            return
        fix = words.stuck(pod) if run.began is None else None
        since = run.in_a_fix("start" if fix is not None else "")
        if fix is not None and (fix.for_good or since >= run.seconds["start_within"]):
            complaint = "" if pod is not None else cluster.api.complaint(job.uid)
            mend = "mend `kubernetes` or `resources`, or the cluster"
            run.begin_to_stop(ExitReason.START_FAILED, ": ".join(filter(None, (fix.words, complaint, mend))))

    def _stop(self, run: PodRun, cluster: Cluster, job: Job, pod: Pod | None) -> None:
        """End the Job, its log kept as far as it goes: with the pod it would be gone."""
        run.begin_to_stop(run.reason or ExitReason.STOPPED)
        if pod is not None and pod.started:
            with suppress(TransientError):  # a node that gives no log is no reason to go on
                self._bring(run, cluster, pod)
        failpoint("Job to be ended")
        cluster.api.end(job.name, job.uid)
        failpoint("Job ended")

    def _finish(self, run: PodRun, cluster: Cluster, job: Job, pod: Pod | None) -> bool:
        """The end of a run whose Job is over, its log first. False where its pod goes on all the same."""
        if pod is None or not pod.over:  # a picture of pods may be older than that of Jobs
            pod = [pod, *cluster.left(run.run_id)][-1]
        asked = run.reason if run.folder.stopping.exists() else None  # else it ended by itself
        end = words.ended(job, pod, asked=asked, began=run.began is not None)
        if end is None:
            return False
        detail = end.detail or run.why
        if pod is not None and pod.started:
            try:
                self._bring(run, cluster, pod)
            except TransientError:
                if run.in_a_fix("log") < LOG_PATIENCE:
                    return True
                detail = f"{detail}; {NO_LOG}" if detail else NO_LOG
        run.over(replace(end, detail=detail), pod)
        return True

    def _bring(self, run: PodRun, cluster: Cluster, pod: Pod) -> None:
        if pod.node in self._silent_nodes:  # a dead node's runs are many, and each would take its time
            raise TransientError(f"node {pod.node} gives no log")
        self._host.logs.mkdir(parents=True, exist_ok=True)
        try:
            with Output(self._host.log(run.run_id), self._host.log_max) as output:
                cluster.api.log(pod.name, output.take)
        except TransientError:
            self._silent_nodes |= {pod.node}
            raise

    def gone(self, run: PodRun, cluster: Cluster) -> RunExit | None:
        """The end of a run whose Job was there and is no more. None where something of it still is."""
        found = cluster.api.job(jobs.name_of(run.run_id))
        if found is not None and not words.job_of(found).fence:
            cluster.made(found)
            return None
        if left := [one for one in cluster.left(run.run_id) if not one.over]:
            if run.overdue:
                for one in left:
                    cluster.api.forget(one.name, one.uid)
            return None
        pod = cluster.pod(run.run_id)
        if pod is not None and pod.running and not run.overdue and run.in_a_fix("end") < WATCH_PATIENCE:
            return None
        end = words.ended(None, pod, asked=run.reason, began=run.began is not None)
        if end is None:
            return None
        return run.over(replace(end, detail=run.why or end.detail), pod)
