"""A run as a job of Slurm: what is pinned of it before the claim, and what Slurm's words about it mean. Pure."""

import json
import math
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tsched.model.fleet import Resources
from tsched.model.placement import Slurm
from tsched.model.run import ExitReason

PREFIX = "tsched-"  # of a job's name; the run's id follows
SHIM = Path(__file__).parent / "shim/shim.py"
PASSED = ("PATH", "HOME", "TMPDIR", "TZ", "TSCHED_FAILPOINT", "TSCHED_FAILPOINT_FILE")  # all that the shim is given
PYTHON = f'python={shlex.quote(sys.executable)}\n[ -x "$python" ] || python=python3\n'  # of a script for sh
FORMAT = "%i|%T|%r|%N|%j"  # what squeue says of a job: id, state, why it waits, nodes, name

_WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
_OVER = frozenset(
    {
        *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED"),
        *("NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL"),
    }
)
_NODE_LOST = frozenset({"NODE_FAIL", "BOOT_FAIL"})  # Slurm can't have seen its processes end
# Reasons to wait that no waiting ends: a person has to ask for less, or to mend the cluster. Slurm holds later jobs
# of the partition back for some of them.
_NEVER = frozenset(
    {
        *("PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints", "ReservationDeleted"),
        *("InvalidAccount", "InvalidQOS", "AccountNotAllowed", "QOSNotAllowed", "DependencyNeverSatisfied"),
    }
)
_REFUSALS = (  # what sbatch says of a request that never can be met; anything else may be otherwise the next time
    *("invalid partition", "invalid account", "invalid qos", "invalid feature", "invalid generic resource"),
    *("invalid constraint", "invalid --", "unrecognized option", "specification", "node configuration"),
    *("partition configuration", "reservation", "time limit", "not permitted", "permission denied", "qos policy"),
)


class Word(StrEnum):
    """What Slurm says of a run's job."""

    NONE = "none"  # it knows of no such job
    WAITING = "waiting"
    REFUSED = "refused"  # it waits for what will never be
    RUNNING = "running"
    OVER = "over"  # and Slurm has seen its processes end
    NODE_LOST = "node-lost"  # over, and its processes may live on a node that Slurm can't reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as squeue shows it. `reason`: why it waits, or why it failed."""

    id: str
    state: str
    reason: str
    nodes: str


def files(wanted: Slurm, resources: Resources, *, folder: Path, environ: Mapping[str, str]) -> dict[str, bytes]:
    """What a job adds to the run's folder. The shim is among it: a job may wait for longer than a version lasts."""
    return {
        "job.json": json.dumps({"options": options(wanted, resources)}).encode(),
        "job.sh": script(folder, environ).encode(),
        **shim(),
    }


def shim() -> dict[str, bytes]:
    """The shim's own files, for the run's folder."""
    return {f"shim/{file.name}": file.read_bytes() for file in SHIM.parent.glob("*.py")}


def options(wanted: Slurm, resources: Resources) -> list[str]:
    """What sbatch is asked for. Each is one word of a command, never text for a shell."""
    asked = {key: value for key, value in wanted.said().items() if key not in ("time", "shared")}
    found = [f"--{key}={value}" for key, value in asked.items()]
    if resources.cpus is not None:
        found.append(f"--cpus-per-task={math.ceil(resources.cpus)}")
    if resources.memory is not None:
        found.append(f"--mem={math.ceil(resources.memory / (1 << 20))}M")
    return [*found, *([time_limit(wanted.time)] if wanted.time is not None else [])]


def time_limit(seconds: float) -> str:
    """Slurm counts whole minutes."""
    return f"--time={max(1, math.ceil(seconds / 60))}"


def script(folder: Path, environ: Mapping[str, str]) -> str:
    """What the job runs: the shim, with an exact environment. Slurm gets to see it, so no secret may be in it."""
    given = " ".join(shlex.quote(word) for word in given_to(environ, folder.name))
    command = shlex.join(["-I", "-S", "-B", "-X", "utf8", str(folder / "shim/shim.py"), str(folder), "kept"])
    return f'#!/bin/sh\n{PYTHON}exec env -i {given} "$python" {command}\n'


