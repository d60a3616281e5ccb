"""The run's cgroup, where the kernel lets us have one."""

import errno
import os

from .files import attempt, complain, read_text

TYPE_CHECKING = False  # typing itself would slow the start
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Group:
    """The run's cgroup: what is born in it is found there, whatever it does. `path` is "" where there is none."""

    __slots__ = ("held", "path")

    def __init__(self, spec: "dict[str, Any]") -> None:
        self.path: str = spec.get("cgroup", "")
        self.held: list[str] = []  # limits that the kernel holds the group to

    def make(self, limits: "Sequence[dict[str, Any]]") -> None:
        """Make it, and set each limit that its controllers know: one whose first file takes."""
        if not self.path:
            return
        try:
            attempt(os.mkdir, self.path)
            if read_text(self.path + "/cgroup.type").strip() != "domain":
                raise OSError(errno.EOPNOTSUPP, "it is no domain")
        except OSError as error:
            complain(f"no cgroup {self.path}: {error}")
            self.path = ""
            return
        for limit in limits:
            done = [self.tell(name, text) for name, text in limit["files"].items()]
            if done and done[0]:
                self.held.append(limit["name"])

    def tell(self, name: str, text: str) -> bool:
        """Write to one of its files. Whether the kernel took it."""
        try:
            handle = os.open(f"{self.path}/{name}", os.O_WRONLY)
        except OSError:
            return False
        try:
            os.write(handle, text.encode())
        except OSError:
            return False
        finally:
            os.close(handle)
        return True

    def kill(self) -> None:
        """All of it at once, faster than it can fork."""
        if self.path:
            self.tell("cgroup.kill", "1")

    def starved(self) -> str:
        """That the kernel ended some of it for want of memory, and whose; "" where it did not."""
        try:
            words = read_text(self.path + "/memory.events").split() if self.path else []
        except OSError:
            return ""
        events = dict(zip(words[::2], words[1::2], strict=False))
        ended = events.get("oom_kill", "0")
        cause = "its memory limit was reached" if events.get("oom", "0") != "0" else "the machine had no memory left"
        return "" if ended == "0" else f"{cause} (processes that the kernel ended: {ended})"

    def remove(self) -> None:
        """With the groups that the run made in it."""
        if self.path:
            self.kill()
            for place, _, _ in os.walk(self.path, topdown=False):
                attempt(os.rmdir, place)
