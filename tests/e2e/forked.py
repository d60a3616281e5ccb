"""Starts of the real program that cost what it does and not what its imports cost.

Each is a process of its own, forked from one that has loaded the program once. What belongs to the start itself
(`python -m tsched`, the installed commands) is shown by tests that start it so: documents, demo, guide.
"""

import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path

import tsched
from tsched.cli.main import main

# All of the program that a process of its own does not begin with.
MODULES = [
    module.name
    for module in pkgutil.walk_packages(tsched.__path__, "tsched.")
    if module.name != "tsched.__main__" and not module.name.startswith("tsched.executors.shim")
]
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(MODULES)


class Forked:
    """A started program, as subprocess.Popen has it. `returncode` is None while it runs."""

    def __init__(
        self, arguments: Sequence[str], *, environ: Mapping[str, str], cwd: Path, out: str, err: str
    ) -> None:
        self._process = CHILDREN.Process(target=_program, args=(arguments, dict(environ), cwd, out, err))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("tsched", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    arguments: Sequence[str], environ: Mapping[str, str], cwd: Path, *, timeout: float
) -> subprocess.CompletedProcess[str]:
    """The program with that command line and nothing but that environment. Raises subprocess.TimeoutExpired."""
    if "TSCHED_FAILPOINT" in environ:  # looked at when the program is loaded
        command = [sys.executable, "-m", "tsched", *arguments]
        return subprocess.run(
            command, env=environ, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
        )
    with _memory() as out, _memory() as err:
        here = f"/proc/{os.getpid()}/fd"
        process = Forked(
            arguments, environ=environ, cwd=cwd, out=f"{here}/{out.fileno()}", err=f"{here}/{err.fileno()}"
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(arguments, code, *(_text(one) for one in (out, err)))


def _memory() -> FileIO:
    return FileIO(os.memfd_create("said"), "r+")


def _text(file: FileIO) -> str:
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()


def _program(arguments: Sequence[str], environ: Mapping[str, str], cwd: Path, out: str, err: str) -> None:
    """A process's whole life."""
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), stream)
    sys.exit(main(arguments))
