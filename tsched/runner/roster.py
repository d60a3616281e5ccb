"""The agents of a fleet, pool by pool: what a revision leaves as it is, is not gone through again."""

from collections.abc import Mapping, Sequence

from tsched.model.fleet import Fleet, Pool
from tsched.model.kept import Kept, as_text, words_of


def names(kept: Kept, fleet: Fleet, *, of: str) -> Sequence[str]:
    """Every agent's, in pool order then file order: the same object for as long as they are the same.

    `of`: which fleet it is; a pass has the applied one, and the part of it that it serves.
    """
    return kept(_names, kept, fleet, of, of=of)


def homes(kept: Kept, fleet: Fleet, *, of: str) -> Mapping[str, str]:
    """The queue of each agent's pool: the same object for as long as they are the same. `of`: as for names."""
    return kept(_homes, kept, fleet, of, of=of)


def queues(fleet: Fleet) -> str:
    """The queues in pool order as one text, for `words_of`: known again by value where a revision changed none."""
    return as_text(dict.fromkeys(pool.queue for pool in fleet.pools))


def _names(kept: Kept, fleet: Fleet, of: str) -> Sequence[str]:
    return kept(_names_of, *kept.each(_words, fleet.pools, of=of), of=of)


def _homes(kept: Kept, fleet: Fleet, of: str) -> Mapping[str, str]:
    return kept(_homes_of, *kept.each(_words, fleet.pools, of=of), of=of)


def _words(pool: Pool) -> str:
    """The queue and the agents as one text: known again by value, however much of them has changed beside that."""
    return as_text((pool.queue, *(agent.name for agent in pool.agents)))


def _names_of(*pools: str) -> Sequence[str]:
    return tuple(name for words in pools for name in words_of(words)[1:])


def _homes_of(*pools: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for words in pools:
        queue, *agents = words_of(words)
        found.update(dict.fromkeys(agents, queue))
    return found
