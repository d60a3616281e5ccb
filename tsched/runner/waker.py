"""Has a pass run at once: the daemon's, or one in a process of its own where there is no daemon. One at a time."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

from tsched.executors.onepass import one_pass
from tsched.model.errors import TransientError, TschedError
from tsched.runner.folder import folder_of
from tsched.settings import Settings
from tsched.state import requests
from tsched.state.database import Database
from tsched.state.lock import holder
from tsched.state.wake import wake

TRIES = 5  # to have one wish seen by a pass
LOOK_AGAIN = 0.1  # seconds between two looks whether it was
PATIENCE = 60.0  # seconds that a pass under way may take before the runner is signalled again


class Waker:
    """A thread that sees to it that each wish is followed by a pass. Wishes that come during one are one more pass.

    A wish is a stored `sync` request: it is fulfilled when a pass has taken it, whoever ran that.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._folder = folder_of(settings)
        self._flags = flags_of(settings)
        self._say = say
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="waker")

    def __enter__(self) -> "Waker":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """A pass that was begun is waited for."""
        self._closing.set()
        self._wanted.set()
        self._thread.join()

    def want(self, author: str) -> None:
        """Wish for a pass, durably. Raises TransientError where the disk refuses."""
        self._folder.create()
        with closing(Database.open(self._folder.db)) as db:
            requests.insert(db, time=time.time(), kind="sync", author=author)
        self._wanted.set()

    def _work(self) -> None:
        while self._wanted.wait() and not self._closing.is_set():
            self._wanted.clear()
            try:
                self._fulfil()
            except TschedError as error:
                self._say(str(error))

    def _fulfil(self) -> None:
        """Have every wish of this moment taken by a pass. Raises TschedError where that can't be had."""
        last = self._last()
        for _ in range(TRIES):
            if self._taken(last) or self._closing.is_set():
                return
            pid = wake(self._folder)
            if pid is None:
                if one_pass(self._flags) > 1 and holder(self._folder) is None:
                    break  # it has said why, and would say it again
            else:
                self._await(last, pid)
        if not self._taken(last):
            raise TransientError("a pass was asked for, and none has run: see above, or `tsched run --once`")

    def _await(self, last: int, pid: int) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not self._taken(last) and holder(self._folder) == pid:
            if self._closing.wait(LOOK_AGAIN):
                return

    def _last(self) -> int:
        """The newest wish's number."""
        return max((one.id for one in self._pending()), default=0)

    def _taken(self, last: int) -> bool:
        return all(one.id > last for one in self._pending())

    def _pending(self) -> Sequence[requests.Request]:
        with closing(Database.beside(self._folder.db) or Database.empty()) as db:
            return requests.pending(db)


def flags_of(settings: Settings) -> Sequence[str]:
    """The global flags by which another process has these settings, in the same folder and environment."""
    env_file = [] if settings.env_file is None else ["--env-file", str(settings.env_file)]
    return [*env_file, "--base-path", str(settings.base_path)]
