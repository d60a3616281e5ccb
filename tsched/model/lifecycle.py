"""Where an agent stands on its way from cordon to deletion (DESIGN section 5)."""

from dataclasses import dataclass
from enum import StrEnum

from tsched.model.fleet import DrainPolicy


class AgentState(StrEnum):
    ACTIVE = "active"
    CORDONED = "cordoned"
    DRAINING = "draining"
    STOPPING = "stopping"
    DRAINED = "drained"
    SUSPENDED = "suspended"  # shown in status only; never stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """The stored state of one agent in one queue. `since` is when it was cordoned (seconds since the epoch);
    the policy is frozen at that moment. An ACTIVE agent has since 0 and no policy.

    `again`: the agent was added back while STOPPING, so it starts anew when that has finished.
    """

    agent: str
    queue: str
    pool: str
    state: AgentState = AgentState.ACTIVE
    since: float = 0.0
    policy: DrainPolicy | None = None
    limit: int = 0
    revision: str = ""
    again: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return (self.agent, self.queue)

    @property
    def deadline(self) -> float | None:
        """Seconds since the epoch at which the drain ends by force; None where it never does."""
        return None if self.policy is None else self.since + self.policy.deadline
