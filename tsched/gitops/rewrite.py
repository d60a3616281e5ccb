"""Parts of a YAML text put in, taken out or replaced, byte for byte the same elsewhere. Pure: text in, text out."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import cast

from yaml.nodes import MappingNode, Node, SequenceNode

from tsched.model.errors import ConfigurationError
from tsched.validate import fix
from tsched.validate.fix import EditRefused, ends, eol, line_end, line_start
from tsched.validate.source import Value, parse

Setting = str | int | float | Sequence["Setting"] | Mapping[str, "Setting"]
Place = tuple[int, Node, Node]  # which one of its mapping, the key, the value

_KINDS = "Give text, a number, true or false, or a mapping or list of these."
_PLAIN = re.compile(r"[\w./](?:[\w./@%+-]|:(?=[\w/])| (?=\w))*")


def insert_lines(text: str, at: int, lines: str) -> str:
    """Put lines where a line begins. An end of file without a line's end stays without one."""
    if at and text[at - 1] not in "\r\n":
        return text[:at] + eol(text) + lines.removesuffix(eol(text)) + text[at:]
    return text[:at] + lines + text[at:]


def cut_lines(text: str, start: int, end: int) -> str:
    """Take lines out; the reverse of putting them in."""
    if start and end == len(text) and text[-1] not in "\r\n":
        start -= 2 if text[:start].endswith("\r\n") else 1
    return text[:start] + text[end:]


def replaced(text: str, place: Place, value: Setting) -> str:
    """Another value in place of one, its quotes and the comment behind it kept."""
    _, key, node = place
    start, end = node.start_mark.index, node.end_mark.index
    if start == end:
        return valued(text, key, written(value))
    style = getattr(node, "style", None) or ""
    if style in ("|", ">"):
        raise EditRefused(f"{key.value!r} of this pool file is a block of text. Write it on one line first.")
    if isinstance(node, (MappingNode, SequenceNode)) and not node.flow_style:
        start, end = line_end(text, key.end_mark.index), fix.below(text, ends(text, node), key.start_mark.column)
        return valued(cut_lines(text, start, end), key, written(value))
    return text[:start] + written(value, style) + text[end:]


def valued(text: str, key: Node, word: str) -> str:
    """A key without a value gets one."""
    colon = text.index(":", key.end_mark.index) + 1
    return f"{text[:colon]} {word}{text[colon:]}"


def flow_insert(text: str, node: Node, index: int, word: str) -> str:
    """Put an item behind one of a flow collection (-1: before all), on a line of its own if that one is."""
    found = _bounds(node)
    if not found:
        start, end = node.start_mark.index, node.end_mark.index
        refuse_comment(text[start:end])
        return f"{text[: start + 1]}{word}{text[end - 1 :]}"
    start, end = found[max(index, 0)]
    if index < 0:
        return f"{text[:start]}{word}, {text[start:]}"
    indent = text[line_start(text, start) : start]
    own = not indent.strip() and "#" not in text[end : line_end(text, end)]
    return f"{text[:end]},{eol(text) + indent if own else ' '}{word}{text[end:]}"


def flow_drop(text: str, node: Node, index: int) -> str:
    """Take an item out of a flow collection; the reverse of putting it in."""
    found = [(node.start_mark.index + 1,) * 2, *_bounds(node), (node.end_mark.index - 1,) * 2]
    (_, before), (start, end), (behind, _) = found[index : index + 3]
    if index == 0:
        refuse_comment(text[before:start] * (len(found) == 3) + text[end:behind])
        return text[: before if len(found) == 3 else start] + text[behind:]
    refuse_comment(text[before:start])
    return text[:before] + text[end:]


def _bounds(node: Node) -> list[tuple[int, int]]:
    pairs = (item if isinstance(item, tuple) else (item, item) for item in node.value)
    return [(first.start_mark.index, last.end_mark.index) for first, last in pairs]


def refuse_comment(gap: str) -> None:
    if "#" in gap:
        raise EditRefused("A comment stands between these brackets of the pool file. Move it out first.")


def pair(key: str, value: Setting) -> str:
    return f"{written(key)}: {written(value)}"


def written(value: Setting, style: str = "") -> str:
    """A value on one line: plain where that reads the same everywhere, else in quotes (`style`: in these)."""
    match value:
        case str() if style == "'" and value.isprintable():
            return "'" + value.replace("'", "''") + "'"
        case str() if not style and _PLAIN.fullmatch(value) and not fix.ambiguous(value):
            return value if parse(value, fix.encoded(value)).value == value else f'"{value}"'
        case str():
            return "".join(map(_escaped, json.dumps(value, ensure_ascii=False)))
        case Mapping():
            return "{" + ", ".join(pair(*one) for one in value.items()) + "}"
        case Sequence():
            return "[" + ", ".join(map(written, value)) + "]"
        case float():
            return repr(value).replace("inf", ".inf").replace("nan", ".nan")
        case bool() | int():
            return str(value).lower()
    raise ConfigurationError(f"{value!r} can't stand in a pool file. {_KINDS}")


def _escaped(one: str) -> str:
    return one if one.isprintable() else f"\\u{ord(one):04x}" if ord(one) < 0x10000 else f"\\U{ord(one):08x}"


def as_read(value: Setting) -> Value:
    """What a reader makes of it."""
    try:
        return cast("Value", json.loads(json.dumps(value, default=dict)))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{value!r} can't stand in a pool file. {_KINDS}") from error
