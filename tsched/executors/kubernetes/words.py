"""What Kubernetes says of a run's Job and its pod, and what that comes to. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tsched.executors.kubernetes.job import AGENT, FENCE, JSON, OWNER, RUN, mapping, objects
from tsched.model.run import ExitReason
from tsched.model.units import from_iso

SLACK = 300.0  # seconds past all that a run may take until its node is taken for lost

# Why a container waits. What a person has to mend; the first of them no waiting ever ends.
_NEVER = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_HARDLY = frozenset(
    {
        *(
            "ErrImagePull",
            "ImagePullBackOff",
            "ImageInspectError",
            "RegistryUnavailable",
            "SignatureValidationFailed",
        ),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)
_UNSTARTABLE = frozenset({"StartError", "ContainerCannotRun"})  # the image has no such program
_REFUSED = re.compile(r"Out[oO]f\w+|NodeAffinity|UnexpectedAdmissionError|\w*AdmissionError")  # by a node, too late
_USELESS = re.compile(r"preemption: 0/(\d+) nodes are available: \1 Preemption is not helpful")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A run's pod. Times are seconds since the epoch, by the cluster's clock; 0 for none."""

    name: str
    uid: str
    phase: str
    node: str = ""
    reason: str = ""  # of the pod itself: Evicted, DeadlineExceeded
    message: str = ""
    running: bool = False
    exit_code: int | None = None
    ended_by: str = ""  # of the container: Completed, Error, OOMKilled, StartError
    said: str = ""
    started_at: float = 0.0
    ended_at: float = 0.0
    told_at: float = 0.0  # when somebody asked for it to be deleted
    waits_for: str = ""  # why the container does not run yet
    words: str = ""
    unplaced: str = ""  # why no node takes it
    disrupted: str = ""  # why Kubernetes itself ended it

    @property
    def started(self) -> bool:
        """Whether the agent has ever run in it."""
        return self.running or (self.exit_code is not None and self.ended_by not in _UNSTARTABLE)

    @property
    def stopped(self) -> bool:
        """Whether it was told to end before it had."""
        return bool(self.told_at) and (not self.ended_at or self.ended_at >= self.told_at)

    @property
    def over(self) -> bool:
        """Whether nothing of it runs any more, as its node says."""
        return self.phase in ("Succeeded", "Failed") and not self.running


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run's Job. `finished`: Complete or Failed, "" for neither yet. `fence`: it only takes the name."""

    name: str
    uid: str
    finished: str = ""
    reason: str = ""
    message: str = ""
    leaving: bool = False
    fence: bool = False
    one_pod: bool = True  # no second pod is made while the first may still run


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended."""

    reason: ExitReason
    started: bool
    exit_code: int | None = None
    detail: str = ""


def run_of(value: JSON) -> str:
    """The id of the run that a Job or a pod is of, "" for none."""
    return str(mapping(mapping(value.get("metadata")).get("annotations")).get(RUN, ""))


def owner_of(value: JSON) -> str:
    """The runner that a Job is of."""
    return str(mapping(mapping(value.get("metadata")).get("labels")).get(OWNER, "none"))


def job_of(value: JSON) -> Job:
    """A Job as the API shows it."""
    meta, spec = mapping(value.get("metadata")), mapping(value.get("spec"))
    conditions = objects(mapping(value.get("status")).get("conditions"))
    ends = [one for one in conditions if one.get("type") in ("Complete", "Failed") and one.get("status") == "True"]
    end = ends[0] if ends else {}
    return Job(
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        finished=str(end.get("type", "")),
        reason=str(end.get("reason", "")),
        message=str(end.get("message", "")),
        leaving="deletionTimestamp" in meta,
        fence=FENCE in mapping(meta.get("labels")),
        one_pod=spec.get("podReplacementPolicy") == "Failed",
    )


def pod_of(value: JSON) -> Pod:
    """A pod as the API shows it."""
    meta, status = mapping(value.get("metadata")), mapping(value.get("status"))
    containers = (one for one in objects(status.get("containerStatuses")) if one.get("name") == AGENT)
    state = mapping(next(containers, {}).get("state"))
    waiting, running, ended = (mapping(state.get(key)) for key in ("waiting", "running", "terminated"))
    code, grace = ended.get("exitCode"), meta.get("deletionGracePeriodSeconds")
    deleted = _time(meta.get("deletionTimestamp"))  # when its grace is over
    return Pod(
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        phase=str(status.get("phase", "")),
        node=str(mapping(value.get("spec")).get("nodeName", "")),
        reason=str(status.get("reason", "")),
        message=str(status.get("message", "")),
        running="running" in state,
        exit_code=code if isinstance(code, int) else None,
        ended_by=str(ended.get("reason", "")),
        said=str(ended.get("message", "")),
        started_at=_time(ended.get("startedAt") or running.get("startedAt")),
        ended_at=_time(ended.get("finishedAt")),
        told_at=deleted - grace if deleted and isinstance(grace, int) else deleted,
        waits_for=str(waiting.get("reason", "")),
        words=str(waiting.get("message", "")),
        unplaced=_condition(status, "PodScheduled", "False", "Unschedulable"),
        disrupted=_condition(status, "DisruptionTarget", "True"),
    )


def _condition(status: JSON, kind: str, value: str, reason: str = "") -> str:
    """What a condition of that value says, "" where it is not there."""
    for one in objects(status.get("conditions")):
        if (one.get("type"), one.get("status")) == (kind, value) and reason in ("", one.get("reason")):
            return str(one.get("message") or one.get("reason") or kind)
    return ""


def _time(value: object) -> float:
    try:
        return from_iso(str(value)) if value else 0.0
    except ValueError:
        return 0.0


def newest(pods: Sequence[JSON]) -> Mapping[str, JSON]:
    """The pod of each run, the newest where there are several."""
    return {run_of(one): one for one in by_age(pods)}


def by_age(pods: Sequence[JSON]) -> Sequence[JSON]:
    """The oldest first."""
    return sorted(pods, key=lambda one: str(mapping(one.get("metadata")).get("creationTimestamp", "")))


def ended(job: Job | None, pod: Pod | None, *, asked: ExitReason | None, began: bool) -> Ended | None:
    """How a run ended that its Job (None: there is none any more) says is over; None while its pod still runs.

    `asked`: why it was to stop, if it was. `began`: whether its agent was ever seen to run.
    """
    started = began or (pod is not None and pod.started)
    if pod is not None and pod.running and job is not None:
        return None
    if asked is not None:
        return Ended(reason=asked, started=started, exit_code=pod.exit_code if pod is not None else None)
    if job is None and (pod is None or pod.exit_code is None):
        return Ended(reason=ExitReason.STOPPED, started=started, detail="its Job was deleted")
    if pod is not None and pod.stopped and not pod.disrupted:
        what = "Job" if job is None else "pod"
        return Ended(
            reason=ExitReason.STOPPED, started=started, exit_code=pod.exit_code, detail=f"its {what} was deleted"
        )
    if pod is None:
        assert job is not None
        reason = ExitReason.TIMEOUT if job.reason == "DeadlineExceeded" else ExitReason.REBOOT
        return Ended(reason=reason, started=started, detail=f"its pod is gone ({job.reason or job.finished})")
    return _by_pod(pod, started=started)


def _by_pod(pod: Pod, *, started: bool) -> Ended:
    place = f" on {pod.node}" if pod.node else ""
    if pod.reason == "DeadlineExceeded":
        return Ended(reason=ExitReason.TIMEOUT, started=started, exit_code=pod.exit_code)
    if pod.reason and _REFUSED.fullmatch(pod.reason):
        return Ended(reason=ExitReason.NOT_STARTED, started=False, detail=f"{pod.reason}{place}: {pod.message}")
    if pod.disrupted or pod.reason:
        words = f"{pod.reason or 'ended by Kubernetes'}{place}: {pod.message or pod.disrupted}"
        return Ended(reason=ExitReason.REBOOT, started=started, exit_code=pod.exit_code, detail=words)
    if pod.ended_by in _UNSTARTABLE:
        words = f"{pod.said or pod.ended_by}: mend the runtime's argv, or the image"
        return Ended(reason=ExitReason.START_FAILED, started=False, detail=words)
    if pod.exit_code is None:
        return Ended(reason=ExitReason.REBOOT, started=started, detail=f"{pod.name}{place} told nothing of its end")
    detail = "it used up its memory (OOMKilled): raise resources.memory" if pod.ended_by == "OOMKilled" else ""
    return Ended(reason=ExitReason.EXITED, started=True, exit_code=pod.exit_code, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """Why a run does not begin. `for_good`: no waiting ever ends it."""

    words: str
    for_good: bool = False


def stuck(pod: Pod | None) -> Stuck | None:
    """What keeps a run from beginning that a person may have to mend; None where there is no such thing.

    A full cluster is none: room comes.
    """
    if pod is None:
        return Stuck(words="Kubernetes makes no pod for it")
    if pod.waits_for in _NEVER | _HARDLY:
        return Stuck(words=f"{pod.waits_for}: {pod.words}", for_good=pod.waits_for in _NEVER)
    if pod.unplaced and ("Insufficient" not in pod.unplaced or _USELESS.search(pod.unplaced)):
        return Stuck(words=f"no node can take it: {pod.unplaced}")
    return None
