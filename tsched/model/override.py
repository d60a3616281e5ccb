"""Local overrides: what an operator decided on this machine beside git, until it is taken back."""

from enum import StrEnum

from tsched.model.fleet import DrainPolicy, OnDeadline
from tsched.model.records import dataclass
from tsched.model.units import iso

FLEET = "fleet"  # the subject of a stop of everything


class OverrideKind(StrEnum):
    STOP = "stop"  # the fleet or a pool starts nothing new; runs go on, or are stopped too (`now`)
    DRAIN = "drain"  # an agent takes no new task; its runs end as its pool's drain policy says, or now
    KILL = "kill"  # a run is stopped, its task parked for a person
    REQUEUE = "requeue"  # a run is stopped, its task goes back uncharged


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One override. `subject`: fleet, pool/NAME, agent/NAME or run/ID. `since`: seconds since the epoch.

    `queue`: a stopped pool's, for which it holds whatever the pool is called. `policy`: of a drain, frozen when it
    was ordered. `now`: its runs are stopped at once.
    """

    kind: OverrideKind
    subject: str
    since: float
    by: str
    reason: str = ""
    now: bool = False
    queue: str = ""
    policy: DrainPolicy | None = None

    @property
    def key(self) -> tuple[OverrideKind, str]:
        return (self.kind, self.subject)

    @property
    def name(self) -> str:
        """The subject without its kind: the pool's, the agent's, the run's."""
        return self.subject.partition("/")[2]

    @property
    def stops_at(self) -> float | None:
        """When the runs that it covers are stopped (seconds since the epoch); None: never."""
        if self.now:
            return self.since
        if self.policy is None or self.policy.on_deadline is OnDeadline.WAIT:
            return None
        return self.since + self.policy.deadline

    @property
    def undo(self) -> str:
        """The command that takes it back; "" where nothing does."""
        match self.kind:
            case OverrideKind.STOP:
                return "tsched resume" if self.subject == FLEET else f"tsched resume --pool {self.name}"
            case OverrideKind.DRAIN:
                return f"tsched agent undrain {self.name}"
            case OverrideKind.KILL | OverrideKind.REQUEUE:
                return ""

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        how = ", runs too" if self.now and self.kind in (OverrideKind.STOP, OverrideKind.DRAIN) else ""
        return f"{self.kind} of {self.subject}{how} (by {self.by}, since {iso(self.since)}{why})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """An override taken back."""

    kind: OverrideKind
    subject: str
    by: str

    @property
    def key(self) -> tuple[OverrideKind, str]:
        return (self.kind, self.subject)


Order = Override | Lift
