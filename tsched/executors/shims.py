"""The shims' processes as their runner starts them: forked by a server of its own, or each a Python of its own."""

import os
import time
from collections.abc import Mapping, Set
from pathlib import Path

from tsched.executors import processes
from tsched.executors.forkserver import ROOM, ForkServer, spawn
from tsched.executors.jobs import PASSED
from tsched.executors.locks import locked
from tsched.executors.runfolder import RunFolder

ANSWER = 5.0  # seconds without an answer, after which the server is given up
REST = 60.0  # seconds from then until there is a new one


class Shims:
    """Starts shims and knows those that it started. `runs`: the folder of all runs.

    The first is started by itself: a runner that has one run to start is not worth a server. With the second a server
    is started too, and used as soon as it is ready: a run never waits for it.
    """

    def __init__(self, runs: Path, environ: Mapping[str, str]) -> None:
        self._room = "=" * (len(os.fsencode(runs)) + 1 + ROOM)
        self._environ = {name: environ[name] for name in PASSED if name in environ}
        self._children: dict[str, int] = {}  # of this very process, until they are reaped
        self._forked: dict[str, processes.Process] = {}  # of the server, for as long as their runs are there
        self._orphans: list[processes.Process] = []  # of a server that is no more: ours, until they are reaped
        self._asked: dict[str, RunFolder] = {}  # of the server, which has not forked them yet, or can't
        self._server: ForkServer | None = None
        self._serve_from: float | None = None  # the monotonic clock's; None: before the first start

    def start(self, run_id: str, folder: RunFolder, *words: str) -> None:
        """Start the run's shim, or ask the server to. Raises OSError where the machine is full."""
        if not words and self._ask(run_id, folder):
            return
        self._spawn(run_id, folder, *words)
        self._serve_from = self._serve_from or 0.0

    def _spawn(self, run_id: str, folder: RunFolder, *words: str) -> None:
        self._children[run_id] = spawn(
            [str(folder.path), *words],
            {**self._environ, "TSCHED_RUN_ID": run_id},
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(folder.shim_log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        )

    def _ask(self, run_id: str, folder: RunFolder) -> bool:
        """Whether the server will fork the run's shim, as far as is known now."""
        if self._serve_from is None or time.monotonic() < self._serve_from:
            return False
        try:
            if (server := self._server) is None:
                self._server = ForkServer(self._room, self._environ)
                return False
            self._hear(server, 0)
            if not server.ready:
                return False
            while not server.ask(run_id, folder.path):
                self._hear(server, ANSWER)
            self._asked[run_id] = folder
            self._hear(server, 0)
        except OSError:
            self._asked.pop(run_id, None)
            self._give_up()
            return False
        return True

    def _hear(self, server: ForkServer, seconds: float) -> None:
        for run_id, process in server.hear(seconds):
            if process is not None:
                del self._asked[run_id]
                self._forked[run_id] = process

    def _give_up(self) -> None:
        self.close()
        self._serve_from = time.monotonic() + REST

    def confirm(self) -> Mapping[str, OSError]:
        """Wait until the server has forked what it was asked for; what it did not is started here.

        Where it might have forked it all the same, the fence lets one of the two through. Returns what the machine
        refused, by run id.
        """
        while self._server is not None and self._server.awaited:
            try:
                self._hear(self._server, ANSWER)
            except OSError:
                self._give_up()
        refused = {}
        for run_id, folder in self._asked.items():
            if locked(folder.lock) or folder.started.exists():
                continue
            try:
                self._spawn(run_id, folder)
            except OSError as error:
                refused[run_id] = error
        self._asked.clear()
        return refused

    def child(self, run_id: str) -> int | None:
        """The pid of a run's shim that is this process's own child, which nobody else reaps."""
        return self._children.get(run_id)

    def lives(self, run_id: str) -> bool:
        """Whether a shim that has no lock is one that was started here and has not ended: it is to take it yet."""
        process = self._forked.get(run_id)
        return run_id in self._children or (process is not None and processes.alive(process))

    def forget(self, gone: Set[str]) -> None:
        """These runs are there no more."""
        for run_id in gone & self._forked.keys():
            del self._forked[run_id]

    def reap(self, watched: Set[str]) -> None:
        """Collect who has ended: server, orphans, and children aside of those whose end the kernel would tell."""
        if self._server is not None:
            try:
                self._hear(self._server, 0)
            except OSError:
                self._give_up()
        if self._orphans:
            self._orphans = [one for one in self._orphans if not processes.collect(one)]
        for run_id in self._children.keys() - watched if self._children else ():
            try:
                ended, _ = os.waitpid(self._children[run_id], os.WNOHANG)
            except ChildProcessError:
                ended = self._children[run_id]
            if ended:
                del self._children[run_id]

    def close(self) -> None:
        """End the server. The shims go on; what it had not forked yet, `confirm` starts."""
        if self._server is not None:
            self._server.close()
            self._server = None
            if processes.adopts():
                self._orphans += self._forked.values()
