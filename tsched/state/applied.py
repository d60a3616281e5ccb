"""The applied fleet, its generation, each agent's lifecycle and operators' approvals: one durable record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace

import msgspec

from tsched.model.errors import FatalError
from tsched.model.fleet import Fleet, Pool, Recipe
from tsched.model.lifecycle import Key, Lifecycle, Lifecycles
from tsched.model.records import dataclass
from tsched.state.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What is in force. `generation` counts adoptions; `accepted` are revisions that an operator agreed to."""

    fleet: Fleet | None = None
    generation: int = 0
    lifecycles: Lifecycles = field(default_factory=Lifecycles)
    accepted: frozenset[str] = frozenset()


def load(db: Database) -> Applied:
    """The record as it stands. Raises FatalError where it can't be read back whole.

    What this Database has read before is given again for as long as nobody has written to the file; else a fleet of
    the same generation is not decoded anew: generations never repeat.
    """
    if (before := db.applied) is not None and not db.in_transaction and before[0] == db.version:
        return before[1]
    outer = db.in_transaction
    with db.picture():  # one moment's picture of several tables
        version = db.version
        stored = db.rows("SELECT generation, fleet FROM applied")
        rows = db.rows("SELECT row FROM lifecycles ORDER BY agent, queue")
        accepted = frozenset(str(revision) for (revision,) in db.rows("SELECT revision FROM accepted"))
        generation = db.decode(stored[0][0], int, "the generation") if stored else 0
        kept = db.fleet if not db.writing else None
        if stored and (kept is None or kept[0] != generation):
            kept = (generation, _fleet(db, stored[0][1]))
    found = Applied(
        fleet=kept[1] if stored and kept is not None else None,
        generation=generation,
        lifecycles=_lifecycles(db, rows),
        accepted=accepted,
    )
    if not db.writing:  # else what stands there now may still be undone
        db.fleet = kept
    if not outer:
        db.applied = (version, found)
    return found


def outline(db: Database) -> Applied:
    """The record less the fleet's recipes, for a look that shows none of them. Raises FatalError as `load` does."""
    with db.picture():
        stored = db.rows("SELECT generation, fleet FROM applied")
        rows = db.rows("SELECT row FROM lifecycles ORDER BY agent, queue")
        fleet = _bare(db, stored[0][1]) if stored else None
    return Applied(
        fleet=fleet,
        generation=db.decode(stored[0][0], int, "the generation") if stored else 0,
        lifecycles=_lifecycles(db, rows),
    )


def adopt(db: Database, before: Applied, *, fleet: Fleet, lifecycles: Mapping[Key, Lifecycle]) -> Applied:
    """Make a fleet the applied one, in the caller's transaction. Approvals are used up.

    `before` is the record as loaded; what is equal in both fleets is not written again.
    """
    with _changing(db):
        if before.fleet is None or before.fleet.recipes is not fleet.recipes:
            _put_texts(db, fleet)
            _put_recipes(db, before.fleet, fleet)
        _put_pools(db, before.fleet, fleet)
        body = msgspec.json.encode(replace(fleet, pools=(), recipes={})).decode()
        db.execute("INSERT OR REPLACE INTO applied VALUES (1, ?, ?)", (before.generation + 1, body))
        db.execute("DELETE FROM accepted")
        after = put_lifecycles(db, before, lifecycles).lifecycles
    return Applied(fleet=fleet, generation=before.generation + 1, lifecycles=after)


def adopted(db: Database, now: Applied, version: int) -> None:
    """Give the record again without reading it back. `version`: of the file, in the transaction that wrote it.

    Only for what was committed: what is undone may come again, as another fleet under the same generation.
    """
    db.fleet = (now.generation, now.fleet) if now.fleet is not None else None
    db.applied = (version, now)


def put_lifecycles(db: Database, before: Applied, lifecycles: Mapping[Key, Lifecycle]) -> Applied:
    """Store the rows that changed, in the caller's transaction."""
    old, new = before.lifecycles.queues, Lifecycles.of(lifecycles)
    with _changing(db):
        for queue in dict.fromkeys((*old, *new.queues)):
            was, rows = old.get(queue, {}), new.queues.get(queue, {})
            if was is rows:
                continue
            for agent in was.keys() - rows.keys():
                db.execute("DELETE FROM lifecycles WHERE agent = ? AND queue = ?", (agent, queue))
            for agent, row in rows.items():
                known = was.get(agent)
                if known is not row and known != row:
                    body = msgspec.json.encode(row).decode()
                    db.execute("INSERT OR REPLACE INTO lifecycles VALUES (?, ?, ?)", (agent, queue, body))
    return replace(before, lifecycles=new)


