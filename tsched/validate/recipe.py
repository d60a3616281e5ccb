"""One recipe file → what an agent runs, or what is wrong with it (goose's format, and what we ask beyond it).

Facts of the format are from goose 1.52.0, whose own check accepts misspelt keys and missing sub-recipes.
"""

import codecs
import json
import re
from collections.abc import Collection, Generator, Iterator, Mapping
from urllib.parse import urlsplit

import jsonschema_rs
import minijinja

from tsched.model.diagnostic import Diagnostic, Severity, of_file
from tsched.model.fleet import Parameter, Power
from tsched.model.records import dataclass
from tsched.validate import schema, templates
from tsched.validate.secrets import literal_credentials
from tsched.validate.source import Path, Source, Value, parse

SUPPLIED = frozenset({"task_id", "task_title", "task_description", "queue", "agent"})
BUILT_IN = frozenset({"recipe_dir"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRecipe:
    """A recipe file by itself. `sub_recipes`: (path as written, line, column). The rest as model.fleet.Recipe."""

    title: str = ""
    prompt: str = ""
    instructions: str = ""
    parameters: tuple[Parameter, ...] = ()
    env_keys: tuple[str, ...] = ()
    powers: tuple[Power, ...] = ()
    response: str = ""
    checks: tuple[str, ...] = ()
    check_timeout: float = 300.0
    sub_recipes: tuple[tuple[str, int, int], ...] = ()
    text: str = ""
    readable: bool = True  # it could be read so far that `sub_recipes` is true
    diagnostics: tuple[Diagnostic, ...] = ()

    def findings(self) -> "ParsedRecipe":
        """What is wrong with it, what it reaches and what it has checked, without its content."""
        found = ParsedRecipe(
            checks=self.checks,
            sub_recipes=self.sub_recipes,
            readable=self.readable,
            diagnostics=self.diagnostics,
        )
        return _SOUND if found == _SOUND else found


_SOUND = ParsedRecipe()  # one for all of them


def parse_recipe(name: str, data: bytes) -> ParsedRecipe:
    """Read one recipe. Everything wrong with it is in `diagnostics`."""
    source = parse(name, data)
    if source.problems:
        return ParsedRecipe(text=source.text, readable=False, diagnostics=source.problems)
    value = source.value
    below: Path = ()
    if isinstance(value, dict) and set(value) == {"recipe"}:
        value, below = value["recipe"], ("recipe",)
    found = [*_mark(name, data), *schema.check("recipe", source, value, below=below)]
    if found or not isinstance(value, dict):
        found += literal_credentials(source, value, below)
        return ParsedRecipe(text=source.text, readable=False, diagnostics=tuple(found))
    return _read(source, value, below)


def _mark(name: str, data: bytes) -> Iterator[Diagnostic]:
    """goose takes a byte order mark for a part of the first key."""
    if data.startswith(codecs.BOM_UTF8):
        message = "The recipe begins with a byte order mark, which goose can't read."
        mend = "Save it as UTF-8 without one."
        yield of_file(name, "TS104", message, mend)


def _read(source: Source, value: dict[str, Value], below: Path) -> ParsedRecipe:
    parameters = tuple(
        Parameter(
            key=str(item["key"]),
            requirement=str(item["requirement"]),
            input_type=str(item["input_type"]),
            default=None if item.get("default") is None else str(item["default"]),
        )
        for item in _mappings(value.get("parameters"))
    )
    rules = _Rules(source, value, below)
    env_keys = [str(k) for item in _mappings(value.get("extensions")) for k in _list(item.get("env_keys"))]
    subs = [
        (str(item["path"]), *source.place([*below, "sub_recipes", index, "path"]))
        for index, item in enumerate(_mappings(value.get("sub_recipes")))
    ]
    response, retry = value.get("response"), value.get("retry")
    retry = retry if isinstance(retry, dict) else {}
    limit = retry.get("timeout_seconds")
    return ParsedRecipe(
        title=str(value.get("title", "")),
        prompt=str(value.get("prompt", "")),
        instructions=str(value.get("instructions", "")),
        parameters=parameters,
        env_keys=tuple(dict.fromkeys(env_keys)),
        powers=tuple(sorted(set(_powers(value)))),
        response=json.dumps(response["json_schema"]) if isinstance(response, dict) else "",
        checks=tuple(str(check["command"]) for check in _mappings(retry.get("checks"))),
        check_timeout=float(limit) if isinstance(limit, int | float) else 300.0,
        sub_recipes=tuple(subs),
        text=source.text,
        diagnostics=(*rules.all(parameters), *literal_credentials(source, value, below)),
    )


def _powers(value: Mapping[str, Value]) -> Iterator[Power]:
    """What a recipe lets its agent use: tools, commands, hosts and variables."""
    for item in _mappings(value.get("extensions")):
        yield Power(kind="extension", what=f"{item['name']} ({item['type']})")
        if "cmd" in item:
            yield Power(kind="command", what=" ".join([str(item["cmd"]), *map(str, _list(item.get("args")))]))
        if "uri" in item:
            yield Power(kind="host", what=urlsplit(str(item["uri"])).netloc.rpartition("@")[2] or str(item["uri"]))
        envs = item.get("envs")
        for name in [*_list(item.get("env_keys")), *(envs if isinstance(envs, dict) else ())]:
            yield Power(kind="variable", what=str(name))
    retry = value.get("retry")
    if isinstance(retry, dict):
        commands = [check.get("command") for check in _mappings(retry.get("checks"))]
        for command in [*commands, retry.get("on_failure")]:
            if command is not None:
                yield Power(kind="command", what=str(command))


class _Rules:
    """The recipe's own rules, one method a code."""

    def __init__(self, source: Source, value: dict[str, Value], below: Path) -> None:
        self._source, self._value, self._below = source, value, below

    def all(self, parameters: Collection[Parameter]) -> Iterator[Diagnostic]:
        declared = {parameter.key for parameter in parameters}
        used = yield from self._templates(declared)
        if not str(self._value.get("prompt") or "").strip():
            mend = "Add `prompt:`; instructions alone wait for a person."
            yield self._at("TS407", "The recipe has no prompt.", mend)
        items = _mappings(self._value.get("parameters"))
        for index, (parameter, item) in enumerate(zip(parameters, items, strict=True)):
            yield from self._parameter(index, parameter, item, used)
        yield from self._twice("parameters", "key", "parameter")
        yield from self._twice("sub_recipes", "name", "sub-recipe")
        yield from self._extensions()
        yield from self._response()

    def _twice(self, among: str, key: str, noun: str) -> Iterator[Diagnostic]:
        seen: set[Value] = set()
        for index, item in enumerate(_mappings(self._value.get(among))):
            if (name := str(item[key])) in seen:
                mend = "Give one of them another name."
                yield self._at("TS411", f"The {noun} {name!r} stands twice.", mend, (among, index, key))
            seen.add(name)

    def _extensions(self) -> Iterator[Diagnostic]:
        for index, item in enumerate(_mappings(self._value.get("extensions"))):
            if item["type"] == "stdio" and "args" not in item:
                message = f"goose 1.52 refuses the stdio extension {item['name']!r} without args."
                yield self._at("TS410", message, "Add `args: []`.", ("extensions", index), severity=Severity.WARNING)

    def _response(self) -> Iterator[Diagnostic]:
        response = self._value.get("response")
        answer = response.get("json_schema") if isinstance(response, dict) else None
        answer = answer if isinstance(answer, dict) else {}
        if not _DRAFT.fullmatch(str(answer.get("$schema", ""))):  # an unknown one would be looked for in the network
            answer = {**answer, "$schema": "https://json-schema.org/draft/2020-12/schema"}
        try:
            jsonschema_rs.meta.validate(answer)
        except jsonschema_rs.ValidationError as fault:
            path = ("response", "json_schema", *fault.instance_path)
            yield self._at("TS412", f"The answer's JSON Schema is none: {fault.message}.", "Mend it there.", path)

    def _templates(self, declared: Collection[str]) -> Generator[Diagnostic, None, set[str]]:
        used: set[str] = set()
        environment = templates.environment()
        for path, text in _templated(self._value):
            try:
                names = environment.undeclared_variables_in_str(text)
                problem = templates.beyond_syntax(text)
            except minijinja.TemplateError as error:
                names, problem = set(), str(error).partition("\n")[0].rstrip(".")
            if problem:
                yield self._at("TS406", f"The template can't be read: {problem}.", "Mend its braces.", path)
            used.update(names)
            for name in sorted(set(names) - set(declared) - BUILT_IN):
                yield self._undeclared(name, *self._source.place([*self._below, *path]))
        yield from self._elsewhere(environment, used | set(declared) | BUILT_IN)
        return used

    def _elsewhere(self, environment: minijinja.Environment, known: Collection[str]) -> Iterator[Diagnostic]:
        """goose reads the whole file as a template: comments and parameters' own texts too."""
        text = self._source.text
        try:
            names = environment.undeclared_variables_in_str(text) if "{{" in text or "{%" in text else set()
        except minijinja.TemplateError:
            return
        strangers = set(names) - set(known)
        places = templates.places(text) if strangers else {}
        for name in sorted(strangers):
            yield self._undeclared(name, *places.get(name, (1, 1)))

    def _undeclared(self, name: str, line: int, column: int) -> Diagnostic:
        mend = f"Declare {name} under parameters." if name in SUPPLIED else "Declare it, or take it out."
        message = f"The template variable {name!r} is not declared."
        return Diagnostic(path=self._source.name, line=line, column=column, code="TS401", message=message, mend=mend)

    def _parameter(
        self, index: int, parameter: Parameter, item: Mapping[str, Value], used: Collection[str]
    ) -> Iterator[Diagnostic]:
        key = parameter.key
        path: Path = ("parameters", index, "key")
        if key not in used:
            yield self._at(
                "TS402", f"Nothing uses the parameter {key!r}.", "Use it in a template, or remove it.", path
            )
        if parameter.requirement != "optional" and key not in SUPPLIED and parameter.default is None:
            known = ", ".join(sorted(SUPPLIED))
            message = f"The parameter {key!r} is {parameter.requirement}, but nobody supplies it."
            yield self._at("TS403", message, f"Make it optional with a default; supplied are {known}.", path)
        if parameter.requirement == "optional" and parameter.default is None:
            yield self._at("TS404", f"The optional parameter {key!r} has no default.", "Give it one.", path)
        if parameter.input_type == "file" and parameter.default is not None:
            yield self._at("TS408", f"The file parameter {key!r} has a default.", "Take the default out.", path)
        options = _list(item.get("options"))
        if parameter.input_type == "select" and not options:
            yield self._at("TS408", f"The select parameter {key!r} has no options.", "List its options.", path)
        elif parameter.input_type == "select" and parameter.default is not None and parameter.default not in options:
            message = f"The default {parameter.default!r} of {key!r} is none of its options."
            yield self._at("TS408", message, "Choose one of them.", ("parameters", index, "default"))
        if parameter.input_type == "number" and parameter.default is not None and not _number(parameter.default):
            message = f"The default {parameter.default!r} of the number {key!r} is none."
            yield self._at("TS408", message, "Write a number in quotes.", ("parameters", index, "default"))

    def _at(
        self, code: str, message: str, mend: str, path: Path = (), *, severity: Severity = Severity.ERROR
    ) -> Diagnostic:
        line, column = self._source.place([*self._below, *path])
        return Diagnostic(
            path=self._source.name, line=line, column=column, code=code, message=message, mend=mend,
            severity=severity,
        )  # fmt: skip


_DRAFT = re.compile(r"https?://json-schema\.org/(draft-0[467]|draft/20(19-09|20-12))/schema#?")


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _templated(value: Mapping[str, Value]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every text with a template in a value, with its path; descriptions of parameters are no templates."""
    for key, inner in value.items():
        if key != "parameters":
            yield from _texts(inner, (key,))


def _texts(value: Value, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        if "{" in value and ("{{" in value or "{%" in value or "{#" in value):
            yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index))


def _list(value: Value) -> list[Value]:
    return value if isinstance(value, list) else []


def _mappings(value: Value) -> list[dict[str, Value]]:
    return [item for item in _list(value) if isinstance(item, dict)]
