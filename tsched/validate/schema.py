"""JSON Schema → diagnostics in a person's words, at the place in the file."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import jsonschema_rs

from tsched.model.diagnostic import Diagnostic, of_file
from tsched.validate.near import Near
from tsched.validate.shipped import shipped
from tsched.validate.source import Source, Value

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

MOST = 1000  # findings of one file

_TYPES = {
    "integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false",
    "array": "a list", "object": "a mapping", "null": "nothing",
}  # fmt: skip
TIME = "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
DURATION = "^[0-9]+(ms|s|m|h|d)$"
SIZE = "^[1-9][0-9]{0,6}(Ki|Mi|Gi|Ti)$"
_FORMS = {
    "^[a-z0-9][a-z0-9_-]{0,62}$": "lower-case letters, digits, _ and -, beginning with a letter or digit, at most 63",
    "^[^/\\\\][^\\\\]*\\.(yaml|json)$": "a path under recipes/ that ends in .yaml or .json, such as vaela.yaml",
    TIME: "a time with its offset (RFC 3339), such as 2026-12-01T08:00:00Z",
    DURATION: "a whole number and ms, s, m, h or d, such as 90s",
    SIZE: "a whole number and Ki, Mi, Gi or Ti, such as 512Mi",
    "^(100|[1-9]?[0-9])%$": 'a percentage such as "50%", or a whole number',
    "^[A-Za-z_][A-Za-z0-9_]*$": "letters, digits and _, not beginning with a digit",
}


@cache
def schema_of(name: str) -> dict[str, Any]:
    """A shipped schema: pool, limits, recipe or status."""
    schema: dict[str, Any] = json.loads((shipped("schemas") / f"{name}.schema.json").read_text(encoding="utf-8"))
    if name == "recipe":  # the nested form is unwrapped first, so that errors speak of one form
        schema = {**schema, "$ref": "#/$defs/recipe"}
        del schema["oneOf"]
    return schema


@cache
def arbiter(name: str) -> "Validator":
    """The validator whose word counts. It is imported late: most files never need it."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError
    from jsonschema.validators import extend

    def pattern(validator: object, wanted: str, instance: object, schema: object) -> "Iterator[ValidationError]":
        """`$` at the very end only, as ECMA-262 has it. Python's also stands before a last line end."""
        strict = wanted.removesuffix("$") + r"\Z" if wanted.endswith("$") else wanted
        if isinstance(instance, str) and not re.search(strict, instance):
            yield ValidationError(f"{instance!r} does not match {wanted!r}")

    schema = schema_of(name)
    looks: dict[int, Callable[[object], bool]] = {}

    def items(validator: "Validator", wanted: dict[str, Any], instance: object, holder: object) -> Iterator[Any]:
        """Only the items that the first look does not accept: a list may be very long."""
        if id(wanted) not in looks:
            looks[id(wanted)] = _fast({**wanted, "$defs": schema.get("$defs", {})})
        for index, item in enumerate(instance if isinstance(instance, list) else ()):
            if not looks[id(wanted)](item):
                yield from validator.descend(item, wanted, path=index)  # type: ignore[attr-defined]  # not in stubs

    found: Validator = extend(Draft202012Validator, {"pattern": pattern, "items": items})(schema)  # type: ignore[no-untyped-call]
    return found


@cache
def first_look(name: str) -> Callable[[object], bool]:
    """A fast validator: what it accepts the arbiter accepts too (a test proves it); it gives no reasons."""
    return _fast(schema_of(name))


def _fast(schema: dict[str, Any]) -> Callable[[object], bool]:
    return jsonschema_rs.validator_for(schema, validate_formats=False).is_valid


def check(schema: str, source: Source, value: Value, *, below: Sequence[str | int] = ()) -> list[Diagnostic]:
    """Every way in which a value breaks a schema. `below`: where in the source the value stands."""
    if first_look(schema)(value):
        return []
    near = Near()
    every = (
        found
        for error in arbiter(schema).iter_errors(value)
        for leaf in _leaves(error)
        if not (leaf.validator == "pattern" and leaf.instance == "" and "minLength" in _schema(leaf))  # said already
        for found in _say(leaf, source, below, near)
    )
    found = list(islice(every, MOST))
    if next(every, None) is not None:
        message = f"There are over {MOST} findings in this file; the rest is left out."
        found.append(of_file(source.name, "TS205", message, "Mend these first."))
    return found


def _leaves(error: "ValidationError") -> "Iterator[ValidationError]":
    """An alternative's error, as those of the branch that was most likely meant."""
    if error.validator not in ("oneOf", "anyOf") or not error.context:
        yield error
        return
    if _kinds(error) and isinstance(error.instance, dict) and "type" not in error.instance:
        yield next(one for one in error.context if one.validator == "required" and "'type'" in one.message)
        return
    branches: dict[int, list[ValidationError]] = {}
    for inner in error.context:
        branches.setdefault(int(inner.schema_path[0]), []).append(inner)
    fitting = [errors for errors in branches.values() if not any(_misses(one) for one in errors)]
    if not fitting:
        yield error
        return
    for inner in fitting[0]:
        yield from _leaves(inner)


def _misses(error: "ValidationError") -> bool:
    """Whether an error says that another branch was meant: another type, or another constant in `type:`."""
    top = len(error.path) == 0
    return (top and error.validator == "type") or (error.validator == "const" and list(error.path)[-1:] == ["type"])


