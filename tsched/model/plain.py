"""JSON that can be shown as it is: what drives a terminal or turns the direction of text is escaped in it."""

import json
import re
from typing import Final

# Beyond what JSON itself escapes: DEL and C1, line ends of Unicode, direction, and halves of characters.
_UNSAFE: Final = "[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"


def as_json(value: object, *, indent: int | None = None) -> str:
    """The same value for every reader: such a character can only stand in a string, and is its escape there."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if text.isascii() and "\x7f" not in text:  # as most is: then there is nothing to compile
        return text
    return re.sub(_UNSAFE, lambda found: f"\\u{ord(found[0]):04x}", text)
