"""Starts of the real program that cost milliseconds: one process has imported all of it and forks for each."""

import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PR_SET_PDEATHSIG = 1
BOOT_ID = "/proc/sys/kernel/random/boot_id"
# In a mount namespace of its own, so that a file may stand in the place of the kernel's boot id.
APART = ("unshare", "--mount", "--propagation", "private", "sh", "-c")


class Nursery:
    """The forking process. `boot_id` is None where this machine does not let us give it another boot id."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "tests.faults.nursery"]
        file = root / "boot_id"
        file.write_text("11111111-1111-4111-8111-111111111111\n")
        mount = f'mount --bind "{file}" {BOOT_ID}'
        allowed = subprocess.run([*APART, mount], capture_output=True, check=False).returncode == 0
        self.boot_id = file if allowed else None
        if allowed:
            command = [*APART, f'{mount} && exec "$@"', "sh", *command]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**environ, "TSCHED_FAILPOINT": "", "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip

    def start(self, *arguments: str, environ: Mapping[str, str], log: Path) -> "Started":
        """Start `tsched ARGUMENTS` with that environment alone, its output appended to the log."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([arguments, dict(environ), str(log)]), file=self._process.stdin, flush=True)
        return Started(int(self._process.stdout.readline()))

    def close(self) -> None:
        """End it, and what it started: shims and agents go on."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Started:
    """A process of the nursery's, held by its pidfd: its pid may be given again, this never is."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._handle: int | None = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended already
            self._handle = None

    def alive(self) -> bool:
        """Whether it still runs."""
        if self._handle is not None and select.select([self._handle], [], [], 0)[0]:
            os.close(self._handle)
            self._handle = None
        return self._handle is not None

    def send(self, number: int) -> None:
        """Signal it, where it still runs."""
        if self.alive() and self._handle is not None:
            signal.pidfd_send_signal(self._handle, number)


def main() -> None:
    """Fork for each line of standard input: [arguments, environment, log]; answers with the pid."""
    from tests.e2e.forked import MODULES
    from tsched.cli.main import main as program

    for name in MODULES:
        importlib.import_module(name)

    libc = ctypes.CDLL(None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        arguments, environ, log = json.loads(line)
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)  # a campaign that is broken off leaves no daemon
        os.setsid()
        os.environ.clear()
        os.environ.update(environ)
        out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (out, 2)):
            os.dup2(source, target)
        code = 1
        try:
            code = program(arguments)
            sys.stdout.flush()
        finally:
            os._exit(code)


if __name__ == "__main__":
    main()
