"""An agent's output as the JSON objects in it."""

import json
import re
from collections.abc import Iterator, Mapping

Document = Mapping[str, object]
_OBJECT = re.compile(r"^[ \t]*\{", re.MULTILINE)


def documents(output: str) -> Iterator[Document]:
    """Each JSON object that begins a line, also over several lines; everything else is passed over."""
    decoder = json.JSONDecoder()
    position = failures = 0
    while failures < 5000 and (match := _OBJECT.search(output, position)) is not None:
        try:
            value, position = decoder.raw_decode(output, match.end() - 1)
        except (ValueError, RecursionError):
            position = match.end()
            failures += 1
            continue
        if isinstance(value, dict):
            yield value
