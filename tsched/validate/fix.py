"""Mend what has one mend only, byte for byte the same elsewhere. Finds in a text where its YAML stands."""

import json
import re
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tsched.model.errors import ConfigurationError
from tsched.model.records import dataclass
from tsched.validate.schema import schema_of
from tsched.validate.source import Value, parse

BOM = "\ufeff"
# What TinyScheduler called things, by place: the pool itself, an entry of its agents.
DEPRECATED: Mapping[str, Mapping[str, str]] = {
    "pool": {"agentType": "queue"},
    "agent": {"agentName": "name", "max_concurrent": "limit", "recipe_file": "recipe"},
}

BLOCK = ("|", ">")
Edit = tuple[int, int, str]  # start, end, what stands there instead
Step = tuple[str, list[str]]  # the text after it, and what it did

_BREAK = re.compile(r"\r\n?|\n")
_COMMENT = re.compile(r"([ \t]*)#[^\r\n]*(?:\r\n?|\n|\Z)")
_DASH = re.compile(r" *- +")
_TRAILING = re.compile(r"(?<![\\ \t])[ \t]+(?=[\r\n]|\Z)")  # after a backslash it may be an escaped blank
_MODELINE = re.compile(r"^#[ \t]*yaml-language-server[ \t]*:", re.MULTILINE)
_OTHERWISE = re.compile(r"[yYnN]|[-+]?0[oO][0-7_]+")  # readers of 1.1 differ from PyYAML's resolver here


class EditRefused(ConfigurationError):  # noqa: N818  # it says what happened to the edit
    """A change would not have come out as it was meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """The text as it should be, and one line of words a change. Line numbers are those of the text before."""

    text: str
    changes: tuple[str, ...] = ()


def fix(path: str, text: str) -> Fixed:
    """Mend a file of pools/ or recipes/ by its path in the repo. One that can't be read stays as it is."""
    kind = _kind(path)
    body = text.removeprefix(BOM)
    source = parse(path, encoded(body))
    if kind is None or source.problems or not isinstance(source.value, dict):
        return Fixed(text=text)
    value, changes = source.value, list[str]()
    steps = (_rename, _trim, _end, _quote, _order_agents, _order_file, _modeline)
    for step in steps if kind != "recipe" else (_trim, _end, _modeline):
        after, said = step(path, body)
        value = _renamed(value) if said and step is _rename else value
        body = proven(path, after, value) if said else body
        changes += said
    return Fixed(text=text[: text.startswith(BOM)] + body, changes=tuple(changes))


def _kind(path: str) -> str | None:
    top, _, rest = path.partition("/")
    if top == "pools" and rest.endswith(".yaml") and "/" not in rest:
        return "limits" if rest == "limits.yaml" else "pool"
    return "recipe" if top == "recipes" and rest.endswith((".yaml", ".json")) else None


def encoded(text: str) -> bytes:
    """As UTF-8; what can't be is left for the reader to refuse."""
    return text.encode("utf-8", "surrogatepass")


def proven(name: str, text: str, value: object) -> str:
    """The text, if it says just this value."""
    source = parse(name, encoded(text))
    if source.problems or not same(source.value, value):
        raise EditRefused(f"{name}: This place is written too unusually to change it safely. Change it by hand.")
    return text


def same(one: object, other: object) -> bool:
    """Equal, types too: true is not 1, and 1 is not 1.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def ambiguous(word: str) -> bool:
    """Whether a plain word is text by YAML 1.2, but something else to readers of YAML 1.1."""
    rules = [rule for _, rule in yaml.SafeLoader.yaml_implicit_resolvers.get(word[:1], ())]
    odd = _OTHERWISE.fullmatch(word) or any(rule.match(word) for rule in rules)
    return bool(odd) and isinstance(parse(word, encoded(word)).value, str)


def tree(text: str) -> MappingNode:
    """A readable text's nodes. Positions come with their ends, from the reader that `parse` uses as well."""
    return cast("MappingNode", yaml.compose(text, Loader=yaml.CSafeLoader))


def patched(text: str, edits: Iterable[Edit]) -> str:
    """The text with some places replaced."""
    parts, at = [], 0
    for start, end, new in sorted(edits):
        parts += [text[at:start], new]
        at = end
    return "".join(parts) + text[at:]