def accept(db: Database, before: Applied, revision: str) -> Applied:
    """Remember that an operator agreed to a revision."""
    with _changing(db):
        db.execute("INSERT OR IGNORE INTO accepted VALUES (?)", (revision,))
    return replace(before, accepted=before.accepted | {revision})


@contextmanager
def _changing(db: Database) -> Iterator[None]:
    """A transaction after which the record is read anew."""
    db.applied = None
    with db.transaction():
        yield


def _put_pools(db: Database, before: Fleet | None, fleet: Fleet) -> None:
    """A row a pool."""
    if db.rows("SELECT 1 FROM applied WHERE json_array_length(fleet, '$.pools') > 0"):  # see _bare: no row is right
        db.execute("DELETE FROM pools")
        before = None
    old = {pool.name: pool for pool in before.pools} if before is not None else {}
    new = {pool.name: pool for pool in fleet.pools}
    for name in old.keys() - new.keys():
        db.execute("DELETE FROM pools WHERE name = ?", (name,))
    for name, pool in new.items():
        same = old.get(name)
        if same is not pool and same != pool:
            db.execute("INSERT OR REPLACE INTO pools VALUES (?, ?)", (name, msgspec.json.encode(pool).decode()))


def _put_texts(db: Database, fleet: Fleet) -> None:
    """Each text once, by its blob; those that no recipe holds any more go."""
    texts = {file.blob: file.text for recipe in fleet.recipes.values() for file in recipe.files}
    known = {str(blob) for (blob,) in db.rows("SELECT blob FROM blobs")}
    for blob in texts.keys() - known:
        db.execute("INSERT INTO blobs VALUES (?, ?)", (blob, texts[blob]))
    for blob in known - texts.keys():
        db.execute("DELETE FROM blobs WHERE blob = ?", (blob,))


def _put_recipes(db: Database, before: Fleet | None, fleet: Fleet) -> None:
    """A row a recipe, less the texts of its files."""
    old: Mapping[str, Recipe] = before.recipes if before is not None else {}
    known = {str(path) for (path,) in db.rows("SELECT path FROM recipes")}
    for path in known - fleet.recipes.keys():
        db.execute("DELETE FROM recipes WHERE path = ?", (path,))
    for path, recipe in fleet.recipes.items():
        same = old.get(path)
        if path not in known or (same is not recipe and same != recipe):
            body = msgspec.json.encode(_retold(recipe, lambda blob: "")).decode()
            db.execute("INSERT OR REPLACE INTO recipes VALUES (?, ?)", (path, body))


def _lifecycles(db: Database, rows: Sequence[tuple[object, ...]]) -> Lifecycles:
    body = f"[{','.join(str(row) for (row,) in rows)}]"
    return Lifecycles(db.decode(body, tuple[Lifecycle, ...], "agents' lifecycles"))


def _bare(db: Database, body: object) -> Fleet:
    """The fleet without its recipes."""
    fleet = db.decode(body, Fleet, "the applied fleet")
    if fleet.pools:  # by an older program's daemon, which went on as a newer command brought the file up to date
        return fleet
    pools = db.rows("SELECT name, body FROM pools ORDER BY name")
    return replace(fleet, pools=tuple(db.decode(pool, Pool, f"the applied pool {name}") for name, pool in pools))


def _fleet(db: Database, body: object) -> Fleet:
    fleet = _bare(db, body)
    texts = {str(blob): str(text) for blob, text in db.rows("SELECT blob, text FROM blobs")}
    stored = db.rows("SELECT path, body FROM recipes ORDER BY path")
    bare = {str(path): db.decode(recipe, Recipe, f"the applied {path}") for path, recipe in stored}
    try:
        recipes = {path: _retold(recipe, texts.__getitem__) for path, recipe in bare.items()}
    except KeyError as error:
        raise FatalError(f"the applied record can't be read: it lacks {error.args[0]}; restore tsched.db") from None
    return replace(fleet, recipes=recipes)


def _retold(recipe: Recipe, text_of: Callable[[str], str]) -> Recipe:
    """The recipe with each file's text as `text_of` its blob."""
    return replace(recipe, files=tuple(replace(file, text=text_of(file.blob)) for file in recipe.files))
