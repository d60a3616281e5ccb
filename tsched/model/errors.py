"""The one exception root; its three branches say what the caller does. And the system's errors in words."""

import errno
from typing import Final

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_REFUSED: Final = (errno.EROFS, errno.EACCES, errno.EPERM)


class TschedError(Exception):
    """Anything tsched itself refuses or cannot do. The text is one line for a person: what, where, the mend."""


class ConfigurationError(TschedError):
    """What a person wrote is wrong: keep the last good state, tell them, do not retry by yourself."""


class TransientError(TschedError):
    """The world is not there just now (a remote, a task server): try again later, lose nothing.

    `after`: for so many seconds nobody shall ask again, as the other side says.
    """

    def __init__(self, text: str = "", *, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after


class KnownFault(TransientError):  # noqa: N818  # it is a state of the world
    """What goes on and a person has been told of: it needs no line of its own."""


class KnownOutage(KnownFault):
    """Nothing was asked, or in vain as before: it is the other side's whole outage that goes on."""


class FatalError(TschedError):
    """Going on would break a promise: stop and say why."""


class NewerFormatError(FatalError):
    """A file is whole, and a newer tsched's."""


def in_words(error: Exception) -> str:
    """An error on one line for a person: what, where, and for what a disk refuses how to mend it."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    place = "" if error.filename is None else f"{error.filename}: "
    mend = ": make room there" if error.errno in _FULL else ""
    mend = ": see that it may be written" if error.errno in _REFUSED else mend
    return f"{place}{error.strerror}{mend}"


def disk_refuses(error: BaseException | None) -> bool:
    """Whether it comes of a disk that is full or read-only: the next write there would fail too."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (*_FULL, errno.EROFS):
            return True
        error = error.__cause__
    return False
