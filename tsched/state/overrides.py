"""Local overrides as they are kept, and the orders that commands leave for the runner's next pass."""

from collections.abc import Iterable, Sequence

import msgspec

from tsched.model.override import Lift, Order, Override
from tsched.schedule.override import Overrides, ordered
from tsched.state import requests
from tsched.state.database import Database
from tsched.state.requests import Request

OVERRIDE, LIFT = "override", "lift"  # kinds of requests


def load(db: Database) -> Overrides:
    """What is in force, also by orders that the runner has not taken up yet. Raises FatalError where unreadable.

    So a stop holds from the moment that its command has written it, whoever reads.
    """
    return db.kept(_load, of=["overrides", "requests"])


def _load(db: Database) -> Overrides:
    with db.picture():  # a request is never seen neither pending nor followed
        return ordered(_stored(db), orders(db, requests.pending(db)))


def orders(db: Database, asked: Sequence[Request]) -> Sequence[Order]:
    """The orders among requests. Raises FatalError where one can't be read."""
    found: list[Order] = []
    for request in asked:
        if request.kind == OVERRIDE:
            found.append(db.decode(request.argument, Override, "an order"))
        elif request.kind == LIFT:
            found.append(db.decode(request.argument, Lift, "an order"))
    return found


def leave(db: Database, order: Order, *, time: float) -> None:
    """Leave an order for the runner. `time`: seconds since the epoch."""
    kind = OVERRIDE if isinstance(order, Override) else LIFT
    requests.insert(db, time=time, kind=kind, argument=msgspec.json.encode(order).decode(), author=order.by)


def keep(db: Database, overrides: Iterable[Override]) -> None:
    """Make these the ones in force, in the caller's transaction."""
    with db.transaction():
        db.execute("DELETE FROM overrides")
        for one in overrides:
            body = msgspec.json.encode(one).decode()
            db.execute("INSERT INTO overrides (kind, subject, body) VALUES (?, ?, ?)", (*one.key, body))


def _stored(db: Database) -> Overrides:
    rows = db.rows("SELECT body FROM overrides ORDER BY kind, subject")
    return tuple(db.decode(body, Override, "an override") for (body,) in rows)
