"""The breakers of recipes that fail; a recipe without failures has none."""

from collections.abc import Mapping

import msgspec

from tsched.schedule.breaker import Breaker
from tsched.state.database import Database


def load(db: Database) -> Mapping[str, Breaker]:
    """All of them, by the recipe's path. Raises FatalError where one can't be read back."""
    return db.kept(_load, of=["breakers"])


def _load(db: Database) -> Mapping[str, Breaker]:
    rows = db.rows("SELECT recipe, body FROM breakers")
    return {str(recipe): db.decode(body, Breaker, "a breaker") for recipe, body in rows}


def put(db: Database, breaker: Breaker) -> None:
    """Keep one, in the open transaction; one without failures is forgotten."""
    if breaker.failures == 0:
        db.execute("DELETE FROM breakers WHERE recipe = ?", (breaker.recipe,))
        return
    body = msgspec.json.encode(breaker).decode()
    db.execute("INSERT OR REPLACE INTO breakers (recipe, body) VALUES (?, ?)", (breaker.recipe, body))
