"""Makes docs/reference from the program: `python -m tests.e2e.reference`. A test fails when a page is stale."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main
from typer.core import TyperCommand, TyperGroup, TyperOption

from tsched.cli.main import build
from tsched.settings import VARIABLES
from tsched.validate.rulebook import Rule, rulebook
from tsched.validate.schema import schema_of

FOLDER = Path(__file__).parent.parent.parent / "docs/reference"
HEAD = """\
# Commands and settings

Made from the program by `make docs`; don't edit it by hand.

`tinyscheduler` is another name of `tsched`. Global options stand before the command. Exit codes: 0 done, 1 findings
or failed work, 2 usage or environment.
"""


def commands(group: TyperGroup, names: tuple[str, ...] = ()) -> Iterator[tuple[str, TyperCommand]]:
    """Every command with its whole name."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*names, name))
        elif isinstance(command, TyperCommand):
            yield " ".join((*names, name)), command


def commands_page() -> str:
    """Every command, option and setting."""
    group = typer.main.get_command(build(terminal=False))
    assert isinstance(group, TyperGroup)
    lines = [HEAD, "## Global options", "", *_parameters(group)]
    for name, command in commands(group):
        lines += [f"## tsched {name}", "", (command.help or "").replace("\n\n", "\n").strip(), ""]
        lines += _parameters(command)
    lines += ["## Settings", "", "From flags, the environment or the env file, in this order.", ""]
    lines += ["| setting | variables, the first one winning |", "| --- | --- |"]
    lines += [f"| {name} | {', '.join(f'`{one}`' for one in names)} |" for name, names in VARIABLES.items()]
    return "\n".join(lines) + "\n"


def _parameters(command: TyperCommand | TyperGroup) -> list[str]:
    rows = []
    for one in command.params:
        if one.name == "help":
            continue
        name = ", ".join(one.opts) if isinstance(one, TyperOption) else str(one.metavar or one.name)
        rows.append(f"| `{name}` | {getattr(one, 'help', '') or ''} |")
    return ["| option or argument | what |", "| --- | --- |", *rows, ""] if rows else []


FLEET_HEAD = """\
# The fleet's files, key by key

Made from `schemas/*.schema.json` by `make docs`; don't edit it by hand. The schemas are the only place where the
shape is defined; any JSON Schema 2020-12 validator and any editor can use them. [The guide](../fleet.md) says how the
parts belong together, [the rules](rules.md) what is checked beyond the shape.
"""
FILES = {
    "pool": "pools/*.yaml: a pool",
    "limits": "pools/limits.yaml: the whole fleet",
    "recipe": "recipes/*: a recipe",
}
Schema = Mapping[str, Any]


def fleet_page() -> str:
    """Every key of every file of a fleet."""
    lines = [FLEET_HEAD]
    for name, title in FILES.items():
        schema = schema_of(name)
        root = schema["$defs"]["recipe"] if name == "recipe" else schema
        lines += [f"## {title}", "", str(schema["description"]), "", *_keys(root, schema, "")]
    return "\n".join(lines).rstrip() + "\n"


def _keys(node: Schema, root: Schema, prefix: str) -> Iterator[str]:
    """A table of an object's keys, then a section for each object inside it."""
    yield from ("| key | value | what | example |", "| --- | --- | --- | --- |")
    inner: list[tuple[str, Schema]] = []
    for key, one in node["properties"].items():
        wanted = " (required)" if key in node.get("required", ()) else ""
        words = str(one.get("description") or _resolved(one, root).get("description", "")).replace("|", "\\|")
        example = next(iter(one.get("examples") or _resolved(one, root).get("examples") or ()), None)
        shown = "" if example is None else f"`{json.dumps(example, ensure_ascii=False)}`".replace("|", "\\|")
        yield f"| `{prefix}{key}`{wanted} | {_value(one, root)} | {words} | {shown} |"
        inner += _objects(f"{prefix}{key}", one)
    yield ""
    for name, one in inner:
        yield from (f"### `{name}`", "", *([str(one["description"]), ""] if "description" in one else []))
        yield from _keys(one, root, f"{name}.")


def _objects(name: str, node: Schema) -> Iterator[tuple[str, Schema]]:
    """The objects with keys of their own that a value may be or hold."""
    if "properties" in node:
        yield name, node
    if isinstance(node.get("items"), dict):
        yield from _objects(f"{name}[]", node["items"])
    if isinstance(node.get("additionalProperties"), dict):
        yield from _objects(f"{name}.NAME", node["additionalProperties"])
    for branch in node.get("oneOf", ()):
        kind = branch.get("properties", {}).get("type", {}).get("const")
        yield from _objects(f"{name} ({kind})" if kind else name, branch)


def _resolved(node: Schema, root: Schema) -> Schema:
    found: Schema = root["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    return found


def _value(node: Schema, root: Schema) -> str:
    """The kind of a value in a few words."""
    if "$ref" in node:
        return str(node["$ref"].rpartition("/")[2])
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{one}`" for one in node["enum"])
    if "oneOf" in node:
        return " or ".join(dict.fromkeys(_value(branch, root) for branch in node["oneOf"]))
    match node.get("type"):
        case "integer":
            low, high = node.get("minimum"), node.get("maximum")
            return "whole number" + (
                f", {low} to {high}" if high is not None else f" ≥ {low}" if low is not None else ""
            )
        case "array":
            return f"list of {_value(node['items'], root)}"
        case "object":
            return "mapping"
        case "string":
            return f"text `{node['pattern']}`".replace("|", "\\|") if "pattern" in node else "text"
        case kind:
            return {"boolean": "true or false"}.get(str(kind), str(kind))


RULES_HEAD = """\
# The rules

Made from the program by `make docs`; don't edit it by hand. `tsched rules` lists them, `tsched explain CODE` shows
one.
Every example here is run by a test, laid over a fleet of one pool (`dev`) with one agent (`ada`).
"""


def rules_page() -> str:
    """Every rule with its reason and examples."""
    return "\n".join([RULES_HEAD, *(line for rule in rulebook().values() for line in _rule(rule))]).rstrip() + "\n"


def _rule(rule: Rule) -> Iterator[str]:
    yield from (f"## {rule.code}: {rule.title}", "", f"{rule.severity.capitalize()}. {rule.why}", "")
    for word, files in (("Bad", rule.in_short()), ("Good", rule.good)):
        for path, text in files.items():
            yield from (f"{word}, `{path}`:", "", "```yaml", text.rstrip("\n"), "```", "")
    for path, target in rule.link.items():
        yield from (f"Bad, `{path}`: a symbolic link to `{target}`.", "")


PAGES = {"commands.md": commands_page, "fleet.md": fleet_page, "rules.md": rules_page}


if __name__ == "__main__":
    for name, made in PAGES.items():
        (FOLDER / name).write_text(made(), encoding="utf-8")
