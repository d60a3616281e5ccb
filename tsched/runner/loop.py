"""Once or for ever: when a cycle runs, and how signals reach it. Handlers only record; the loop acts."""

import os
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from tsched.model.errors import FatalError, TschedError, in_words
from tsched.model.units import about
from tsched.runner.cycle import Report, cycle
from tsched.runner.host import Host
from tsched.runner.patience import Patience
from tsched.state.lock import RunnerLock

LONGEST_SLEEP = 86_400.0  # seconds; the system takes no endless ones
SHORTEST_SLEEP = 0.05  # seconds: the lower bound of loop_interval (DESIGN section 6)


@dataclass(kw_only=True, slots=True)
class Wishes:
    """What signals have asked for since they were last looked at."""

    stop: bool = False
    interrupted: bool = False  # the stop was Ctrl-C
    cycle: bool = False

    def any(self) -> bool:
        """Whether there is something to do before the next interval."""
        return self.stop or self.cycle


def once(host: Host) -> Report:
    """One pass under the lock; another where it left work, or SIGHUP asked for one. Ctrl-C waits for its end."""
    with signals() as (wishes, _), RunnerLock(host.folder) as lock:
        report = cycle(host, lock)
        while (report.left or wishes.cycle) and not wishes.stop:
            wishes.cycle = False
            report = cycle(host, lock)
    if wishes.interrupted:
        raise KeyboardInterrupt
    return report


def daemon(host: Host) -> None:
    """Cycle until SIGTERM or SIGINT: the step under way is finished, runs are left alone. SIGHUP cycles at once."""
    with signals() as (wishes, wake), RunnerLock(host.folder) as lock:
        host.log.info(f"Scheduler daemon started: pid {os.getpid()}")
        broken = Patience()
        while not wishes.stop:
            if wishes.cycle:
                wishes.cycle = False
                host.wake()
            interval = _pass(host, lock, broken)
            if not wishes.any():
                wait(wake, interval)
        host.log.info("Scheduler daemon shutting down; runs go on")


def _pass(host: Host, lock: RunnerLock, broken: Patience) -> float:
    """One pass of the daemon, which survives what may pass by itself (a full disk, say). Returns seconds to sleep.

    While passes are broken off, fewer and fewer are tried, and it is said seldom.
    """
    began = broken.now()
    try:
        interval = cycle(host, lock).interval
    except FatalError:
        raise
    except Exception as error:
        words = in_words(error) if isinstance(error, TschedError | OSError) else f"{type(error).__name__}: {error}"
        if broken.failed(words, began=began):
            host.log.error(f"The pass was broken off and is tried again: {words}")
        outage = broken.resting()
        interval = max(host.settings.loop_interval or 0.0, outage.until - broken.now() if outage is not None else 0.0)
    else:
        broken.answered()
        away = broken.returned()
        if away is not None:
            host.log.info(f"Passes are whole again, after {about(away)}")
    return max(interval, SHORTEST_SLEEP)


@contextmanager
def signals() -> Iterator[tuple[Wishes, socket.socket]]:
    """SIGTERM, SIGINT and SIGHUP recorded, and a socket that becomes readable when one of them came."""
    wishes = Wishes()

    def stop(signum: int, frame: FrameType | None) -> None:
        wishes.stop = True
        wishes.interrupted = signum == signal.SIGINT

    def again(signum: int, frame: FrameType | None) -> None:
        wishes.cycle = True

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, again)
    old_fd = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield wishes, ours
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()
        theirs.close()


def wait(wake: socket.socket, seconds: float) -> None:
    """Sleep, but not through a signal, nor through one that came just before."""
    select.select([wake], [], [], min(seconds, LONGEST_SLEEP))
    try:
        while wake.recv(4096):
            pass
    except BlockingIOError:
        pass
