"""Which pools of a fleet a runner serves (TSCHED_POOLS): names and labels, as Kubernetes users would write them."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tsched.model.records import dataclass

if TYPE_CHECKING:
    from tsched.model.fleet import Pool

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")  # of a pool; of a label's key too
_TERM = re.compile(r"(?P<key>[^=!\s]+)\s*(?P<sign>==?|!=)\s*(?P<value>\S+)")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_FORM = "write names of pools and labels, such as zone=eu or zone!=eu, separated by commas"


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """What a pool's label must be, or (`equal` False) must not be: a pool without it is not it either."""

    key: str
    value: str
    equal: bool = True

    def holds(self, labels: Mapping[str, str]) -> bool:
        return (labels.get(self.key) == self.value) is self.equal

    def __str__(self) -> str:
        return f"{self.key}{'=' if self.equal else '!='}{self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """The pools of these names, and besides them those for which every term holds. Nothing said: all pools."""

    names: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()

    def __bool__(self) -> bool:
        """Whether it leaves any pool out."""
        return bool(self.names or self.terms)

    def chooses(self, pool: "Pool") -> bool:
        """Whether a runner with this selector serves that pool."""
        return not self or pool.name in self.names or self.labelled(pool)

    def labelled(self, pool: "Pool") -> bool:
        """Whether the pool is chosen by its labels."""
        return bool(self.terms) and all(term.holds(pool.labels) for term in self.terms)

    def words(self) -> tuple[str, ...]:
        """As it is written, part by part."""
        return (*self.names, *map(str, self.terms))

    def __str__(self) -> str:
        return ",".join(self.words())


ALL = Selector()


def selector(text: str) -> Selector:
    """`dev,qa`, `zone=eu,tier!=gpu`, `dev,zone=eu`. Raises ValueError, whose text is the mend."""
    names: list[str] = []
    terms: list[Term] = []
    for word in (part.strip() for part in text.split(",")):
        found = _TERM.fullmatch(word)
        if _NAME.fullmatch(word):
            names.append(word)
        elif found and _NAME.fullmatch(found["key"]) and _VALUE.fullmatch(found["value"]):
            terms.append(Term(key=found["key"], value=found["value"], equal=found["sign"] != "!="))
        elif word:
            raise ValueError(f"{word!r} can't be one: {_FORM}")
    return Selector(names=tuple(names), terms=tuple(terms))
