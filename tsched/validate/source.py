"""YAML text → plain values, read as YAML 1.2, with the place of each key and value on demand."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import yaml
from yaml._yaml import CParser
from yaml.composer import ComposerError
from yaml.error import MarkedYAMLError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tsched.model.diagnostic import Diagnostic

LARGEST = 1 << 20  # bytes
DEEPEST = 40  # levels
LONGEST_NUMBER = 40  # characters
WIDEST = 1000  # columns, or brackets, of a text that is read without a screening
PLAIN = "plain"  # the tag of what has none

Scalar = str | int | float | bool | None
Value = Scalar | list["Value"] | dict[str, "Value"]
Path = Sequence[str | int]

_CONFLICT = re.compile(r"^(<{7}|>{7}|\|{7})( |\r?$)", re.MULTILINE)
_DIVIDER = re.compile(r"^={7}\r?$", re.MULTILINE)  # alone it may stand in a text
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # YAML 1.2, 5.1
_ANCHOR = re.compile(r"(?:^|[\s\[{,:])[&*][^\s\[\]{},]", re.MULTILINE)
_TAB = re.compile(r"^ *\t[ \t]*\S", re.MULTILINE)


@dataclass(slots=True)
class Source:
    """One file's value, or why it has none. `place(path)` finds the line and column of a value."""

    name: str
    text: str = ""
    value: Value = None
    problems: tuple[Diagnostic, ...] = ()
    _root: Node | None = field(default=None, repr=False)
    _keys: dict[int, dict[str, tuple[Node, Node]]] = field(default_factory=dict, repr=False)

    def place(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at a path of keys and indexes (`key`: of its key instead).

        The nearest thing that is there, where the path does not exist.
        """
        if self._root is None:
            self._root = _compose(self.text)
        node = found = self._root
        for step in path:
            node, label = self._step(node, step)
            if node is None:
                break
            found = label if key and label is not None else node
        return (1, 1) if found is None else (found.start_mark.line + 1, found.start_mark.column + 1)

    def _step(self, node: Node | None, step: str | int) -> tuple[Node | None, Node | None]:
        if isinstance(node, MappingNode):
            if id(node) not in self._keys:  # a mapping may have very many
                self._keys[id(node)] = {label.value: (value, label) for label, value in reversed(node.value)}
            return self._keys[id(node)].get(str(step), (None, None))
        if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
            return node.value[step], None
        return None, None


class Loader(CParser):
    """libyaml's nodes with the tags that were written, PLAIN for those without: `build` knows the core schema."""

    def resolve(self, kind: object, value: object, implicit: object) -> str:
        return PLAIN

    def ascend_resolver(self) -> None:
        """No path decides about a tag."""

    def descend_resolver(self, current_node: object, current_index: object) -> None:
        """No path decides about a tag."""


class _RefusedError(MarkedYAMLError):
    def __init__(self, code: str, message: str, mend: str, mark: object) -> None:
        super().__init__(None, None, message, mark)  # type: ignore[arg-type]  # either parser's mark
        self.code, self.message, self.mend = code, message, mend


def build(node: Node, depth: int = 0) -> Value:
    """The value of a node: YAML 1.2's core scalars; no tags or merge keys; a key may stand once.

    Raises MarkedYAMLError for what is refused. `depth`: how many levels it is inside of.
    """
    if node.tag != PLAIN:
        raise _RefusedError("TS103", f"The tag {node.tag} is used.", "Take the tag out.", node.start_mark)
    if isinstance(node, ScalarNode):
        return node.value if node.style else _scalar(node)
    if depth == DEEPEST:
        raise _too_deep(node.start_mark)
    if isinstance(node, MappingNode):
        return _mapping(node, depth + 1)
    return [build(item, depth + 1) for item in node.value]


def _mapping(node: MappingNode, depth: int) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for label, value in node.value:
        if not isinstance(label, ScalarNode):
            template = isinstance(label, MappingNode) and bool(node.flow_style)
            mend = "Put a template in quotes: '{{ name }}'." if template else "Write keys as plain words."
            raise _RefusedError("TS203", "A key is not a plain word.", mend, label.start_mark)
        key = label.value
        if key == "<<" and not label.style:
            mend = "Write the keys out where they are needed."
            raise _RefusedError("TS103", "A merge key (<<) is used.", mend, label.start_mark)
        if key in found:
            raise _RefusedError("TS102", f"The key {key!r} stands twice.", "Keep one of the two.", label.start_mark)
        if label.tag != PLAIN:
            build(label)
        found[key] = build(value, depth)
    return found


# YAML 1.2 core schema, section 10.3.2 of the specification.
_SPECIAL = frozenset("-+.0123456789tTfFnN~")  # what a scalar other than text begins with
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, Value] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
}


