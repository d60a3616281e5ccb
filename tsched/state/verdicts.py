"""Rejections remembered by content, and what the last pass saw."""

from collections.abc import Mapping
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


def put_report(db: Database, kind: type[T], report: T) -> None:
    """Store what the last pass saw: an object of JSON's kinds, which nobody changes from now on."""
    with db.transaction():
        db.execute("INSERT OR REPLACE INTO report VALUES (1, ?)", (msgspec.json.encode(report).decode(),))
        db.keep(report, _report, kind, of=["report"])


def get_report(db: Database, kind: type[T], default: T) -> T:
    """What the last pass saw; the default where there was none, or what another version wrote."""
    found = db.kept(_report, kind, of=["report"])
    return default if found is None else found


def _report(db: Database, kind: type[T]) -> T | None:
    with suppress(FatalError):
        for (body,) in db.rows("SELECT body FROM report"):
            return db.decode(body, kind, "the last report")
    return None
