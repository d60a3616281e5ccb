"""Rejections remembered by content, and what the last pass saw."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec

from tsched.model.diagnostic import Diagnostic
from tsched.model.errors import FatalError
from tsched.state.database import Database

KEPT = 100  # rejections
T = TypeVar("T")


def remembered(db: Database) -> Mapping[str, tuple[Diagnostic, ...]]:
    """Diagnostics of rejected contents, by content key. One that can't be read is forgotten: it is checked again."""
    return db.kept(_remembered, of=["rejected"])


def _remembered(db: Database) -> Mapping[str, tuple[Diagnostic, ...]]:
    found: dict[str, tuple[Diagnostic, ...]] = {}
    for key, body in db.rows("SELECT content_key, diagnostics FROM rejected"):
        with suppress(FatalError):
            found[str(key)] = db.decode(body, tuple[Diagnostic, ...], "a rejection")
    return found


def remember(db: Database, content_key: str, diagnostics: tuple[Diagnostic, ...], *, time: float) -> None:
    """Keep why a content was rejected, so that it is not checked again each pass."""
    with db.transaction():
        body = msgspec.json.encode(diagnostics).decode()
        db.execute("INSERT OR REPLACE INTO rejected VALUES (?, ?, ?)", (content_key, time, body))
        newest = "SELECT content_key FROM rejected ORDER BY rowid DESC LIMIT ?"  # clocks jump, row numbers don't
        db.execute(f"DELETE FROM rejected WHERE content_key NOT IN ({newest})", (KEPT,))


def put_report(db: Database, report: object) -> None:
    """Store what the last pass saw (a JSON object)."""
    with db.transaction():
        db.execute("INSERT OR REPLACE INTO report VALUES (1, ?)", (msgspec.json.encode(report).decode(),))


def get_report(db: Database, kind: type[T], default: T) -> T:
    """What the last pass saw; the default where there was none, or what another version wrote."""
    rows = db.kept(_report, of=["report"])
    try:
        return db.decode(rows[0][0], kind, "the last report") if rows else default
    except FatalError:
        return default


def _report(db: Database) -> Sequence[tuple[object, ...]]:
    return db.rows("SELECT body FROM report")
