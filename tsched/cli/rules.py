"""`tsched rules` and `tsched explain`: what is checked, why, and how it looks when it is wrong and right."""

import difflib
from collections.abc import Mapping
from typing import Annotated

import typer

from tsched.cli.output import JSON, print_json
from tsched.model.errors import ConfigurationError


def rules(as_json: Annotated[bool, JSON] = False) -> None:
    """List every rule with its code."""
    from tsched.observe.tables import rules_table, show
    from tsched.validate.rulebook import rulebook

    rows = [(rule.code, rule.severity, rule.title) for rule in rulebook().values()]
    if as_json:
        print_json([dict(zip(("code", "severity", "title"), row, strict=True)) for row in rows])
    else:
        show([rules_table(rows)])


def explain(code: Annotated[str, typer.Argument(metavar="CODE", help="A finding's code, such as TS304.")]) -> None:
    """Explain a rule.

    Why it is there, with a bad and a good example.
    """
    from tsched.validate.codes import CODES
    from tsched.validate.rulebook import rulebook

    known = code.upper()
    if known not in CODES:
        near = difflib.get_close_matches(known, CODES, 1)
        raise ConfigurationError(
            f"{code} is no rule" + (f": did you mean {near[0]}?" if near else ": `tsched rules` lists them")
        )
    rule = rulebook()[known]
    print(f"{known} ({rule.severity}): {rule.title}\n\n{rule.why}")
    for title, files in (("Bad", {**rule.in_short(), **_links(rule.link)}), ("Good", rule.good)):
        if files:
            print(f"\n{title}:")
        for path, text in files.items():
            print(f"\n  {path}\n" + "".join(f"    {line}\n" for line in text.splitlines()), end="")


def _links(links: Mapping[str, str]) -> Mapping[str, str]:
    return {path: f"(a symbolic link to {target})" for path, target in links.items()}
