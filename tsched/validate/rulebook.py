"""Why each rule is there, with a bad and a good example: what `tsched explain` says and the reference page shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import msgspec

from tsched.validate.codes import CODES, WARNINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. `bad` and `good` are files by path, to be laid over a fleet of one pool with one agent.

    `link`: links that the bad example has; `bare`: it has nothing besides; `host`: variables of the machine that it
    needs (the rule is about a host); `encoding`: of the bad example's bytes.
    """

    why: str
    bad: Mapping[str, str]
    good: Mapping[str, str]
    code: str = ""
    link: Mapping[str, str] = field(default_factory=dict)
    host: Mapping[str, str] = field(default_factory=dict)
    bare: bool = False
    encoding: str = "utf-8"

    @property
    def title(self) -> str:
        return CODES[self.code]

    @property
    def severity(self) -> str:
        return "warning" if self.code in WARNINGS else "error"


@cache
def rulebook() -> Mapping[str, Rule]:
    """Every rule by its code, in order."""
    text = Path(__file__).with_name("rulebook.yaml").read_bytes()
    known = msgspec.yaml.decode(text, type=dict[str, Rule])
    return {code: replace(known[code], code=code) for code in CODES}
