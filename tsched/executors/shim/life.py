"""A run's life from its fence to its end, and the hook of a workspace that is about to be removed."""

import errno
import os
import time

from .bare import parsed, prctl, record, signal
from .children import Parent
from .files import attempt, complain, failpoint, read_text, write_atomically
from .kernel import read_boot_id
from .locks import try_lock
from .progress import Progress
from .stop import HEARD, TICK

TYPE_CHECKING = False  # typing itself would slow the start
if TYPE_CHECKING:
    from typing import Any

READING = 0.001  # seconds that a reader may hold a run's lock
LOST_THE_FENCE = 3  # exit status of a shim that came too late: another shim, or recovery, was first
PR_SET_CHILD_SUBREAPER = 36


class Shim(Parent):
    """One run from fence to end."""

    __slots__ = ("started_at",)

    def __init__(self, folder: str, spec: "dict[str, Any]") -> None:
        super().__init__(folder, spec)
        self.started_at = 0.0

    def run(self) -> "dict[str, object]":
        """Set up, start the agent, see it to its end. Returns the exit record."""
        spec = self.spec
        self.group.make(spec.get("limits", ()))
        problem = self.set_up() or self.hook("after_create") or self.hook("before_run")
        failpoint("set up")
        self.listen(0)
        self.look()
        if self.reason:
            return self.end("stopped")
        problem = problem or self.spawn(spec["argv"], spec["env"], spec["cwd"], agent=True, limited=True)
        if problem:
            return self.end("start-failed", detail=problem)
        self.running = True
        self.started_at = time.time()
        self.progress = Progress(spec, self.log)
        self.next_beat = 0.0  # the lease says so at once
        code = self.watch()
        unmet = "" if code or self.reason else self.unmet()
        return self.end("exited", code=code, detail=self.group.starved() if code else "", unmet=unmet)

    def end(
        self, reason: str, *, code: "int | None" = None, detail: str = "", unmet: str = ""
    ) -> "dict[str, object]":
        """The exit record, as model/run.py's RunExit. A reason to stop comes before the one given."""
        reason = self.reason or reason
        if reason == "timeout" and not detail:
            detail = f"it ran longer than max_runtime, {self.spec['max_runtime']:g} s"
        if reason == "stalled":
            detail = f"no output, no new process and no change in its folder for {self.spec['stall']:g} s"
        return {
            "run_id": self.spec["run_id"],
            "reason": reason,
            "started": self.running,
            "exit_code": code,
            "detail": detail,
            "unmet": unmet,
            "started_at": self.started_at,
            "ended_at": time.time(),
        }

    def finish(self, end: "dict[str, object]") -> None:
        """Record the end, however long the disk stays full, and only then let the lease go."""
        while True:
            try:
                write_atomically(os.path.join(self.folder, "exit.json"), record(end), durable=True)
                break
            except OSError as error:
                if not os.path.isdir(self.folder):
                    return
                complain(f"exit.json could not be written: {error}")
            self.lease.beat(running=False)
            time.sleep(TICK)  # not until a signal: by each try the kernel tells of a file that is written here
        if self.running and self.reason != "lease-gone":
            self.over = True
            self.aftermath("after_run")
        self.lease.release()


def fence(folder: str) -> bool:
    """Take the run's lock (held for life, it is the sign of it), then its one start. False: somebody was first."""
    fenced = os.path.join(folder, "started")
    try:
        lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CLOEXEC)
        while not try_lock(lock):  # readers that test it hold it for an instant: wait for them, not for another shim
            if os.path.exists(fenced):
                return False
            time.sleep(READING)
        failpoint("locked")
        started = os.open(fenced, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except (FileExistsError, FileNotFoundError):
        return False
    failpoint("fenced")
    with os.fdopen(started, "w") as file:
        file.write(record({"by": "shim", "pid": os.getpid(), "boot_id": read_boot_id()}))
    return True


def depart(shim: Shim) -> int:
    """The hook of an ended run's workspace that is about to be removed; `hooked` says that it had its chance."""
    lock = os.open(os.path.join(shim.folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not try_lock(lock) or os.path.exists(os.path.join(shim.folder, "hooked")):
        return LOST_THE_FENCE
    shim.over = True
    shim.group.make(shim.spec.get("limits", ()))
    try:
        shim.aftermath("before_remove")
    finally:
        shim.group.remove()
    write_atomically(os.path.join(shim.folder, "hooked"), "", durable=False)
    return 0


def main(folder: str, *, departing: bool = False) -> int:
    """See one run through, or its workspace's removal begin. Returns the exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM,))
    os.closerange(3, 4096)  # nothing of whoever started us may stay open in a run
    if os.getsid(0) != os.getpid():
        attempt(os.setsid)
    if prctl(PR_SET_CHILD_SUBREAPER, 1) != 0:
        raise OSError(errno.EINVAL, "this kernel has no child subreaper")
    spec = parsed(read_text(os.path.join(folder, "spec.json")))
    shim = Shim(folder, spec)
    if departing:
        return depart(shim)
    failpoint("begun")
    if not fence(folder):
        return LOST_THE_FENCE
    try:
        end = shim.run()
        failpoint("run over")
        shim.finish(end)
    finally:
        shim.group.remove()
    return 0
