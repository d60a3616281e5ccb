"""Which runs there are and whether each lives: one is looked at by itself only where the kernel would not tell."""

from collections.abc import Callable, Mapping, Set
from pathlib import Path

from tsched.executors.executor import Liveness
from tsched.executors.runfolder import SAFE
from tsched.executors.watch import Watch
from tsched.model.kept import Kept
from tsched.stamp import Listing


class Survey:
    """The folder of all runs, poll after poll."""

    def __init__(self, runs: Path) -> None:
        self.watched = Watch()  # shims that live
        self.alive: frozenset[str] = frozenset()  # by the newest poll
        self.lost: frozenset[str] = frozenset()  # the same
        self.gone: frozenset[str] = frozenset()  # were there at the poll before
        self._listing = Listing(runs)
        self._tried: Set[str] = frozenset()  # to have it told when they end; what can't be watched is looked at
        self._answers = Kept()
        self._polled: frozenset[str] = frozenset()  # what was in the folder of runs
        self._found: Mapping[str, Liveness] = {}  # and what that poll said

    def poll(self, *, look: Callable[[str], Liveness], watch: Callable[[str], bool]) -> Mapping[str, Liveness]:
        """Every run, in order: the same object for as long as all is as it was.

        `look` says how one run is; `watch` has the kernel tell of the end of one that lives, and returns False where
        it is too soon for that.
        """
        names, unknown = self._listing.names(), self.unwatched()
        self.gone = self._polled - names if names is not self._polled else frozenset()
        if names is self._polled and not unknown and len(self.alive) == len(self._found):
            return self._found
        found = {
            name: Liveness.ALIVE if name not in unknown else look(name)
            for name in sorted(names)
            if name not in unknown or SAFE.fullmatch(name)
        }
        self.lost = frozenset(name for name, state in found.items() if state is Liveness.LOST)
        alive = frozenset(name for name, state in found.items() if state is Liveness.ALIVE)
        due = (alive & self.alive) - self._tried  # seen twice: to look once alone costs less than this
        self._tried = (self._tried | {name for name in due if watch(name)}) & found.keys()
        self.alive = alive
        self._polled, self._found = names, found
        return found

    def unwatched(self) -> frozenset[str]:
        """What is in the folder of runs and has to be looked at."""
        return self._answers(_but, self._listing.names(), self.watched.names)


def _but(names: frozenset[str], known: frozenset[str]) -> frozenset[str]:
    return names - known
