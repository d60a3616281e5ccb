"""Circuit breakers: a recipe whose runs all fail is given a rest, then one run to prove itself."""

from dataclasses import replace

from tsched.model.records import dataclass
from tsched.model.run import Outcome

FAILURES = 5  # runs in a row without a success
TASKS = 2  # of so many tasks: one bad task is that task's matter
COOL_DOWN = 300.0  # seconds until the first try, doubled with each that fails
MOST = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """What is known of one recipe's failures. `content` names its texts, so that a mended one begins anew.

    `tasks`: of the failed runs, the first few. `until`: seconds since the epoch, 0 while it is closed.
    """

    recipe: str
    content: str
    failures: int = 0
    tasks: tuple[str, ...] = ()
    rests: int = 0
    until: float = 0.0

    @property
    def open(self) -> bool:
        """Whether it has tripped; from `until` on one run at a time may try."""
        return self.until > 0


def after(breaker: Breaker, outcome: Outcome, *, task_id: str, now: float) -> Breaker:
    """The breaker after a run. One that was interrupted, or began before the rest, says nothing new."""
    if outcome is Outcome.COMPLETE:
        return Breaker(recipe=breaker.recipe, content=breaker.content)
    if outcome not in (Outcome.FAILED, Outcome.UNPROVEN) or resting(breaker, now):
        return breaker
    tasks = tuple(dict.fromkeys((*breaker.tasks, task_id)))[:TASKS]
    failed = replace(breaker, failures=breaker.failures + 1, tasks=tasks)
    if failed.failures < FAILURES or len(tasks) < TASKS:
        return failed
    return replace(failed, rests=failed.rests + 1, until=now + min(MOST, COOL_DOWN * 2.0 ** min(failed.rests, 20)))


def allowed(breaker: Breaker | None, *, running: int, now: float) -> int | None:
    """How many more runs of the recipe may start, None: no bound. `running`: those that go on."""
    if breaker is None or not breaker.open:
        return None
    return 0 if resting(breaker, now) else max(0, 1 - running)


def resting(breaker: Breaker, now: float) -> bool:
    """Whether its rest goes on. None is longer than MOST: one that seems to be was reckoned by a clock ahead."""
    return now < breaker.until <= now + MOST
