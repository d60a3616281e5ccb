"""Alerts that hold, and what has yet to be told of them: both in the transaction of what they tell of."""

from collections.abc import Iterable

import msgspec

from tsched.model.alert import Alert, AlertTransition
from tsched.model.records import dataclass
from tsched.state.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One transition for one sink. `not_before`: seconds since the epoch; `tries`: those that failed."""

    id: int
    sink: str
    told: AlertTransition
    tries: int
    not_before: float


def load(db: Database) -> tuple[Alert, ...]:
    """Those that hold, pending ones too. Raises FatalError where one can't be read back."""
    return db.kept(_load, of=["alerts"])


def _load(db: Database) -> tuple[Alert, ...]:
    return tuple(db.decode(body, Alert, "an alert") for (body,) in db.rows("SELECT body FROM alerts ORDER BY rowid"))


def put(db: Database, before: Iterable[Alert], after: Iterable[Alert]) -> None:
    """Store what changed, in the open transaction."""
    known = {alert.fingerprint: alert for alert in before}
    wanted = {alert.fingerprint: alert for alert in after}
    for gone in known.keys() - wanted.keys():
        db.execute("DELETE FROM alerts WHERE fingerprint = ?", (gone,))
    for fingerprint, alert in wanted.items():
        if known.get(fingerprint) != alert:
            body = msgspec.json.encode(alert).decode()
            db.execute("INSERT OR REPLACE INTO alerts (fingerprint, body) VALUES (?, ?)", (fingerprint, body))


def post(db: Database, sink: str, told: AlertTransition) -> None:
    """Leave a message to be delivered, in the open transaction."""
    db.execute("INSERT INTO outbox (sink, body) VALUES (?, ?)", (sink, msgspec.json.encode(told).decode()))


def waiting(db: Database) -> tuple[Message, ...]:
    """Messages that are not delivered yet, oldest first."""
    return db.kept(_waiting, of=["outbox"])


def _waiting(db: Database) -> tuple[Message, ...]:
    rows = db.rows("SELECT id, sink, body, tries, not_before FROM outbox ORDER BY id")
    return tuple(
        Message(
            id=int(str(number)),
            sink=str(sink),
            told=db.decode(body, AlertTransition, "an alert's message"),
            tries=int(str(tries)),
            not_before=float(str(not_before)),
        )
        for number, sink, body, tries, not_before in rows
    )


def delivered(db: Database, message: Message) -> None:
    """Take a message off the list."""
    with db.transaction():
        db.execute("DELETE FROM outbox WHERE id = ?", (message.id,))


def failed(db: Database, message: Message, *, not_before: float) -> None:
    """Try it again, not before a time (seconds since the epoch)."""
    with db.transaction():
        db.execute("UPDATE outbox SET tries = tries + 1, not_before = ? WHERE id = ?", (not_before, message.id))
