"""Asking something that may hang, for so long and no longer."""

import threading
from collections.abc import Callable
from typing import TypeVar

from tsched.model.errors import TransientError

T = TypeVar("T")


def within(seconds: float, ask: Callable[[], T], *, what: str) -> T:
    """What `ask` gives, or raises. Raises TransientError where it takes longer; it is then left behind.

    It runs in a thread of its own, which no exit waits for: `ask` opens and closes all that it uses itself.
    """
    answers: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TransientError(f"{what} gave no answer within {seconds:g} s")
    return answers[0]
