"""Leaves alone for a while who does not answer, and knows who was told. In memory: a new process asks anew."""

import time
from collections.abc import Callable

from tsched.schedule.outage import Outage, failed, rests, woken


class Patience:
    """With one other side: the remote, the task server, our own disk. `clock`: seconds; nobody sets it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.outage: Outage | None = None
        self._away: float | None = None

    def now(self) -> float:
        """Seconds on its clock."""
        return self.clock()

    def resting(self) -> Outage | None:
        """The outage, while it is too early to ask again."""
        return self.outage if rests(self.outage, self.clock()) else None

    def failed(self, words: str, *, began: float, after: float = 0.0) -> bool:
        """Note a try that failed, begun at a time of `now`. Whether a person has to be told."""
        now = self.clock()
        self.outage = failed(self.outage, words, began=began, now=now, after=after)
        return self.outage.told == now

    def answered(self) -> None:
        """Note an answer: an outage is over."""
        if self.outage is not None:
            self._away = self.clock() - self.outage.since
            self.outage = None

    def returned(self) -> float | None:
        """For how many seconds there was no answer, told once, when there is one again."""
        away, self._away = self._away, None
        return away

    def wake(self) -> None:
        """Ask at the next opportunity."""
        if self.outage is not None:
            self.outage = woken(self.outage, self.clock())