def _scalar(node: ScalarNode) -> Value:
    text: str = node.value
    if text and text[0] not in _SPECIAL:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > LONGEST_NUMBER:
            mark = node.start_mark
            raise _RefusedError("TS204", "The number has too many digits.", "Use a smaller one.", mark)
        return int(text[2:], 8) if text.startswith("0o") else int(text[2:], 16) if text[1:2] == "x" else int(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def parse(name: str, data: bytes) -> Source:
    """Read one file. Never raises for what is in it: `problems` says what is wrong."""
    if len(data) > LARGEST:
        return _bad(name, "TS105", f"The file has {len(data)} bytes.", f"Keep a file under {LARGEST} bytes.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        before = data[data.rfind(b"\n", 0, error.start) + 1 : error.start]
        column = len(before.decode("utf-8-sig" if line == 1 else "utf-8", "replace")) + 1
        message = f"The byte 0x{data[error.start]:02x} is not UTF-8 text."
        return _bad(name, "TS104", message, "Save the file as UTF-8.", line, column)
    early = _scan(name, text)
    if early is not None:
        return early
    return _load(name, text)


def _bad(name: str, code: str, message: str, mend: str, line: int = 1, column: int = 1, text: str = "") -> Source:
    finding = Diagnostic(path=name, line=line, column=column, code=code, message=message, mend=mend)
    return Source(name=name, text=text, problems=(finding,))


def _scan(name: str, text: str) -> Source | None:
    """What is plainest said before the YAML reader stumbles over it."""
    marked = any(sign * 7 in text for sign in "<>|")
    conflict = _CONFLICT.search(text) if marked else None
    return None if conflict is None else _conflict(name, text, conflict.start())


def _conflict(name: str, text: str, at: int) -> Source:
    line = text.count("\n", 0, at) + 1
    return _bad(name, "TS107", "A merge-conflict marker is left.", "Resolve the conflict.", line, text=text)


def _load(name: str, text: str) -> Source:
    try:
        if _suspicious(text):
            _screen(text)
        node = _compose(text)
        value = None if node is None else build(node)
    except _RefusedError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        return _bad(name, error.code, error.message, error.mend, line, column, text)
    except ComposerError as error:  # the only thing that composing itself refuses, once there is no alias
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        return _bad(name, "TS108", "There is a second document.", "Keep one document a file.", line, text=text)
    except yaml.MarkedYAMLError as error:
        return _yaml_error(name, text, error)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        found = _UNPRINTABLE.search(text)
        if found is None:
            return _bad(name, "TS101", f"This is not YAML ({type(error).__name__}).", "Mend the syntax.", text=text)
        at = found.start()
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        message = f"The character U+{ord(found[0]):04X} may not stand in a file."
        return _bad(name, "TS101", message, "Take it out.", line, column, text)
    if value is None:
        return _bad(name, "TS109", "The file is empty.", "Fill it, or remove it.", text=text)
    return Source(name=name, text=text, value=value)


def _compose(text: str) -> Node | None:
    loader = Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _suspicious(text: str) -> bool:
    """Whether a text may hold an anchor, or be deep enough to overflow libyaml's reader, which recurses.

    A level takes a bracket, or at least half a column of its line.
    """
    if ("&" in text or "*" in text) and _ANCHOR.search(text):
        return True
    return text.count("[") + text.count("{") > WIDEST or max(map(len, text.split("\n"))) > WIDEST


def _screen(text: str) -> None:
    """Refuse by its events, which are read without recursion, what composed nodes don't show or survive."""
    depth = 0
    for event in yaml.parse(text, Loader=Loader):  # type: ignore[arg-type]  # it has all that is used
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            mend = "Write the value out; a text that begins with & or * needs quotes."
            raise _RefusedError("TS103", "An anchor or alias is used.", mend, event.start_mark)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise _too_deep(event.start_mark)


def _too_deep(mark: object) -> _RefusedError:
    return _RefusedError("TS105", f"It is nested over {DEEPEST} levels deep.", "Flatten it.", mark)


def _yaml_error(name: str, text: str, error: yaml.MarkedYAMLError) -> Source:
    if (divider := _DIVIDER.search(text)) is not None:
        return _conflict(name, text, divider.start())
    problem = (error.problem or "it can't be read").rstrip(".")
    mark = error.problem_mark or error.context_mark
    if "could not find expected ':'" in problem and error.context_mark is not None:
        mark = error.context_mark  # the reader only notices it on the next line
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    if "tab character" in problem or "cannot start any token" in problem:
        for tab in _TAB.finditer(text):
            at = text.count("\n", 0, tab.start()) + 1
            if abs(at - line) <= 1:
                return _bad(name, "TS106", "A tab is used for indentation.", "Indent with spaces.", at, text=text)
    lines = text.split("\n")
    if line > len(lines):  # at the end of a last line without a line's end
        line, column = len(lines), len(lines[-1]) + 1
    context = f" {error.context}" if error.context else ""
    return _bad(name, "TS101", f"This is not YAML: {problem}{context}.", "Mend the syntax here.", line, column, text)
