"""JSON that can be shown as it is: what drives a terminal or turns the direction of text is escaped in it."""

import json
import re

# Beyond what JSON itself escapes: DEL and C1, line ends of Unicode, direction, and halves of characters.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def as_json(value: object, *, indent: int | None = None) -> str:
    """The same value for every reader: such a character can only stand in a string, and is its escape there."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, indent=indent, ensure_ascii=False))
