"""YAML text → plain values, read as YAML 1.2, with the place of each key and value on demand."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tsched.model.diagnostic import Diagnostic

LARGEST = 1 << 20  # bytes
DEEPEST = 40  # levels

Scalar = str | int | float | bool | None
Value = Scalar | list["Value"] | dict[str, "Value"]
Path = Sequence[str | int]

_CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |$)", re.MULTILINE)
_TAB = re.compile(r"^ *\t[ \t]*\S", re.MULTILINE)


@dataclass(slots=True)
class Source:
    """One file's value, or why it has none. `place(path)` finds the line and column of a value."""

    name: str
    text: str = ""
    value: Value = None
    problems: tuple[Diagnostic, ...] = ()
    _root: Node | None = field(default=None, repr=False)

    def place(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at a path of keys and indexes (`key`: of its key instead).

        The nearest thing that is there, where the path does not exist.
        """
        if self._root is None:
            self._root = yaml.compose(self.text, Loader=Loader)
        node = found = self._root
        for step in path:
            node, label = _step(node, step)
            if node is None:
                break
            found = label if key and label is not None else node
        return (1, 1) if found is None else (found.start_mark.line + 1, found.start_mark.column + 1)


def _step(node: Node | None, step: str | int) -> tuple[Node | None, Node | None]:
    if isinstance(node, MappingNode):
        for label, value in node.value:
            if label.value == str(step):
                return value, label
    elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], None
    return None, None


class Loader(yaml.CSafeLoader):
    """YAML 1.2's core scalars; no aliases, tags or merge keys; a key may stand once."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[object, object]:
        found: dict[object, object] = {}
        for label, value in node.value:
            if not isinstance(label, ScalarNode):
                raise _RefusedError("TS203", "A key is not a plain word.", "Write keys as plain words.", label)
            key = label.value
            if key == "<<" and not label.style:
                raise _RefusedError(
                    "TS103", "A merge key (<<) is used.", "Write the keys out where they are needed.", label
                )
            if key in found:
                raise _RefusedError("TS102", f"The key {key!r} stands twice.", "Keep one of the two.", label)
            found[key] = self.construct_object(value, deep=True)
        return found


class _RefusedError(ConstructorError):
    def __init__(self, code: str, message: str, mend: str, node: Node) -> None:
        super().__init__(None, None, message, node.start_mark)
        self.code, self.message, self.mend = code, message, mend


def _resolvers() -> dict[str | None, list[tuple[str, re.Pattern[str]]]]:
    """YAML 1.2 core schema, section 10.3.2 of the specification."""
    rules: Sequence[tuple[str, str, str]] = (
        ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
        (
            "tag:yaml.org,2002:float",
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
            "-+0123456789.",
        ),
    )
    table: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, first in rules:
        for character in first:
            table.setdefault(character, []).append((tag, re.compile(f"^(?:{pattern})$")))
    null = ("tag:yaml.org,2002:null", re.compile(r"^(?:null|Null|NULL|~|)$"))
    for character in ("n", "N", "~", ""):
        table.setdefault(character, []).append(null)
    return table


def _integer(loader: Loader, node: ScalarNode) -> int:
    text = node.value
    if len(text) > 40:
        raise _RefusedError("TS204", "The number has too many digits.", "Use a smaller one.", node)
    return int(text[2:], 8) if text.startswith("0o") else int(text[2:], 16) if text.startswith("0x") else int(text)


def _float(loader: Loader, node: ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _boolean(loader: Loader, node: ScalarNode) -> bool:
    return bool(node.value.lower() == "true")


def _unknown(loader: Loader, node: Node) -> object:
    raise _RefusedError("TS103", f"The tag {node.tag} is used.", "Take the tag out.", node)


Loader.yaml_implicit_resolvers = _resolvers()
Loader.yaml_constructors = {
    "tag:yaml.org,2002:bool": _boolean,
    "tag:yaml.org,2002:int": _integer,
    "tag:yaml.org,2002:float": _float,
    "tag:yaml.org,2002:null": yaml.CSafeLoader.construct_yaml_null,
    "tag:yaml.org,2002:str": yaml.CSafeLoader.construct_yaml_str,
    "tag:yaml.org,2002:seq": lambda loader, node: [loader.construct_object(item, deep=True) for item in node.value],
    "tag:yaml.org,2002:map": lambda loader, node: loader.construct_mapping(node),
    None: _unknown,
}


def parse(name: str, data: bytes) -> Source:
    """Read one file. Never raises for what is in it: `problems` says what is wrong."""
    if len(data) > LARGEST:
        return _bad(name, "TS105", f"The file has {len(data)} bytes.", f"Keep a file under {LARGEST} bytes.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
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
    if (conflict := _CONFLICT.search(text)) is not None:
        line = text.count("\n", 0, conflict.start()) + 1
        return _bad(name, "TS107", "A merge-conflict marker is left.", "Resolve the conflict.", line, text=text)
    return None


def _load(name: str, text: str) -> Source:
    where: Callable[[int], int] = lambda index: text.count("\n", 0, index) + 1  # noqa: E731  # used twice, here
    try:
        _measure(text)
        value = yaml.load(text, Loader=Loader)
    except _RefusedError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        return _bad(name, error.code, error.message, error.mend, line, column, text)
    except yaml.MarkedYAMLError as error:
        return _yaml_error(name, text, error)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        bad = next((i for i, c in enumerate(text) if not c.isprintable() and c not in "\t\n\r"), None)
        if bad is None:
            return _bad(name, "TS101", f"This is not YAML ({type(error).__name__}).", "Mend the syntax.", text=text)
        column = bad - text.rfind("\n", 0, bad)
        message = f"The character U+{ord(text[bad]):04X} may not stand in a file."
        return _bad(name, "TS101", message, "Take it out.", where(bad), column, text)
    if value is None:
        return _bad(name, "TS109", "The file is empty.", "Fill it, or remove it.", text=text)
    return Source(name=name, text=text, value=value)


def _measure(text: str) -> None:
    """Refuse, by its events alone, what would be large or strange when built: aliases, depth, several documents."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _RefusedError("TS103", "An anchor or alias is used.", "Write the value out.", _at(event))
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _RefusedError("TS108", "There is a second document.", "Keep one document a file.", _at(event))
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise _RefusedError("TS105", f"It is nested over {DEEPEST} levels deep.", "Flatten it.", _at(event))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _at(event: yaml.Event) -> Node:
    """A node at an event's place, for an error to point at."""
    return ScalarNode("", "", start_mark=event.start_mark)  # type: ignore[arg-type]  # either parser's mark


def _yaml_error(name: str, text: str, error: yaml.MarkedYAMLError) -> Source:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    for tab in _TAB.finditer(text):
        at = text.count("\n", 0, tab.start()) + 1
        if at <= line + 1:
            return _bad(name, "TS106", "A tab is used for indentation.", "Indent with spaces.", at, text=text)
    problem = (error.problem or "it can't be read").rstrip(".")
    context = f" {error.context}" if error.context else ""
    return _bad(name, "TS101", f"This is not YAML: {problem}{context}.", "Mend the syntax here.", line, column, text)
