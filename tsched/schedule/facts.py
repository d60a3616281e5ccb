"""What alerts are decided from: the samples that a pass takes of itself."""

from tsched.model.history import Sample
from tsched.model.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PassSample:
    """One pass: when it was, how many tasks were ready, how many runs it started, and how many went on.

    `free`: slots that were free before it started any.
    """

    time: float
    ready: int
    started: int
    running: int = 0
    free: int = 0

    @property
    def stuck(self) -> bool:
        """Whether nothing started though something could have: full slots are no fault."""
        return self.ready > 0 and self.started == 0 and (self.free > 0 or self.running == 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainSample:
    """An agent that drains a queue, its deadline (seconds since the epoch) and the runs it still has."""

    agent: str
    queue: str
    deadline: float | None
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The newest revision, where it is not in force. `how`: rejected or held; `since`: seconds since the epoch."""

    revision: str
    how: str
    why: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFacts:
    """What is known at one moment. `queues` None: the task server did not say, so nothing about queues changes;
    else every queue that holds tasks, those that nobody serves too.

    `served`: queues that an active agent with a slot to its limit serves, here or at another runner, and those of
    pools that git suspends: that is no fault. `passes`: the last ones, oldest first.
    `errors`: times of the last errors, at least as far back as the longest window. `remote_answered`: when the
    remote last answered, None: it did just now, or there is none. All times are seconds since the epoch.
    """

    queues: tuple[Sample, ...] | None = ()
    served: frozenset[str] = frozenset()
    passes: tuple[PassSample, ...] = ()
    errors: tuple[float, ...] = ()
    drains: tuple[DrainSample, ...] = ()
    refused: Refused | None = None
    remote_answered: float | None = None
