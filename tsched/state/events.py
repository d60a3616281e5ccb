"""Events: history, one line each, written in the same transaction as what they tell of."""

from collections.abc import Callable, Sequence
from itertools import islice

import msgspec

from tsched.model.event import Event
from tsched.state.database import Database

KEPT = 100_000


def append(db: Database, events: Sequence[Event]) -> None:
    """Add events at the end; the oldest beyond KEPT are dropped now and then."""
    if not events:
        return
    with db.transaction():
        for event in events:
            last = db.execute(
                "INSERT INTO events (time, kind, subject, body) VALUES (?, ?, ?, ?)",
                (event.time, event.kind, event.subject, msgspec.json.encode(event).decode()),
            ).lastrowid
        if last is not None and last % 1000 < len(events):
            db.execute("DELETE FROM events WHERE id <= ?", (last - KEPT,))


def read(db: Database, *, after: int = 0, limit: int = 1000) -> tuple[tuple[int, Event], ...]:
    """Events with their numbers, oldest first, those after a number alone."""
    rows = db.rows("SELECT id, body FROM events WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
    return tuple((int(str(number)), db.decode(body, Event, "an event")) for number, body in rows)


def prune(db: Database, *, before: float) -> int:
    """Drop events from before a time (seconds since the epoch). Returns how many went."""
    with db.transaction():
        return db.execute("DELETE FROM events WHERE time < ?", (before,)).rowcount


def known(db: Database, kind: str, subject: str, *, since: float) -> bool:
    """Whether such an event was written after that time (seconds since the epoch)."""
    words = "SELECT 1 FROM events WHERE subject = ? AND kind = ? AND time > ? LIMIT 1"
    return bool(db.rows(words, (subject, kind, since)))


def newest(
    db: Database, limit: int, *, since: float = 0.0, wanted: Callable[[Event], bool] = lambda event: True
) -> tuple[tuple[int, Event], ...]:
    """The last events from a time on (seconds since the epoch) that are wanted, oldest of them first."""
    rows = db.execute("SELECT id, body FROM events WHERE time >= ? ORDER BY id DESC", (since,))
    found = ((int(str(number)), db.decode(body, Event, "an event")) for number, body in rows)
    return tuple(islice((one for one in found if wanted(one[1])), limit))[::-1]


def changes(db: Database, revision: str) -> tuple[Event, ...]:
    """What a revision changed when it was adopted, in order."""
    rows = db.rows(
        "SELECT body FROM events WHERE kind GLOB 'change.*' AND json_extract(body, '$.revision') = ? ORDER BY id",
        (revision,),
    )
    return tuple(db.decode(body, Event, "an event") for (body,) in rows)
