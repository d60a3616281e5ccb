"""Where an agent stands on its way from cordon to deletion (DESIGN section 5)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

from tsched.model.fleet import DrainPolicy
from tsched.model.records import dataclass

Key = tuple[str, str]  # agent, queue


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
    def key(self) -> Key:
        return (self.agent, self.queue)

    @property
    def deadline(self) -> float | None:
        """Seconds since the epoch at which the drain ends by force; None where it never does."""
        return None if self.policy is None else self.since + self.policy.deadline


class Lifecycles(Mapping[Key, Lifecycle]):
    """The rows of all agents, never changed.

    `queues`: those of each queue by agent; the same object in what was `replaced` where that queue was left as it is.
    To go through ten thousand rows for the sake of one would cost what the fleet is, not what a revision changes.
    """

    __slots__ = ("_leaving", "_number", "queues")

    def __init__(self, rows: Iterable[Lifecycle] = ()) -> None:
        queues: dict[str, dict[str, Lifecycle]] = {}
        for row in rows:
            queues.setdefault(row.queue, {})[row.agent] = row
        self.queues: Mapping[str, Mapping[str, Lifecycle]] = {}
        self._leaving: Mapping[str, Sequence[Lifecycle]] = {}  # of the queues that have such rows
        self._number = 0
        self._put(queues)

    @classmethod
    def of(cls, rows: Mapping[Key, Lifecycle]) -> "Lifecycles":
        """Rows by their own keys as such a mapping."""
        return rows if isinstance(rows, cls) else cls(rows.values())

    def replaced(self, queues: Mapping[str, Mapping[str, Lifecycle]]) -> "Lifecycles":
        """With these as all rows of those queues."""
        after = Lifecycles()
        after.queues, after._leaving, after._number = self.queues, self._leaving, self._number
        after._put(queues)
        return after

    def _put(self, queues: Mapping[str, Mapping[str, Lifecycle]]) -> None:
        every, leaving = dict(self.queues), dict(self._leaving)
        for queue, rows in queues.items():
            self._number += len(rows) - len(every.pop(queue, ()))
            leaving.pop(queue, None)
            if rows:
                every[queue] = rows
            if gone := [row for row in rows.values() if row.state is not AgentState.ACTIVE]:
                leaving[queue] = gone
        self.queues, self._leaving = every, leaving

    @property
    def leaving(self) -> Sequence[Lifecycle]:
        """The rows that are not active."""
        return [row for rows in self._leaving.values() for row in rows]

    def leaving_in(self, queue: str) -> Sequence[Lifecycle]:
        """The same of one queue."""
        return self._leaving.get(queue, ())

    @property
    def admitting(self) -> frozenset[str]:
        """Queues with an agent that takes work, or will again."""
        return frozenset(
            queue
            for queue, rows in self.queues.items()
            if len(rows) > sum(not row.again for row in self.leaving_in(queue))
        )

    def __getitem__(self, key: Key) -> Lifecycle:
        agent, queue = key
        return self.queues[queue][agent]

    def __iter__(self) -> Iterator[Key]:
        return (row.key for rows in self.queues.values() for row in rows.values())

    def __len__(self) -> int:
        return self._number