def eol(text: str) -> str:
    """The line end that a text uses."""
    return found[0] if (found := _BREAK.search(text)) else "\n"


def line_start(text: str, at: int) -> int:
    """Where the line of a character begins."""
    return max(start := text.rfind("\n", 0, at) + 1, text.rfind("\r", start, at) + 1)


def line_end(text: str, at: int) -> int:
    """Where the next line begins."""
    return found.end() if (found := _BREAK.search(text, at)) else len(text)


def previous(text: str, start: int) -> int:
    """Where the line before the one that begins here begins."""
    return line_start(text, start - 2 if text[max(start - 2, 0) : start] == "\r\n" else start - 1)


def above(text: str, start: int, stop: int, column: int) -> int:
    """Where the comment lines directly above a line begin, not before `stop`. Those that stand deeper don't count."""
    while start > stop and (comment := _COMMENT.match(text, previous(text, start))) and len(comment[1]) <= column:
        start = comment.start()
    return start


def below(text: str, last: int, column: int) -> int:
    """Where that ends whose last character is here: with the comment lines directly below that stand deeper."""
    end = line_end(text, last)
    while (comment := _COMMENT.match(text, end)) and len(comment[1]) > column and comment.end() > end:
        end = comment.end()
    return end


def ends(text: str, node: Node) -> int:
    """Where a node's own text ends, without the comments that block nodes reach over."""
    node = _last(node)
    end: int = node.end_mark.index
    return end - (node.style in BLOCK and text[end - 1] in "\r\n") if isinstance(node, ScalarNode) else end


def _last(node: Node) -> Node:
    while isinstance(node, (MappingNode, SequenceNode)) and node.value and not node.flow_style:
        node = node.value[-1][1] if isinstance(node, MappingNode) else node.value[-1]
    return node


def spans(text: str, mapping: MappingNode, *, file: bool = False) -> list[tuple[int, int]]:
    """Start and end of each key of a block mapping, in lines, with the comments that belong to it.

    Comments above the first key belong to what it begins: an entry, or a file, unless that has others above them.
    """
    found: list[tuple[int, int]] = []
    for key, value in mapping.value:
        line = line_start(text, key.start_mark.index)
        start = above(text, line, found[-1][1] if found else 0, key.start_mark.column)
        if not found and not (file and "#" in text[:start] and not _MODELINE.search(text[start:line])):
            start = line
        found.append((start, below(text, ends(text, value), key.start_mark.column)))
    return found


def agents(root: MappingNode) -> Iterator[MappingNode]:
    """The entries of `agents:` that are mappings."""
    for key, value in root.value:
        if key.value == "agents" and isinstance(value, SequenceNode):
            yield from (item for item in value.value if isinstance(item, MappingNode))


def _rename(path: str, text: str) -> Step:
    edits, said = [], []
    root = tree(text)
    places = [(root, "pool"), *((entry, "agent") for entry in agents(root))] if _kind(path) == "pool" else []
    for mapping, place in places:
        there = {key.value for key, _ in mapping.value}
        for key, _ in mapping.value:
            new = DEPRECATED[place].get(key.value)
            if new is not None and new not in there:
                quote = key.style or ""
                edits.append((key.start_mark.index, key.end_mark.index, quote + new + quote))
                said.append(f"line {key.start_mark.line + 1}: renamed `{key.value}` to `{new}`")
    return patched(text, edits), said


def _renamed(value: Mapping[str, Value], place: str = "pool") -> dict[str, Value]:
    """What the text says after `_rename`."""
    names = {old: new for old, new in DEPRECATED[place].items() if new not in value}
    found = {names.get(key, key): inner for key, inner in value.items()}
    if place == "pool" and isinstance(entries := found.get("agents"), list):
        found["agents"] = [_renamed(entry, "agent") if isinstance(entry, dict) else entry for entry in entries]
    return found


def _trim(path: str, text: str) -> Step:
    scalars = [node for node in _scalars(tree(text)) if node.style in BLOCK]
    blocks = ((line_end(text, node.start_mark.index), node.end_mark.index) for node in scalars)
    edges = [0, *chain.from_iterable(blocks), len(text)]
    found = [one for edge in zip(edges[::2], edges[1::2], strict=True) for one in _TRAILING.finditer(text, *edge)]
    breaks = [one.start() for one in _BREAK.finditer(text)]
    said = [f"line {bisect(breaks, one.start()) + 1}: removed trailing white space" for one in found]
    return patched(text, ((one.start(), one.end(), "") for one in found)), said


