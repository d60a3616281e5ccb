"""A real runner whose passes are made in this very process, over a real remote, with real shims and agents."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tests.e2e.world import World, pool, until
from tsched.model.run import Run
from tsched.observe.status import NOTHING_SEEN, Report
from tsched.runner import loop
from tsched.runner.cycle import cycle
from tsched.runner.host import Host, open_host
from tsched.runner.patience import Patience
from tsched.settings import load
from tsched.state import verdicts
from tsched.state.lock import RunnerLock

T = TypeVar("T")


class Runner:
    """The runner of a world's machine. `shift`: seconds that its clock is wrong by."""

    def __init__(self, world: World, host: Host, lock: RunnerLock, echo: io.StringIO) -> None:
        self.world = world
        self.host = host
        self.shift = 0.0
        self._lock = lock
        self._echo = echo
        host.clock = lambda: time.time() + self.shift

    def once(self) -> str:
        """One pass; what it said, without the routine."""
        before = self._echo.tell()
        cycle(self.host, self._lock)
        return self.said(before)

    def daemons(self, broken: Patience) -> float:
        """One pass as the daemon makes it. Returns seconds until the next."""
        return loop._pass(self.host, self._lock, broken)

    def said(self, since: int = 0) -> str:
        """The warnings and errors, and the news, since a place in the echo."""
        lines = self._echo.getvalue()[since:].splitlines()
        return "\n".join(line.partition("|")[2] for line in lines)

    def until(self, seen: Callable[[], T], what: str) -> T:
        """Make passes until it is so."""

        def after_a_pass() -> T:
            self.once()
            return seen()

        return until(after_a_pass, what)

    def runs(self) -> list[Run]:
        """The runs that there is a record of, by id."""
        executor = self.host.executor
        return [run for run_id in sorted(executor.poll()) if (run := executor.run(run_id)) is not None]

    def report(self) -> Report:
        """What `tsched status` goes by."""
        return verdicts.get_report(self.host.db, Report, NOTHING_SEEN)

    def ready(self) -> tuple[str, str]:
        """The condition Ready: its reason and message."""
        one = next(one for one in self.report()["conditions"] if one["type"] == "Ready")
        return one["reason"], one["message"]


@contextmanager
def runner(world: World, **environ: str) -> Iterator[Runner]:
    """Holds the state folder's lock until the end."""
    echo = io.StringIO()
    host = open_host(load(environ={**world.environ, **environ}, cwd=world.root), echo=echo)
    try:
        with RunnerLock(host.folder) as lock:
            yield Runner(world, host, lock, echo)
    finally:
        host.close()


def faults(said: str) -> list[str]:
    """The lines that tell of trouble; that a recipe is used by no agent is none."""
    lines = [line for line in said.splitlines() if line.startswith(("ERROR", "WARNING"))]
    return [line for line in lines if "TS310" not in line]


__all__ = ["Runner", "World", "faults", "pool", "runner", "until"]
