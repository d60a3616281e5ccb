"""A reason why a task starts or does not: one link of the chain that `tsched why` shows."""

from enum import StrEnum

from tsched.model.records import dataclass


class Link(StrEnum):
    """What a reason is about, from the revision down."""

    REVISION = "revision"
    HALTED = "halted"
    STATUS = "status"
    CLAIM = "claim"
    BLOCKED = "blocked"
    BACKOFF = "backoff"
    QUEUE = "queue"
    ASSIGNEE = "assignee"
    POOL = "pool"
    AGENTS = "agents"
    LIMIT = "limit"
    SLOTS = "slots"
    BREAKER = "breaker"
    FLOOR = "floor"
    POOL_CAP = "pool_cap"
    FLEET_CAP = "fleet_cap"
    SPAWN = "spawn"
    TURN = "turn"
    TASKS = "tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One link. `holds`: it holds the task (or queue) back. `mend`: what helps, where it does; "": nothing need."""

    kind: Link
    holds: bool
    words: str
    mend: str = ""
