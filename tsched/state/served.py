"""Whom the applied fleet has in each queue: all that a command needs which adds a task and warns of a slip."""

from collections.abc import Mapping

from tsched.model.records import dataclass
from tsched.state.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class _Agent:
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pool:
    queue: str
    agents: tuple[_Agent, ...]


def agents_by_queue(db: Database) -> Mapping[str, tuple[str, ...]] | None:
    """The applied fleet's agents by the queue they serve, read without its models. None where no fleet is applied.

    Raises FatalError where the record can't be read.
    """
    with db.picture():
        if not db.rows("SELECT 1 FROM applied"):
            return None
        stored = db.rows("SELECT name, body FROM pools ORDER BY name")
    found: dict[str, tuple[str, ...]] = {}
    for name, body in stored:
        pool = db.decode(body, _Pool, f"the applied pool {name}")
        if pool.agents:  # several pools may serve one queue
            found[pool.queue] = (*found.get(pool.queue, ()), *(agent.name for agent in pool.agents))
    return found
