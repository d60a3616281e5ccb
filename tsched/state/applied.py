"""The applied fleet, its generation, each agent's lifecycle and operators' approvals: one durable record."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from tsched.model.errors import FatalError
from tsched.model.fleet import Fleet, Recipe, RecipeFile
from tsched.model.lifecycle import Lifecycle
from tsched.state.database import Database

Key = tuple[str, str]  # agent, queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What is in force. `generation` counts adoptions; `accepted` are revisions that an operator agreed to."""

    fleet: Fleet | None = None
    generation: int = 0
    lifecycles: Mapping[Key, Lifecycle] = field(default_factory=dict)
    accepted: frozenset[str] = frozenset()


def load(db: Database) -> Applied:
    """The record as it stands. Raises FatalError where it can't be read back."""
    try:
        stored = db.rows("SELECT generation, fleet FROM applied")
        lifecycles = [
            msgspec.json.decode(str(body), type=Lifecycle)
            for (body,) in db.rows("SELECT row FROM lifecycles ORDER BY agent, queue")
        ]
        accepted = frozenset(str(revision) for (revision,) in db.rows("SELECT revision FROM accepted"))
        generation, body = (int(str(stored[0][0])), str(stored[0][1])) if stored else (0, "")
        fleet = _with_texts(db, msgspec.json.decode(body, type=Fleet)) if body else None
    except (msgspec.DecodeError, KeyError) as error:
        raise FatalError(f"the applied record can't be read ({error}): was it written by another version?") from error
    return Applied(
        fleet=fleet, generation=generation, lifecycles={row.key: row for row in lifecycles}, accepted=accepted
    )


def adopt(db: Database, before: Applied, *, fleet: Fleet, lifecycles: Mapping[Key, Lifecycle]) -> Applied:
    """Make a fleet the applied one, in the caller's transaction. Approvals are used up."""
    with db.transaction():
        texts = {file.blob: file.text for recipe in fleet.recipes.values() for file in recipe.files}
        known = {str(blob) for (blob,) in db.rows("SELECT blob FROM blobs")}
        for blob in texts.keys() - known:
            db.execute("INSERT INTO blobs VALUES (?, ?)", (blob, texts[blob]))
        for blob in known - texts.keys():
            db.execute("DELETE FROM blobs WHERE blob = ?", (blob,))
        body = msgspec.json.encode(_without_texts(fleet)).decode()
        db.execute("INSERT OR REPLACE INTO applied VALUES (1, ?, ?)", (before.generation + 1, body))
        db.execute("DELETE FROM accepted")
        put_lifecycles(db, before, lifecycles)
    return Applied(fleet=fleet, generation=before.generation + 1, lifecycles=dict(lifecycles))


def put_lifecycles(db: Database, before: Applied, lifecycles: Mapping[Key, Lifecycle]) -> Applied:
    """Store the rows that changed, in the caller's transaction."""
    with db.transaction():
        for key in before.lifecycles.keys() - lifecycles.keys():
            db.execute("DELETE FROM lifecycles WHERE agent = ? AND queue = ?", key)
        for key, row in lifecycles.items():
            if before.lifecycles.get(key) != row:
                body = msgspec.json.encode(row).decode()
                db.execute("INSERT OR REPLACE INTO lifecycles VALUES (?, ?, ?)", (*key, body))
    return replace(before, lifecycles=dict(lifecycles))


def accept(db: Database, before: Applied, revision: str) -> Applied:
    """Remember that an operator agreed to a revision."""
    with db.transaction():
        db.execute("INSERT OR IGNORE INTO accepted VALUES (?)", (revision,))
    return replace(before, accepted=before.accepted | {revision})


def _without_texts(fleet: Fleet) -> Fleet:
    """The texts are kept once each, by blob, so that an adoption writes only what is new."""
    return replace(fleet, recipes={path: _texts(recipe, {}) for path, recipe in fleet.recipes.items()})


def _with_texts(db: Database, fleet: Fleet) -> Fleet:
    texts = {str(blob): str(text) for blob, text in db.rows("SELECT blob, text FROM blobs")}
    return replace(fleet, recipes={path: _texts(recipe, texts) for path, recipe in fleet.recipes.items()})


def _texts(recipe: Recipe, texts: Mapping[str, str]) -> Recipe:
    files = tuple(
        RecipeFile(path=file.path, blob=file.blob, text=texts[file.blob] if texts else "") for file in recipe.files
    )
    return replace(recipe, files=files)
