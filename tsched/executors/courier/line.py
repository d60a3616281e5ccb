"""Whom a run on a node can ask: the runner, over its HTTP API, and Slurm."""

import http.client
import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 10.0  # seconds that one request, or a question to Slurm, may take
OVER = 410  # the status by which the run's own runner says: it is no longer, or never was, this job's
WHOSE = "tsched-runner"  # header: the id of the run's own runner. Another's word ends no run


class Gone(Exception):  # noqa: N818 - it is no error of anybody's
    """The runner says that this run is not, or no longer, this job's."""


class Silence(Exception):  # noqa: N818
    """No answer that is the runner's."""


class Runner:
    """The runner's API, as this run may use it. The token is made here and leaves this process in requests alone."""

    def __init__(self, address: str, run_id: str, runner_id: str) -> None:
        self._runner_id = runner_id
        self._to = urlsplit(address)
        self._path = f"{self._to.path.rstrip('/')}/nodes/{run_id}"
        self.token = os.urandom(32).hex()

    def ask(self, what: str, secret: str, said: Mapping[str, object]) -> dict[str, Any]:
        """One request. Raises Gone, Silence. No redirect is followed, so the secret goes to this address alone."""
        kind = http.client.HTTPSConnection if self._to.scheme == "https" else http.client.HTTPConnection
        link = kind(self._to.hostname or "", self._to.port, timeout=PATIENCE)
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        headers[WHOSE] = self._runner_id
        try:
            link.request("POST", f"{self._path}/{what}", json.dumps(said).encode(), headers)
            answer = link.getresponse()
            body = answer.read(1 << 26)
            if answer.status == OVER:
                raise Gone
            found = json.loads(body) if answer.status == 200 else None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Silence(f"{type(error).__name__}: {error}") from None
        finally:
            link.close()
        if not isinstance(found, dict):
            raise Silence(f"the answer's status is {answer.status}")
        return found


def works(job: str, run_id: str) -> bool:
    """Whether Slurm says that this very job runs: then nobody takes its run for lost.

    By number and name: a controller that was killed gives the numbers of its last seconds to other jobs.
    """
    if not job:
        return False
    try:
        done = subprocess.run(
            ["squeue", "--noheader", f"--jobs={job}", f"--name=tsched-{run_id}", "--format=%T"],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() in (b"RUNNING", b"COMPLETING", b"SUSPENDED")
