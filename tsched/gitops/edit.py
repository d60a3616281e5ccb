"""Edits of a pool file's text, byte for byte the same elsewhere. Pure: text in, text out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import cast

from yaml.nodes import MappingNode, Node, SequenceNode

from tsched.gitops.rewrite import (
    Place,
    Setting,
    as_read,
    cut_lines,
    flow_drop,
    flow_insert,
    insert_lines,
    pair,
    refuse_comment,
    replaced,
    valued,
    written,
)
from tsched.model.errors import ConfigurationError
from tsched.validate import fix
from tsched.validate.fix import ends, eol, line_end, line_start, previous
from tsched.validate.source import Value, parse

_FILE = "this pool file"
_BLANK = re.compile(r"[ \t]*(?:\r\n?|\n)")
_DASH = re.compile(r" *-(?:\s|\Z)")


def new_pool(name: str, *, queue: str | None = None, runtime: str | None = None) -> str:
    """A fresh pool file without agents."""
    value: dict[str, Setting] = {"apiVersion": "tsched/v1", "kind": "Pool", "name": name}
    value |= {key: given for key, given in (("queue", queue), ("runtime", runtime)) if given is not None}
    value["agents"] = []
    lines = [
        "# yaml-language-server: $schema=../schemas/pool.schema.json",
        *(pair(*one) for one in value.items()),
    ]
    return fix.proven(_FILE, "\n".join(lines) + "\n", value)


def get_agent(text: str, name: str) -> Mapping[str, object]:
    """What the file says of an agent."""
    pool = _read(text)
    return pool.agents[pool.index(name)]


def add_agent(text: str, *, name: str, fields: Mapping[str, str | int]) -> str:
    """The text with one more agent behind the others, written as they are."""
    pool = _read(text)
    pool.refuse_known(name)
    if "name" in fields:
        raise ConfigurationError("The agent's name is given twice. Leave it out of the fields.")
    entry: dict[str, Setting] = {"name": name, **fields}
    after = _add_next(pool, entry) if pool.agents else _add_first(pool, entry)
    pool.value["agents"] = [*pool.agents, as_read(entry)]
    return pool.done(after)


def remove_agent(text: str, name: str) -> str:
    """The text without an agent, its comments, and the blank line that set it apart."""
    pool = _read(text)
    index = pool.index(name)
    place = pool.listed()
    del pool.agents[index]
    text = pool.text
    if _flow(place[2]):
        return pool.done(flow_drop(text, place[2], index))
    start, end = _extent(text, place, index)
    if not pool.agents:
        return pool.done(valued(cut_lines(text, start, end), place[1], "[]"))
    before, behind = _after_blank(text, start), _BLANK.match(text, end)
    if index == len(pool.agents):
        start = previous(text, start) if before else start
    elif behind and (before or index == 0):
        end = behind.end()
    return pool.done(cut_lines(text, start, end))


def set_agent(text: str, name: str, key: str, value: str | int) -> str:
    """The text with one setting of an agent changed, or added behind its name."""
    pool = _read(text)
    index = pool.index(name)
    entry, agent = pool.listed()[2].value[index], pool.agents[index]
    if key in agent and fix.same(agent[key], value):
        return text
    if key == "name":
        pool.refuse_known(str(value))
    agent[key] = as_read(value)
    if (there := _find(entry, key)) is not None:
        return pool.done(replaced(pool.text, there, value))
    place = _find(entry, "name")
    assert place is not None  # it was found by its name
    if entry.flow_style:
        return pool.done(flow_insert(pool.text, entry, place[0], pair(key, value)))
    line = " " * place[1].start_mark.column + pair(key, value) + eol(pool.text)
    return pool.done(insert_lines(pool.text, line_end(pool.text, ends(pool.text, place[2])), line))


def set_pool(text: str, key: str, value: Setting) -> str:
    """The text with a setting of the pool changed, or added before its agents."""
    pool = _read(text)
    _refuse_agents(key)
    if key in pool.value and fix.same(pool.value[key], as_read(value)):
        return text
    pool.value[key] = as_read(value)
    if (there := _find(pool.root, key)) is not None:
        return pool.done(replaced(pool.text, there, value))
    agents = _find(pool.root, "agents")
    last = (agents[0] if agents else len(pool.root.value)) - 1
    if pool.root.flow_style:
        return pool.done(flow_insert(pool.text, pool.root, last, pair(key, value)))
    found = fix.spans(pool.text, pool.root, file=True)
    at = found[last][1] if last >= 0 else found[0][0]
    line = " " * pool.root.start_mark.column + pair(key, value) + eol(pool.text)
    return pool.done(insert_lines(pool.text, at, line))


def unset_pool(text: str, key: str) -> str:
    """The text without a setting of the pool and its comments."""
    pool = _read(text)
    _refuse_agents(key)
    there = _find(pool.root, key)
    if there is None:
        raise ConfigurationError(f"There is no key {key!r} in this pool file. There are: {', '.join(pool.value)}.")
    del pool.value[key]
    if pool.root.flow_style:
        return pool.done(flow_drop(pool.text, pool.root, there[0]))
    return pool.done(cut_lines(pool.text, *fix.spans(pool.text, pool.root, file=True)[there[0]]))


@dataclass(frozen=True, slots=True)
class _Pool:
    """A readable pool file: its byte order mark, text and nodes, its value and that value's agents to change."""

    mark: str
    text: str
    root: MappingNode
    value: dict[str, Value]
    agents: list[dict[str, Value]]

    def listed(self) -> Place:
        """Where `agents:` stands."""
        place = _find(self.root, "agents")
        assert place is not None  # asked for only where there is an agent
        return place

    def index(self, name: str) -> int:
        """Which of the agents has a name."""
        names = [one.get("name") for one in self.agents]
        if name in names:
            return names.index(name)
        known = [one for one in names if isinstance(one, str)]
        near = get_close_matches(name, known, 1)
        mend = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(known) or 'none'}."
        raise ConfigurationError(f"There is no agent {name!r} in this pool file. {mend}")

    def refuse_known(self, name: str) -> None:
        """A name may stand once."""
        if any(one.get("name") == name for one in self.agents):
            raise ConfigurationError(f"The agent {name!r} is in this pool file already. Use another name.")

    def done(self, text: str) -> str:
        """The new text, once it is proven to say the changed value."""
        return self.mark + fix.proven(_FILE, text, self.value)