def _say(  # noqa: PLR0912  # a table of what can be wrong, one case each
    error: "ValidationError", source: Source, below: Sequence[str | int], near: Near
) -> Iterator[Diagnostic]:
    path = [*below, *error.absolute_path]
    name = _name(path)
    schema = _schema(error)

    def at(code: str, message: str, mend: str, place: Sequence[str | int] = path, *, key: bool = False) -> Diagnostic:
        line, column = source.place(place, key=key)
        return Diagnostic(path=source.name, line=line, column=column, code=code, message=message, mend=mend)

    match error.validator:
        case "additionalProperties" if isinstance(error.instance, dict) and "properties" in schema:
            known: list[str] = list(schema["properties"])
            for key in sorted(set(error.instance) - set(known)):
                meant = near(key, known)
                mend = f"Did you mean {meant!r}?" if meant else f"Known here: {', '.join(known)}."
                where = f" in {name}" if name else ""
                yield at("TS201", f"The key {key!r} is not known{where}.", mend, [*path, key], key=True)
        case "required":
            for key in _wanted(error):
                if key not in _keys(error):
                    where = f" in {name}" if name else ""
                    if f"{key!r} is a required" in error.message:
                        yield at("TS202", f"The key {key!r} is missing{where}.", f"Add `{key}:`.")
        case "type":
            if error.instance is None:
                yield at("TS109", f"{name or 'The file'} has no value.", "Give it one, or take the key out.")
            else:
                wanted = _TYPES.get(str(error.validator_value), str(error.validator_value))
                wanted = {DURATION: "a duration", SIZE: "a size"}.get(str(schema.get("pattern")), wanted)
                message = f"{name or 'The file'} is {_given(error.instance)}, where {wanted} is wanted."
                yield at("TS203", message, _quote(error))
        case "oneOf" | "anyOf" if (kinds := _kinds(error)) and isinstance(error.instance, dict):
            given = error.instance.get("type")
            message = f"{name}.type is {_short(given)}, which is none of {', '.join(kinds)}."
            yield at("TS204", message, "Use one of them.", [*path, "type"])
        case _ if error.instance is None:
            yield at("TS109", f"{name or 'The file'} has no value.", "Give it one, or take the key out.")
        case _ if "propertyNames" in error.absolute_schema_path:
            label = f"The name {error.instance!r} in {name}"
            yield at("TS204", *_form(error, label), [*path, str(error.instance)], key=True)
        case _:
            yield at("TS204", *_form(error, name or "The file"))


def _kinds(error: "ValidationError") -> Sequence[str]:
    """What `type:` may be, where it tells an alternative's branches apart."""
    wanted: list[Any] = list(error.validator_value) if isinstance(error.validator_value, list) else []
    branches = [branch.get("properties", {}).get("type", {}).get("const") for branch in wanted]
    return branches if branches and all(isinstance(one, str) for one in branches) else []


def _form(error: "ValidationError", name: str) -> tuple[str, str]:
    wanted: Any = error.validator_value
    given = _short(error.instance)
    match error.validator:
        case "pattern":
            form = _FORMS.get(str(wanted)) or _schema(error).get("description") or f"the form {wanted}"
            return f"{name} is {given}, which has the wrong form.", f"Use {form.rstrip('.')}."
        case "enum":
            meant = Near()(str(error.instance), [str(one) for one in wanted])
            listed = ", ".join(str(one) for one in wanted)
            return (
                f"{name} is {given}, which is none of {listed}.",
                f"Did you mean {meant}?" if meant else "Use one.",
            )
        case "const":
            return f"{name} is {given}.", f"It must be {wanted!r}."
        case "not":
            return f"{name} is {given}, which is reserved.", "Use another name."
        case "minimum" | "maximum":
            side = "below" if error.validator == "minimum" else "above"
            return f"{name} is {given}, {side} {wanted}.", f"Use {wanted} or {'more' if side == 'below' else 'less'}."
        case "maxLength" if _schema(error).get("pattern") == DURATION:
            return f"{name} is {given}, longer than anybody waits.", "Use at most 9999999d."
        case "minLength" | "minItems" | "minProperties":
            return f"{name} is empty.", "Put something in, or take the key out."
        case "oneOf" | "anyOf":
            return f"{name} is {_given(error.instance)}, which fits none of its forms.", _described(error)
        case "maxProperties":
            return f"{name} has {len(_keys(error))} keys, more than {wanted}.", "Take some out."
        case "uniqueItems":
            return f"{name} holds a value twice.", "Keep one of them."
        case _:
            return f"{name} is {given}: {error.message.splitlines()[0]}.", _described(error)


def _described(error: "ValidationError") -> str:
    return str(_schema(error).get("description") or "See the reference of the fleet's format.")


def _schema(error: "ValidationError") -> Mapping[str, Any]:
    return error.schema if isinstance(error.schema, dict) else {}


def _wanted(error: "ValidationError") -> Sequence[str]:
    value: Any = error.validator_value
    return [str(one) for one in value]


def _quote(error: "ValidationError") -> str:
    if _schema(error).get("pattern") == DURATION:
        example = f"{error.instance}s" if type(error.instance) is int and error.instance >= 0 else "90s"
        return f"Write a whole number with ms, s, m, h or d, such as {example}."
    if _schema(error).get("pattern") == SIZE:
        return f"Write {_FORMS[SIZE]}."
    if error.validator_value == "string" and isinstance(error.instance, (bool, int, float)):
        return "Put it in quotes."
    if error.validator_value == "object":
        return "Write a mapping: a line of `key: value` for each key."
    if error.validator_value == "array":
        return "Write a list: a line of `- value` for each item."
    return _described(error) if "description" in _schema(error) else "Write it so."


def _given(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return _short(value)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _name(path: Sequence[str | int]) -> str:
    """`agents[0].limit`"""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _keys(error: "ValidationError") -> frozenset[str]:
    return frozenset(error.instance) if isinstance(error.instance, dict) else frozenset()
