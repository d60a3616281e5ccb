"""Processes whose end the kernel tells: one question for all of them, however many there are."""

import os
import resource
import select
import weakref
from collections.abc import Iterator

SHARE = 4  # of the descriptors that this process may have: this part at most is used here


class Watch:
    """Living processes by name. A name that is in it belongs to a process that had not ended at the last `ended`.

    Where the kernel has no pidfd, or this process may have few descriptors, nothing is watched, and `add` says so.
    """

    def __init__(self) -> None:
        self._most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // SHARE
        self._names: dict[int, str] = {}  # by handle
        self._handles: dict[str, int] = {}
        self._all: frozenset[str] | None = None
        self._poll: select.epoll | None = None
        weakref.finalize(self, _close_all, self._names)

    def __contains__(self, name: str) -> bool:
        return name in self._handles

    @property
    def names(self) -> frozenset[str]:
        """All that are watched: the same object for as long as they are the same."""
        if self._all is None:
            self._all = frozenset(self._handles)
        return self._all

    def add(self, name: str, pid: int) -> bool:
        """Watch a process. Whether it is watched now; who asks then has to see that the pid is still its own."""
        if len(self._names) >= self._most or name in self._handles:
            return False
        try:
            self._poll = self._poll or select.epoll()
            handle = os.pidfd_open(pid)
        except OSError:
            return False
        self._names[handle], self._handles[name], self._all = name, handle, None
        self._poll.register(handle, select.EPOLLIN)
        return True

    def drop(self, name: str) -> None:
        """Watch it no more."""
        handle = self._handles.pop(name, None)
        if handle is not None:
            del self._names[handle]
            self._all = None
            os.close(handle)  # which takes it out of the poll too: nobody else has a copy

    def ended(self) -> Iterator[str]:
        """The names of those that have ended since, which are watched no more."""
        if self._poll is None or not self._names:
            return
        for handle, _ in self._poll.poll(0, maxevents=len(self._names)):
            name = self._names[handle]
            self.drop(name)
            yield name


def _close_all(handles: dict[int, str]) -> None:
    for handle in handles:
        os.close(handle)
