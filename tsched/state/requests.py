"""Requests: how a command changes the runner's mind without taking its lock."""

from collections.abc import Collection

from tsched.model.records import dataclass
from tsched.state.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`kind`: accept (argument: a full revision), sync, or an order of state/overrides.py (argument: JSON).

    `time` is seconds since the epoch."""

    id: int
    time: float
    kind: str
    argument: str
    author: str


def insert(db: Database, *, time: float, kind: str, argument: str = "", author: str = "") -> None:
    """Leave a request for the runner's next pass."""
    with db.transaction():
        db.execute(
            "INSERT INTO requests (time, kind, argument, author) VALUES (?, ?, ?, ?)", (time, kind, argument, author)
        )


def pending(db: Database) -> tuple[Request, ...]:
    """What is asked for, oldest first."""
    return db.kept(_pending, of=["requests"])


def _pending(db: Database) -> tuple[Request, ...]:
    rows = db.rows("SELECT id, time, kind, argument, author FROM requests ORDER BY id")
    return tuple(
        Request(id=int(str(a)), time=float(str(b)), kind=str(c), argument=str(d), author=str(e))
        for a, b, c, d, e in rows
    )


def done(db: Database, ids: Collection[int]) -> None:
    """Take requests that were carried out off the list."""
    with db.transaction():
        for number in ids:
            db.execute("DELETE FROM requests WHERE id = ?", (number,))
