"""The process that forks shims for its runner, as the runner sees it; see shim/forks.py for what it does."""

import errno
import os
import select
import sys
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from tsched.executors import processes
from tsched.executors.jobs import SHIM
from tsched.executors.processes import Process

ENDING = 1.0  # seconds that a killed server has to go
# What a fork writes its own over, so that /proc shows it as the shim that it is: see shim/forks.py.
SPARE = {"TSCHED_NO_RUN": "=" * 64}
ROOM = 64  # beyond the folder of all runs


class ForkServer:
    """The forking process, over two pipes. It ends with this one: then nobody writes to its standard input."""

    def __init__(self, room: str, environ: Mapping[str, str]) -> None:
        """`room`: an argument as long as any folder of a run. Raises OSError where it can't be started."""
        self.awaited: deque[str] = deque()  # run ids, in the order of the answers to come
        self.ready = False  # as far as it was heard: until then a Python of its own is there sooner
        self._heard = b""
        with ExitStack() as theirs, ExitStack() as ours:
            asked, self._ask = _pipe(theirs, ours)
            self._answers, answer = _pipe(ours, theirs)
            os.set_blocking(self._ask, False)
            os.set_blocking(self._answers, False)
            self.pid = spawn(
                ["serve", room],
                {**environ, **SPARE},
                (os.POSIX_SPAWN_DUP2, asked, 0),
                (os.POSIX_SPAWN_DUP2, answer, 1),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            )
            self.close = weakref.finalize(self, _end, self.pid, processes.look(self.pid), ours.pop_all())

    def ask(self, run_id: str, folder: Path) -> bool:
        """Ask for the shim of a run. False where it has hundreds to fork: hear of them first. Raises OSError."""
        question = os.fsencode(folder) + b"\0"
        if len(question) > select.PIPE_BUF:
            raise OSError(errno.ENAMETOOLONG, "it would not be written as a whole")
        try:
            os.write(self._ask, question)
        except BlockingIOError:
            return False
        self.awaited.append(run_id)
        return True

    def hear(self, seconds: float) -> Sequence[tuple[str, Process | None]]:
        """The answers that have come, waited for so long where there are none: each run's shim, None where it can't.

        Raises OSError where it has ended, or is silent for longer than that (0: it may be).
        """
        if seconds:
            poll = select.poll()
            poll.register(self._answers, select.POLLIN)
            if not poll.poll(seconds * 1000):
                raise TimeoutError
        try:
            data = os.read(self._answers, 1 << 16)
        except BlockingIOError:
            return ()
        if not data:
            raise BrokenPipeError
        *lines, self._heard = (self._heard + data).split(b"\n")
        if lines and not self.ready:
            self.ready = True
            del lines[0]
        return [(self.awaited.popleft(), _process(line)) for line in lines]


def _process(answer: bytes) -> Process | None:
    pid, start = map(int, answer.split())
    return Process(pid=pid, start=start, session=pid) if pid else None


def _pipe(read: ExitStack, write: ExitStack) -> tuple[int, int]:
    """A pipe whose ends are closed with these."""
    ends = os.pipe()
    for stack, end in zip((read, write), ends, strict=True):
        stack.callback(os.close, end)
    return ends


def _end(pid: int, process: Process | None, pipes: ExitStack) -> None:
    """`process`: what had that pid as it was started; where others collect our children it may be somebody else's."""
    pipes.close()
    if process is not None:
        processes.kill(process)
        processes.wait_gone([process], seconds=ENDING)
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def spawn(words: Sequence[str], environ: Mapping[str, str], *actions: tuple[object, ...]) -> int:
    """A Python with the shim's program, in a session of its own. Raises OSError."""
    command = [sys.executable, "-I", "-S", "-X", "utf8", str(SHIM), *words]
    return os.posix_spawn(sys.executable, command, environ, file_actions=actions, setsid=True, setsigmask=())
