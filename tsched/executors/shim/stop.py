"""A run that may have to stop: its heartbeat, the reasons to stop, and how all of it is ended in time."""

import os
import time

from .bare import parsed, signal
from .files import failpoint, read_text
from .group import Group
from .kernel import descendants, send, since_boot, tells_of_files
from .lease import SILENT, Lease
from .log import Log

TYPE_CHECKING = False  # typing itself would slow the start
if TYPE_CHECKING:
    from typing import Any

    from .progress import Progress

TICK = 1.0  # seconds between two looks at stop requests
HALF = 0.5  # seconds that one may take to be written: read half, it would say something else
SELDOM = 15.0  # as TICK, where the kernel tells of each
KILL_EVERY = 0.05  # seconds between two rounds of KILL
PLENTY = 1 << 15  # bytes: where so much has come, more is expected at once
NAP = 0.02  # seconds from one piece of output to the next look for more: small pieces wake nobody one by one
CALLS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
HEARD = (*CALLS, signal.SIGIO)  # the last: there is output
REQUESTS = ("drain", "stopped", "cancelled", "timeout")  # reasons that a stop request may carry


class Stoppable:
    """`reason` is why it is being stopped, "" while it isn't."""

    __slots__ = (
        *("every", "folder", "give_up", "group", "kill_at", "lease", "log"),
        *("next_beat", "odd_since", "over", "progress", "reason", "running", "spec", "waits"),
    )

    def __init__(self, folder: str, spec: "dict[str, Any]") -> None:
        self.folder = folder
        self.spec = spec
        self.lease = Lease(spec)
        self.log = Log(spec)
        self.group = Group(spec)
        self.reason = ""
        self.running = False  # the agent has been started
        self.progress: Progress | None = None  # of the agent, once it runs
        self.over = False  # the agent has ended by itself: from then on nothing stops it any more
        self.next_beat = 0.0
        self.give_up: float = since_boot() + spec["max_runtime"]
        self.kill_at: float | None = None
        self.waits = False  # there is a stop request whose time has not come, or which is being written
        self.odd_since: float | None = None  # there is one that can't be read
        here = not spec.get("elsewhere") and tells_of_files(folder)  # no kernel tells what other machines write
        self.every = SELDOM if here else TICK

    def look(self) -> None:
        """Find a reason to stop, unless there is one already, or the agent has ended."""
        if self.reason or self.over:
            return
        if not self.beat():
            self.stop("lease-gone")
        elif self.lease.alarm and since_boot() - self.lease.reached > SILENT * self.spec["heartbeat"]:
            self.stop("lease-gone")  # the runner will soon take us for dead
        elif since_boot() >= self.give_up:
            self.stop("timeout")
        elif reason := self.request():
            self.stop(reason)
        elif self.progress is not None and self.progress.stalled():
            self.stop("stalled")

    def beat(self) -> bool:
        """Heartbeat, where one is due. False where it found the lease gone or another run's."""
        now = since_boot()
        if now < self.next_beat:
            return True
        self.next_beat = now + self.spec["heartbeat"]
        return self.lease.beat(running=self.running)

    def request(self) -> str:
        """The reason of a stop request whose time has come. From the rename on it can't be recalled."""
        path = os.path.join(self.folder, "stop")
        odd_since, self.odd_since, self.waits = self.odd_since, None, False
        try:
            text = read_text(path)
        except OSError:
            return ""
        reason = "stopped"
        try:
            asked = parsed(text)
            if time.time() < float(asked["at"]):
                self.waits = True
                return ""
            reason = asked["reason"] if asked["reason"] in REQUESTS else reason
        except (ValueError, TypeError, KeyError):  # made by hand, and plain enough as it is; or half written
            now = since_boot()
            self.odd_since = now if odd_since is None else odd_since
            if now < self.odd_since + HALF:
                self.waits = True
                return ""
        try:
            failpoint("to stop")
            os.rename(path, os.path.join(self.folder, "stopping"))
            failpoint("stopping")
        except OSError:
            return ""  # recalled in this very moment
        return reason

    def stop(self, reason: str) -> None:
        """Begin to stop the run: TERM now, KILL after stop_grace. The first reason stands."""
        if not self.reason and not self.over:
            self.reason = reason
            self.terminate(self.spec["stop_grace"])

    def terminate(self, grace: float) -> None:
        self.kill_at = since_boot() + grace
        self.signal_all(signal.SIGTERM)
        self.signal_all(signal.SIGCONT)  # a stopped process could not act on TERM

    def kill_or_pause(self, now: float) -> float:
        """KILL what has outlived its grace. Returns the seconds until there is something to do again."""
        if self.kill_at is None:
            rest = TICK if self.waits or self.over else min(self.every, self.give_up - now)
            if self.progress is not None and not self.over:  # of an ended agent nobody looks any more
                rest = min(rest, self.progress.due() - now)
            return max(0.0, min(rest, self.next_beat - now))
        if now < self.kill_at:
            return max(0.0, min(TICK, self.next_beat - now, self.kill_at - now))
        self.signal_all(signal.SIGKILL)
        self.group.kill()
        return KILL_EVERY if now < self.kill_at + 2 else TICK  # stuck in the kernel: wait for it without haste

    def signal_all(self, number: int) -> None:
        for pid, start in descendants():
            send(pid, start, number)

    def listen(self, seconds: float) -> None:
        """Take in output, then sleep until a signal or for so long.

        TERM and INT stop the run; HUP is the terminal's, not ours. After some output the next is not waited for.
        """
        taken = self.log.drain()
        if taken >= PLENTY:
            heard = signal.sigtimedwait(CALLS, 0)
        else:
            heard = signal.sigtimedwait(CALLS if taken else HEARD, min(seconds, NAP) if taken else seconds)
        if heard is not None and heard.si_signo in (signal.SIGTERM, signal.SIGINT):
            self.stop("stopped")
