"""The run's lease, as its shim alone rewrites it."""

import os
import time

from .bare import parsed, record, signal
from .files import attempt, complain, failpoint, stamp, write_atomically
from .kernel import since_boot

TYPE_CHECKING = False  # typing itself would slow the start
if TYPE_CHECKING:
    from typing import Any

SILENT = 4  # heartbeats that a shim on another machine may miss before it ends its run: DESIGN section 4


class Lease:
    """The run's own lease and the link beside it. It is only ever written where it stands and is this run's."""

    __slots__ = ("alarm", "fields", "link", "path", "reached", "run_id", "written")

    def __init__(self, spec: "dict[str, Any]") -> None:
        self.path: str = spec["lease"]
        self.link: str = spec["link"]
        self.run_id: str = spec["run_id"]
        self.fields: dict[str, object] = spec["lease_fields"]
        self.written = False
        self.reached = since_boot()  # when it was last seen
        elsewhere = spec.get("elsewhere", False)
        self.alarm: float = SILENT * spec["heartbeat"] + spec["stop_grace"] + 10 if elsewhere else 0.0

    def standing(self, *, touch: bool = False) -> str:
        """`ours`, `torn` (there, but unreadable), `gone`, or `foreign` (another run's).

        `touch` sets the time of that very file where it is ours, never of one that has taken its place since.
        """
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                owner = parsed(file.read()).get("run_id")
                if touch and owner == self.run_id:
                    os.utime(file.fileno())
        except FileNotFoundError:
            return "gone"
        except (OSError, ValueError, AttributeError):
            return "torn"
        return "ours" if owner == self.run_id else "foreign"

    def write(self) -> None:
        """As `running`, its link first: who reads that it runs finds it by its agent's name too.

        A full disk is no reason to end a run: the next heartbeat tries again.
        """
        self.fields["heartbeat"] = stamp(time.time())
        attempt(self._place_link)
        try:
            write_atomically(self.path, record(self.fields, indent="  ") + "\n", durable=True)
            self.written = True
        except OSError as error:
            complain(f"the lease could not be written: {error}")

    def _place_link(self) -> None:
        target = os.path.basename(self.path)
        try:
            os.symlink(target, self.link)
        except FileExistsError:
            if not os.path.islink(self.link) or os.readlink(self.link) != target:
                os.unlink(self.link)
                os.symlink(target, self.link)

    def beat(self, *, running: bool) -> bool:
        """Set the lease's time. False where it is gone or another's: then this run may never touch it again."""
        standing = self.standing(touch=True)
        if standing in ("gone", "foreign"):
            return False
        if standing == "ours":
            self.reached = since_boot()
            if self.alarm:  # a file system that hangs would hang us too: then the kernel ends us, and so the agent
                signal.setitimer(signal.ITIMER_REAL, self.alarm)
        if running and (standing == "torn" or not self.written):
            self.write()
        return True

    def release(self) -> None:
        """The link first, then the lease."""
        standing = self.standing()
        if standing == "foreign":
            return
        for what, path in (("link", self.link), ("lease", self.path)):
            failpoint(f"{what} to be removed")
            attempt(os.unlink, path)
        failpoint("lease removed")
