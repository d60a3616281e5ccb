"""What is on disk of one run on Kubernetes: how far it has come, why it is to stop, its lease, its end."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tsched.executors import durable
from tsched.executors.kubernetes.job import JSON, START_WITHIN
from tsched.executors.kubernetes.words import SLACK, Ended, Pod
from tsched.executors.runfolder import RunFolder
from tsched.failpoint import failpoint
from tsched.model.run import ExitReason, RunExit

FENCED = "recovery"  # who made the fence, where it was not the start
ASKED = "kubernetes"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRun:
    """A run's folder, `runs/<run_id>`, beside what every run has there:

    `kubernetes.json`: where its Job is and what it is. `started`: made before the Job is asked for. `submitted`: the
    Job was there. `agent.json`: when its agent was first seen to run. `missed`: since when it is in a fix, and which.
    """

    folder: RunFolder
    now: float  # seconds since the epoch

    @property
    def run_id(self) -> str:
        return self.folder.path.name

    @property
    def record(self) -> Path:
        return self.folder.path / "kubernetes.json"

    @property
    def spec(self) -> Mapping[str, object]:
        """What was decided of it, as of every run."""
        return durable.record(self.folder.spec) or {}

    @property
    def asked_for(self) -> bool:
        """Whether its Job may have been asked for."""
        return (durable.record(self.folder.started) or {}).get("by") == ASKED

    # -- why it is to stop -----------------------------------------------------------------------------------------

    @property
    def due(self) -> Mapping[str, object] | None:
        """The stop request whose time has come, or that is being acted on."""
        request = durable.record(self.folder.stopping)
        if request is not None:
            return request
        request = durable.record(self.folder.stop)
        at = (request or {}).get("at")
        return request if isinstance(at, int | float) and at <= self.now else None

    @property
    def reason(self) -> ExitReason | None:
        """Why it is to stop now, if it is."""
        if (request := self.due) is None:
            return None
        try:
            return ExitReason(str(request.get("reason")))
        except ValueError:
            return ExitReason.STOPPED

    @property
    def why(self) -> str:
        """The same in words, where there are any."""
        return str((self.due or {}).get("detail", ""))

    def begin_to_stop(self, reason: ExitReason, detail: str = "") -> None:
        """From now on it is being stopped, for one reason. Raises OSError."""
        if self.folder.stopping.exists():
            return
        if self.due is not None:
            with suppress(FileNotFoundError):  # recalled in this very moment: then by the request as it was
                self.folder.stop.rename(self.folder.stopping)
                return
        failpoint("stop to be begun")
        words = {"at": self.now, "reason": str(reason), "detail": detail}
        durable.replace(self.folder.stopping, json.dumps(words).encode())

    # -- how far it has come ---------------------------------------------------------------------------------------

    @property
    def seconds(self) -> Mapping[str, float]:
        """Its times: heartbeat, max_runtime, stop_grace, start_within."""
        spec = self.spec
        names = ("heartbeat", "max_runtime", "stop_grace")
        found = {name: value for name in names if isinstance(value := spec.get(name), int | float)}
        within = spec.get("start_within")
        return {**found, "start_within": within if isinstance(within, int | float) else START_WITHIN}

    @property
    def began(self) -> float | None:
        """When its agent was first seen to run; None: never yet."""
        seen = (durable.record(self.folder.agent) or {}).get("seen")
        return float(seen) if isinstance(seen, int | float) else None

    def seen(self, pod: Pod | None) -> None:
        """Its Job is there, and perhaps its agent has begun. Raises OSError."""
        if not self.folder.submitted.exists():
            self.folder.submitted.touch(mode=0o600)
        if pod is not None and pod.started and self.began is None:
            words = {"seen": self.now, "pod": pod.name, "node": pod.node, "agent_pid": 0, "agent_start": 0}
            durable.replace(self.folder.agent, json.dumps(words).encode())

    @property
    def overdue(self) -> bool:
        """Whether its node, if it lived, must have ended it long ago: a kubelet needs nobody's word for that."""
        times, began = self.seconds, self.began
        if began is None:
            return False
        return self.now > began + times.get("max_runtime", 0.0) + times.get("stop_grace", 0.0) + SLACK

    def in_a_fix(self, which: str) -> float:
        """For how many seconds it has been in the same one; "" for none. Raises OSError."""
        if not which:
            self.folder.missed.unlink(missing_ok=True)
            return 0.0
        known = durable.record(self.folder.missed) or {}
        since = known.get("since")
        if known.get("which") == which and isinstance(since, int | float):
            return max(0.0, self.now - since)
        durable.replace(self.folder.missed, json.dumps({"since": self.now, "which": which}).encode())
        return 0.0

    # -- its lease and its end -------------------------------------------------------------------------------------

    def beat(self, pod: Pod | None) -> bool:
        """A heartbeat. False where the lease is gone, or another run's. Raises OSError."""
        spec = self.spec
        lease = Path(str(spec.get("lease", "")))
        known = durable.record(lease)
        if known is None or (known and known.get("run_id") != self.run_id):
            return False
        running = pod is not None and pod.started
        if known and (known.get("state") == "running" or not running):
            os.utime(lease)
            return True
        fields = spec.get("lease_fields")
        made = dict(known or (fields if isinstance(fields, dict) else {}))
        if pod is not None and running:
            made |= {"state": "running", "host": pod.node or made.get("host", "")}
        durable.replace(lease, json.dumps(made, indent=2).encode())
        return True

    def over(self, end: Ended, pod: Pod | None = None) -> RunExit | None:
        """Put its end on record, then let go of its lease. None where the disk refuses."""
        known = pod is not None and end.started
        found = RunExit(
            run_id=self.run_id,
            reason=end.reason,
            started=end.started,
            exit_code=end.exit_code,
            detail=end.detail,
            started_at=(pod.started_at if pod is not None and known else 0.0) or (self.began or 0.0),
            ended_at=(pod.ended_at if pod is not None and known else 0.0) or self.now,
        )
        try:
            durable.replace(self.folder.exit, json.dumps(asdict(found)).encode())
        except OSError:
            return None
        failpoint("end on record")
        self.release()
        return found

    def release(self) -> None:
        """Let go of the lease, its link first."""
        spec = self.spec
        lease, link = Path(str(spec.get("lease", ""))), Path(str(spec.get("link", "")))
        if (durable.record(lease) or {}).get("run_id") == self.run_id:
            with suppress(OSError):
                link.unlink(missing_ok=True)
                lease.unlink(missing_ok=True)

    @property
    def job(self) -> JSON:
        """The Job as it was decided."""
        value = (durable.record(self.record) or {}).get("job")
        return value if isinstance(value, dict) else {}