def _end(path: str, text: str) -> Step:
    after = text + eol(text)
    if text[-1] in "\r\n" or not same(parse(path, encoded(after)).value, parse(path, encoded(text)).value):
        return text, []  # a block scalar takes its last line's end for its own
    return after, [f"line {len(_BREAK.findall(text)) + 1}: ended the last line"]


def _quote(path: str, text: str) -> Step:
    edits, said = [], []
    for node in _scalars(tree(text)):
        start, end = node.start_mark.index, node.end_mark.index
        if not node.style and text[start : start + 1] != "!" and ambiguous(node.value):
            edits.append((start, end, f'"{text[start:end]}"'))
            said.append(f"line {node.start_mark.line + 1}: quoted `{node.value}`")
    return patched(text, edits), said


def _scalars(node: Node) -> Iterator[ScalarNode]:
    if isinstance(node, ScalarNode):
        yield node
        return
    for item in node.value:
        for inner in item if isinstance(item, tuple) else (item,):
            yield from _scalars(inner)


def _order_agents(path: str, text: str) -> Step:
    edits, said = [], []
    known = schema_of("pool")["properties"]["agents"]["items"]["properties"]
    for entry in agents(tree(text)):
        first = entry.start_mark.index
        lead = text[line_start(text, first) : first]
        if (order := _order(text, entry, known)) and (not lead.strip() or _DASH.fullmatch(lead)):
            edits.append(_behind_dash(text, entry, order) if lead.strip() else _moved(text, entry, order))
            said.append(f"line {entry.start_mark.line + 1}: put the agent's keys in order")
    return patched(text, edits), said


def _order_file(path: str, text: str) -> Step:
    root = tree(text)
    order = _order(text, root, schema_of(str(_kind(path)))["properties"])
    said = [f"line {root.start_mark.line + 1}: put the file's keys in order"] if order else []
    return patched(text, [_moved(text, root, order, file=True)] if order else []), said


def _order(text: str, mapping: MappingNode, known: Iterable[str]) -> list[int]:
    """The schema's order of the keys, if it is another: agents last, what the schema does not know before them."""
    names = [name for name in known if name != "agents"]
    keys = [key.value for key, _ in mapping.value]
    ranks = [names.index(key) if key in names else len(names) + (key == "agents") for key in keys]
    order = sorted(range(len(keys)), key=ranks.__getitem__)
    if ranks == sorted(ranks) or mapping.flow_style or text[-1] not in "\r\n":
        return []
    # A block scalar that becomes the last would take what stands behind for its own.
    last = _last(mapping.value[order[-1]][1])
    return [] if isinstance(last, ScalarNode) and last.style in BLOCK and order[-1] < len(order) - 1 else order


def _moved(text: str, mapping: MappingNode, order: Sequence[int], *, file: bool = False) -> Edit:
    """Each key's lines in a new order, with the blank lines after it. What follows the last stays."""
    found = spans(text, mapping, file=file)
    bounds = [*(start for start, _ in found), found[-1][1]]
    return bounds[0], bounds[-1], "".join(text[bounds[index] : bounds[index + 1]] for index in order)


def _behind_dash(text: str, entry: MappingNode, order: Sequence[int]) -> Edit:
    """The same where the first key follows the dash. Comments above the new first key go above the dash."""
    first = entry.start_mark.index
    start = line_start(text, first)
    lead, column = text[start:first], first - start
    flat = text[:start] + " " * column + text[first:]  # the same positions, every key on a line of its own
    _, end, lines = _moved(flat, entry, order)
    at = 0
    while comment := _COMMENT.match(lines, at):
        at = comment.end()
    indent = lead[: lead.index("-")]
    comments = "".join(indent + line.lstrip(" \t") for line in lines[:at].splitlines(keepends=True))
    return start, end, comments + lead + lines[at + column :]


def _modeline(path: str, text: str) -> Step:
    if path.endswith(".json") or _MODELINE.search(text):
        return text, []
    line = f"# yaml-language-server: $schema={'../' * path.count('/')}schemas/{_kind(path)}.schema.json"
    return line + eol(text) + text, ["line 1: added the schema's line"]