def given_to(environ: Mapping[str, str], run_id: str) -> list[str]:
    """The environment of a run's shim, as words for `env`."""
    env = {name: environ[name] for name in PASSED if name in environ} | {"TSCHED_RUN_ID": run_id}
    return [f"{name}={value}" for name, value in env.items()]


def command(folder: Path, asked: Iterable[str], *, shared: bool) -> list[str]:
    """The arguments of sbatch for a run. Its folder's name is the run's id; `shared`: nodes see that folder."""
    output = str(folder / "shim.log").replace("%", "%%") if shared else "/dev/null"
    return [
        *("--parsable", f"--job-name={PREFIX}{folder.name}", f"--comment=tsched run {folder.name}"),
        *("--no-requeue", "--export=NONE", "--propagate=NONE", "--nodes=1", "--ntasks=1", "--chdir=/"),
        *(f"--output={output}", "--open-mode=append"),
        *asked,
        str(folder / "job.sh"),
    ]


def listed(text: str) -> dict[str, Job]:
    """Our jobs in what squeue said in FORMAT, by run id. Of one name the one that is not over, else the last."""
    found: dict[str, Job] = {}
    for line in text.splitlines():
        number, _, rest = line.partition("|")
        state, _, rest = rest.partition("|")
        reason, _, rest = rest.partition("|")
        nodes, _, name = rest.partition("|")
        run_id = name.removeprefix(PREFIX)
        if run_id == name or (run_id in found and found[run_id].state not in _OVER):
            continue
        found[run_id] = Job(id=number, state=state, reason=reason, nodes=nodes)
    return found


def word(job: Job | None) -> Word:
    """What a job's state comes to. A state that we don't know is taken for a running one: nothing is done to it."""
    if job is None:
        return Word.NONE
    if job.state in _WAITING:
        return (
            Word.REFUSED if job.reason in _NEVER or job.reason.endswith(("PerJobLimit", "PerJob")) else Word.WAITING
        )
    if job.state in _NODE_LOST:
        return Word.NODE_LOST
    return Word.OVER if job.state in _OVER else Word.RUNNING


def refusal(said: str) -> bool:
    """Whether what sbatch said is about the request, and not about the moment."""
    return any(phrase in said.lower() for phrase in _REFUSALS)


def unstarted(job: Job | None) -> tuple[ExitReason, str]:
    """Why a run whose agent never started, and never will, did not."""
    match word(job):
        case Word.REFUSED:
            reason = job.reason if job is not None else ""
            return ExitReason.START_FAILED, (
                f"Slurm can never run it ({reason}): ask for less in `resources` and `slurm`, or mend the partition"
            )
        case Word.NONE:
            return ExitReason.NOT_STARTED, "Slurm knows of no job for it"
        case Word.OVER | Word.NODE_LOST | Word.WAITING | Word.RUNNING:
            return ExitReason.NOT_STARTED, f"its job is {_described(job)}"


def ended(job: Job | None) -> tuple[ExitReason, str]:
    """Why a run ended whose shim could not say it."""
    state = job.state if job is not None else ""
    words = f"its job is {_described(job)}" if job is not None else "Slurm knows no more of its job"
    if state in _NODE_LOST:
        return ExitReason.REBOOT, words
    if state in ("CANCELLED", "PREEMPTED", "REVOKED"):
        return ExitReason.STOPPED, words
    return ExitReason.TIMEOUT if state in ("TIMEOUT", "DEADLINE") else ExitReason.SHIM_DIED, words


def _described(job: Job | None) -> str:
    if job is None:
        return "gone"
    reason = f", {job.reason}" if job.reason not in ("", "None") else ""
    return f"{job.state}{reason} ({job.id}{f' on {job.nodes}' if job.nodes else ''})"
