"""Asking something that may hang, for so long and no longer."""

import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from tsched.model.errors import TransientError

T = TypeVar("T")


class _Asking(Generic[T]):
    """One question, and what came of it."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self.answers: SimpleQueue[T | BaseException] = SimpleQueue()

    def answer(self) -> None:
        try:
            self.answers.put(self._ask())
        except BaseException as error:
            self.answers.put(error)


_Thread = SimpleQueue[Callable[[], None] | None]  # a thread, by what it is given to do, and None at its end
_idle: list[_Thread] = []  # those with nothing to do: kept, as one that begins costs more than most of what is asked
os.register_at_fork(after_in_child=_idle.clear)


def within(seconds: float, ask: Callable[[], T], *, what: str) -> T:
    """What `ask` gives, or raises. Raises TransientError where it takes longer; it is then left behind.

    It runs in a thread of its own, which no exit waits for: `ask` opens and closes all that it uses itself.
    """
    asking = _Asking(ask)
    try:
        thread = _idle.pop()
    except IndexError:
        thread = _begin()
    thread.put(asking.answer)
    try:
        found = asking.answers.get(timeout=seconds)
    except Empty:
        thread.put(None)  # it ends, once it has its answer
        raise TransientError(f"{what} gave no answer within {seconds:g} s") from None
    _idle.append(thread)
    if isinstance(found, BaseException):
        raise found
    return found


def _begin() -> _Thread:
    given: _Thread = SimpleQueue()

    def work() -> None:
        while (do := given.get()) is not None:
            do()
            del do

    threading.Thread(target=work, daemon=True).start()
    return given
