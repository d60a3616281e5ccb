"""The standard library's frozen dataclass, its methods compiled when one of them is first called.

Compiling is nine tenths of what a dataclass costs: `tsched status` imports sixty of them and makes objects of ten.
What looks at fields alone (`fields`, msgspec's decoders) compiles nothing. After the first call nothing differs.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, fields, make_dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeVar

T = TypeVar("T")
_METHODS = ("__init__", "__repr__", "__eq__", "__hash__")
_COMPARED = ("__lt__", "__le__", "__gt__", "__ge__")


def _record(*, frozen: bool, slots: bool, kw_only: bool = False, order: bool = False) -> Callable[[type[T]], type[T]]:
    """What `dataclass` is here. The first two flags say in each place what the class is; it can be nothing else."""
    assert frozen and slots, "for another kind take the standard library's"

    def bare(cls: type[T]) -> type[T]:
        cls.__doc__ = cls.__doc__ or cls.__name__  # else its signature becomes it: one more thing to compile
        made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
        for name in (*_METHODS, *(_COMPARED if order else ())):
            if vars(cls).get(name) is None:  # Python puts None for the hash of a class that says what is equal
                setattr(made, name, _Uncompiled(made, name, order=order))
        for name, method in _ALIKE.items():
            setattr(made, name, method)
        return made

    return bare


class _Uncompiled:
    """Stands for a method until it is asked for."""

    __slots__ = ("_cls", "_name", "_order")

    def __init__(self, cls: type, name: str, *, order: bool) -> None:
        self._cls, self._name, self._order = cls, name, order

    def __get__(self, instance: object, owner: type) -> object:
        method = _compiled(self._cls, self._name, order=self._order)
        setattr(self._cls, self._name, method)
        return method.__get__(instance, owner)


def _compiled(cls: type, name: str, *, order: bool) -> FunctionType:
    """That method of a standard dataclass with the same fields. Two threads that ask at once get equal ones."""
    namespace = {own: getattr(cls, own) for own in ("__module__", "__qualname__", "__doc__")}
    if hasattr(cls, "__post_init__"):
        namespace["__post_init__"] = cls.__post_init__
    same: Sequence[tuple[str, Any, Any]] = [(one.name, one.type, one) for one in fields(cls)]
    twin = make_dataclass(
        cls.__name__, same, namespace=namespace, frozen=True,
        init=name == "__init__", repr=name == "__repr__", eq=name not in ("__init__", "__repr__"),
        order=order and name in _COMPARED,
    )  # fmt: skip
    method: FunctionType = vars(twin)[name]
    return method


def _refuse(self: object, name: str, value: object = None) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _state(self: Any) -> list[object]:
    return [getattr(self, one.name) for one in fields(self)]


def _restore(self: Any, state: list[object]) -> None:
    for one, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, one.name, value)


# What all frozen dataclasses with slots have alike.
_ALIKE: Final = {
    "__setattr__": _refuse, "__delattr__": _refuse, "__getstate__": _state, "__setstate__": _restore,
}  # fmt: skip

if TYPE_CHECKING:
    from dataclasses import dataclass  # the very same, to a type checker
else:
    dataclass = _record

__all__ = ["dataclass"]
