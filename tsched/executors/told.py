"""Starts the command that is told of an alert: no shell, no terminal, a time limit."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from tsched.failpoint import failpoint
from tsched.model.errors import ConfigurationError, TransientError

HASTE = 10.0  # seconds


def tell(argv: Sequence[str], words: bytes, *, environ: Mapping[str, str], timeout: float = HASTE) -> None:
    """Run it to its end, `words` on its standard input. Nothing of it goes on afterwards.

    Raises TransientError where it fails or takes too long, ConfigurationError where there is no such program.
    """
    failpoint("command to be started")
    try:
        process = subprocess.Popen(
            argv, env=dict(environ), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:  # the latter: a NUL in its arguments, or in what it is told
        raise ConfigurationError(f"{argv[0]} can't be started: {error}") from None
    try:
        process.communicate(words, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise TransientError(f"{argv[0]} did not end within {timeout:g} s") from None
    finally:
        _end(process)
    failpoint("command ended")
    if process.returncode != 0:
        raise TransientError(f"{argv[0]} ended with exit status {process.returncode}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Nothing of its session goes on, whether it ended or not; but nobody waits for what can't be killed."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1.0)
