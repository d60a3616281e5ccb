"""The objects of one kind in a namespace as they are now: one list, then a watch that tells what changes."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from tsched.executors.kubernetes.api import SILENCE, Api
from tsched.executors.kubernetes.job import JSON, mapping
from tsched.executors.kubernetes.words import run_of
from tsched.model.errors import TransientError

SPELL = 100  # seconds of one watch, fewer than SILENCE; then the server ends it, and the next goes on from there
RENEWED = 1800.0  # seconds after which all is listed anew, whatever the watch has told
REMEMBERED = 1000  # objects that are gone, as they were last


class View:
    """A picture that is looked at without a request for as long as a watch keeps it up to date.

    A watch that ends otherwise than by its time, or whose place in history is gone, or that has been silent for too
    long, is given up: the next look lists anew, and may begin another.
    """

    def __init__(self, api: Api, kind: str, selector: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._kind, self._selector, self._clock = api, kind, selector, clock
        self._lock = threading.Lock()
        self._objects: dict[str, JSON] = {}  # by name
        self._gone: dict[str, JSON] = {}
        self._thread: threading.Thread | None = None  # that keeps it up to date
        self._turn = 0  # of the newest list: what an older watch still tells is left alone
        self._heard = self._listed = 0.0

    def look(self, *, watch: bool) -> Mapping[str, JSON]:
        """What there is, by name. `watch`: have it kept up to date from now on. Raises TransientError."""
        if not self._kept():
            found, version = self._api.list(self._kind, self._selector)
            self._renew({name_in(one): one for one in found})
            if watch:
                self._thread = threading.Thread(target=self._follow, args=(self._turn, version), daemon=True)
                self._thread.start()
        with self._lock:
            return dict(self._objects)

    def last(self, run_id: str) -> JSON | None:
        """A run's object that is gone, as it was seen last."""
        with self._lock:
            return next((one for one in reversed(self._gone.values()) if run_of(one) == run_id), None)

    def put(self, one: JSON) -> None:
        """What was just made: it may be a moment until a watch tells of it."""
        with self._lock:
            self._objects.setdefault(name_in(one), one)

    def _kept(self) -> bool:
        now = self._clock()
        if self._thread is None or not self._thread.is_alive():
            return False
        return now - self._heard < SPELL + SILENCE and now - self._listed < RENEWED

    def _renew(self, found: dict[str, JSON]) -> None:
        with self._lock:
            self._turn += 1
            self._remember(one for name, one in self._objects.items() if name not in found)
            self._objects = found
        self._heard = self._listed = self._clock()

    def _remember(self, gone: Iterable[JSON]) -> None:
        self._gone |= {name_in(one): one for one in gone}
        while len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def _follow(self, turn: int, version: str) -> None:
        """Watch after watch, until one ends otherwise than by its time."""
        while version and turn == self._turn:
            try:
                for change, one in self._api.watch(self._kind, self._selector, version, seconds=SPELL):
                    version = str(mapping(one.get("metadata")).get("resourceVersion") or version)
                    if not self._take(turn, change, one):
                        return
                self._heard = self._clock()
            except TransientError:  # also: GoneError
                return

    def _take(self, turn: int, change: str, one: JSON) -> bool:
        with self._lock:
            if turn != self._turn:
                return False
            self._heard = self._clock()
            if change in ("ADDED", "MODIFIED"):
                self._objects[name_in(one)] = one
            elif change == "DELETED":
                self._objects.pop(name_in(one), None)
                self._remember([one])
        return True


def name_in(value: JSON) -> str:
    """An object's name."""
    return str(mapping(value.get("metadata")).get("name", ""))
