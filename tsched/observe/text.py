"""Text from elsewhere (task titles, agents' words, file names) made safe to show on one line."""

import re
from typing import Final

# Nothing in data may begin a line of its own, drive a terminal or turn the direction of what follows. Compiled by the
# first text that is more than printable ASCII, since that takes longer than to print most tables.
_UNSAFE: Final = "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
_UNSAFE_IN_BLOCK: Final = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"


def one_line(text: str) -> str:
    """The text with line ends and control characters written as escapes, such as `\\n`."""
    return text if text.isascii() and text.isprintable() else re.sub(_UNSAFE, _escape, text)


def block(text: str) -> str:
    """The text with its lines and tabs, but no other control character."""
    return re.sub(_UNSAFE_IN_BLOCK, _escape, text.replace("\r\n", "\n"))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def slots(number: int | None) -> str:
    """A queue's slots in words; None: no pool serves it."""
    return "not served" if number is None else str(number)