def _read(text: str) -> _Pool:
    body = text.removeprefix(fix.BOM)
    source = parse(_FILE, fix.encoded(body))
    if source.problems:
        one = source.problems[0]
        raise ConfigurationError(f"This pool file can't be read, at line {one.line}: {one.message} {one.mend}")
    if not isinstance(source.value, dict):
        raise ConfigurationError("This pool file is no mapping. Write `key: value` lines.")
    value = source.value
    agents = value["agents"] if value.get("agents") is not None else []
    if not isinstance(agents, list) or not all(isinstance(one, dict) for one in agents):
        raise ConfigurationError("`agents:` of this pool file is no list of mappings. Write `- name: …` for each.")
    return _Pool(
        text[: text.startswith(fix.BOM)], body, fix.tree(body), value, cast("list[dict[str, Value]]", agents)
    )


def _refuse_agents(key: str) -> None:
    if key == "agents":
        raise ConfigurationError("Agents are not set as a whole. Add, change or remove them one by one.")


def _find(mapping: Node, key: str) -> Place | None:
    found = ((at, label, value) for at, (label, value) in enumerate(mapping.value) if label.value == key)
    return next(found, None)


def _flow(node: Node) -> bool:
    return isinstance(node, (MappingNode, SequenceNode)) and bool(node.flow_style)


def _add_first(pool: _Pool, entry: Mapping[str, Setting]) -> str:
    text, place = pool.text, _find(pool.root, "agents")
    if pool.root.flow_style:
        last = len(pool.root.value) - 1
        return (
            replaced(text, place, [entry]) if place else flow_insert(text, pool.root, last, pair("agents", [entry]))
        )
    column = pool.root.start_mark.column
    lines = _entry(entry, dash=column + 2, gap=2, end=eol(text))
    if place is None:
        return insert_lines(text, pool.root.end_mark.index, " " * column + "agents:" + eol(text) + lines)
    start, end = place[2].start_mark.index, place[2].end_mark.index
    refuse_comment(text[start:end])
    bare = text[:start].rstrip(" \t")
    return insert_lines(bare + text[end:], line_end(bare + text[end:], len(bare)), lines)


def _add_next(pool: _Pool, entry: Mapping[str, Setting]) -> str:
    text, place = pool.text, pool.listed()
    listed = place[2]
    if _flow(listed):
        return flow_insert(text, listed, len(listed.value) - 1, written(entry))
    last = listed.value[-1]
    start, end = _extent(text, place, len(listed.value) - 1)
    dash = listed.start_mark.column
    lines = _entry(entry, dash=dash, gap=last.start_mark.column - dash, end=eol(text), flow=_flow(last))
    apart = len(listed.value) > 1 and _after_blank(text, start)
    return insert_lines(text, end, eol(text) * apart + lines)


def _entry(entry: Mapping[str, Setting], *, dash: int, gap: int, end: str, flow: bool = False) -> str:
    """An agent's lines, in the columns and the style of its neighbours."""
    lines = [written(entry)] if flow else [pair(*one) for one in entry.items()]
    behind = end + " " * (dash + gap)
    return " " * dash + "-".ljust(gap) + behind.join(lines) + end


def _extent(text: str, place: Place, index: int) -> tuple[int, int]:
    """The lines of a block entry, with its comments."""
    _, key, listed = place
    column, node = listed.start_mark.column, listed.value[index]
    stop = (
        fix.below(text, ends(text, listed.value[index - 1]), column) if index else line_end(text, key.end_mark.index)
    )
    line = line_start(text, node.start_mark.index)
    while not _DASH.match(text, line):
        line = previous(text, line)
    return fix.above(text, line, stop, node.start_mark.column), fix.below(text, ends(text, node), column)


def _after_blank(text: str, start: int) -> bool:
    return start > 0 and _BLANK.match(text, previous(text, start)) is not None
