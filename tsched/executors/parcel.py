"""A run for a node that shares no folder with the runner: what its job carries, and where it works there. Pure.

Slurm keeps what a job carries, so that is little: the courier (courier/) and a ticket that is good for one start.
All else, the agent's environment too, the courier fetches from `tsched serve`.
"""

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tsched.executors import jobs
from tsched.model.fleet import Resources
from tsched.model.placement import Slurm

COURIER = Path(__file__).parent / "courier"
_END = "END_OF_THE_COURIER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """`address`: where nodes find `tsched serve`. `ticket`: the secret that the job shows to start its run.

    `runner_id`: whose run it is.
    """

    run_id: str
    runner_id: str
    address: str
    ticket: str


def place(run_id: str) -> Path:
    """The state folder that a run has to itself on its node. Its job makes it, and ends where it is there already."""
    return Path("/tmp") / f"{jobs.PREFIX}{run_id}"


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def files(
    wanted: Slurm, resources: Resources, *, errand: Errand, fetched: Iterable[str], environ: Mapping[str, str]
) -> dict[str, bytes]:
    """What the job adds to the run's folder. `fetched`: the folder's files that the courier is given besides."""
    shim = jobs.shim()
    job = {
        "options": jobs.options(wanted, resources),
        "ticket": digest(errand.ticket),
        "files": sorted({*fetched, *shim}),
    }
    return {**shim, "job.json": json.dumps(job).encode(), "job.sh": script(errand, environ).encode()}


def script(errand: Errand, environ: Mapping[str, str]) -> str:
    """What the job runs: the courier, with an exact environment and what it needs to ask Slurm after its own job."""
    given = " ".join(shlex.quote(word) for word in jobs.given_to(environ, errand.run_id))
    folder = shlex.quote(str(place(errand.run_id)))
    words = shlex.join([str(place(errand.run_id)), errand.address, errand.run_id, errand.runner_id])
    files = sorted(COURIER.glob("*.py"))

    def written(file: Path) -> str:
        return f"cat > {folder}/courier/{file.name} <<'{_END}'\n{file.read_text()}{_END}\n"

    return (
        "#!/bin/sh\n"
        f"(umask 077 && mkdir {folder}) || exit 3\n"
        f"mkdir {folder}/courier\n{''.join(map(written, files))}"
        f"printf %s {shlex.quote(errand.ticket)} > {folder}/ticket\n"  # built in: no process's argument
        f"{jobs.PYTHON}"
        f'exec env -i {given} SLURM_CONF="$SLURM_CONF" SLURM_JOB_ID="$SLURM_JOB_ID" '
        f'"$python" -I -S -B -X utf8 {folder}/courier/program.py {words}\n'
    )
