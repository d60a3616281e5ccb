"""Slurm's own commands, each within its own time: submit, look, cancel."""

import subprocess
from collections.abc import Mapping, Sequence

from tsched.executors import jobs
from tsched.executors.jobs import Job
from tsched.executors.runtimes import DEFAULT_PATH, program
from tsched.model.errors import ConfigurationError, TransientError

PATIENCE = 10.0  # seconds that a command may take: with its controller down squeue hangs
# Not SBATCH_* and the like, which would change what is asked for, and none of the host's tokens.
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "TZ", "SLURM_CONF")


class SilentError(TransientError):
    """A command gave no answer in its time: neither would the next."""


class Controller:
    """The cluster that this machine's Slurm commands speak to. `environ`: the host's."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._env = {name: environ[name] for name in _PASSED if name in environ} | {"LC_ALL": "C"}

    def there(self) -> None:
        """Raises ConfigurationError where Slurm's commands are not installed."""
        for name in ("sbatch", "squeue", "scancel"):
            self._program(name)

    def submit(self, arguments: Sequence[str]) -> None:
        """A new job. Raises ConfigurationError where it is refused for what it asks; else TransientError.

        After a TransientError nobody knows whether there is a job now: look.
        """
        self._ask("sbatch", *arguments)

    def jobs(self, run_id: str = "") -> Mapping[str, Job]:
        """This user's jobs that Slurm still knows, by run id, or that of one run. Raises TransientError."""
        one = [f"--name={jobs.PREFIX}{run_id}"] if run_id else []
        return jobs.listed(self._ask("squeue", "--me", "--noheader", "--states=all", f"--format={jobs.FORMAT}", *one))

    def cancel(self, run_id: str, job: Job) -> None:
        """TERM, then KILL after the cluster's KillWait; one that is over is left alone. Raises TransientError.

        By number and name: a controller that was killed gives the numbers of its last seconds to other jobs.
        """
        self._ask("scancel", "--quiet", f"--name={jobs.PREFIX}{run_id}", job.id)

    def _ask(self, name: str, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [self._program(name), *arguments], env=self._env, stdin=subprocess.DEVNULL, capture_output=True,
                text=True, errors="replace", timeout=PATIENCE, check=False, cwd="/",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise SilentError(f"{name} gave no answer within {PATIENCE:g} s: is slurmctld up?") from None
        except OSError as error:
            raise TransientError(f"{name} can't be started: {error.strerror}") from error
        if done.returncode == 0:
            return done.stdout
        lines = (line.removeprefix(f"{name}: ").removeprefix("error: ") for line in done.stderr.splitlines())
        said = "; ".join(dict.fromkeys(line.strip() for line in lines if line.strip()))[:500]
        if name == "sbatch" and jobs.refusal(said):
            raise ConfigurationError(f"Slurm refuses it: {said}: mend `slurm` or `resources`, or the cluster")
        raise TransientError(f"{name}: {said or f'exit status {done.returncode}'}")

    def _program(self, name: str) -> str:
        return program(name, self._env.get("PATH") or DEFAULT_PATH)
