"""Records are what the standard library's frozen dataclasses are, but compile nothing before a method is called."""

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field, fields, replace
from typing import Any

import msgspec
import pytest

from tsched.model import records

STANDARD: Any = dataclasses.dataclass
OURS: Any = records.dataclass


@records.dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Point:
    """Somewhere."""

    x: int
    y: int = 0


def made(dataclass: Any) -> type[Any]:
    """A class with a field of each kind, and one more by inheritance."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Base:
        name: str
        hidden: str = field(default="h", repr=False)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Made(Base):
        """Some words."""

        number: int = 1
        ignored: int = field(default=0, compare=False)
        items: list[int] = field(default_factory=list, compare=False)
        doubled: int = field(init=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "doubled", 2 * self.number)

        def __str__(self) -> str:
            return f"{self.name}!"

    return Made


SAYS: dict[str, Callable[[type[Any]], object]] = {
    "words": lambda kind: (repr(kind(name="a", number=3)), str(kind(name="a"))),
    "equal": lambda kind: (kind(name="a", ignored=1) == kind(name="a"), kind(name="a") != kind(name="b")),
    "hash": lambda kind: hash(kind(name="a", ignored=1)) == hash(kind(name="a")),
    "replaced": lambda kind: repr(replace(kind(name="a"), name="b", number=4)),
    "copied": lambda kind: repr((copy.copy(kind(name="a")), copy.deepcopy(kind(name="a", items=[1])))),
    "fields": lambda kind: [(one.name, one.kw_only, one.compare, one.repr) for one in fields(kind)],
    "as dict": lambda kind: dataclasses.asdict(kind(name="a", items=[1])),
    "signature": lambda kind: str(inspect.signature(kind)),
    "slots": lambda kind: (kind.__slots__, kind.__match_args__, kind.__doc__, kind.__qualname__),
    "own list": lambda kind: kind(name="a").items is kind(name="a").items,
    "encoded": lambda kind: msgspec.json.encode(kind(name="a")),
}


@pytest.mark.parametrize("what", SAYS)
def test_a_record_is_as_a_standard_one(what: str) -> None:
    assert SAYS[what](made(OURS)) == SAYS[what](made(STANDARD))


REFUSED: dict[str, Callable[[type[Any]], object]] = {
    "assigned": lambda kind: setattr(kind(name="a"), "name", "b"),
    "deleted": lambda kind: delattr(kind(name="a"), "name"),
    "another attribute": lambda kind: setattr(kind(name="a"), "other", 1),
    "none by that name": lambda kind: kind(name="a", other=1),
    "one missing": lambda kind: kind(),
    "by position": lambda kind: kind("a"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_standard_one_refuses_is_refused(what: str) -> None:
    kinds = made(OURS), made(STANDARD)
    for kind in kinds:
        with pytest.raises((FrozenInstanceError, TypeError)):
            REFUSED[what](kind)


def test_order_and_pickling() -> None:
    assert sorted([Point(x=2), Point(x=1, y=3), Point(x=1)]) == [Point(x=1), Point(x=1, y=3), Point(x=2)]
    assert pickle.loads(pickle.dumps(Point(x=1))) == Point(x=1)


def test_nothing_is_compiled_before_it_is_called() -> None:
    @records.dataclass(frozen=True, slots=True, kw_only=True)
    class Fresh:
        name: str
        number: int = 1

    def compiled() -> list[str]:
        names = ("__init__", "__repr__", "__eq__", "__hash__")
        return [name for name in names if inspect.isfunction(vars(Fresh)[name])]

    assert [one.name for one in fields(Fresh)] == ["name", "number"]
    read = msgspec.json.decode(b'{"name": "a"}', type=Fresh)
    assert compiled() == []
    assert read == Fresh(name="a")
    assert compiled() == ["__init__", "__eq__"]
