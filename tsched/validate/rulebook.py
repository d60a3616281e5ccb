"""Why each rule is there, with a bad and a good example: what `tsched explain` says and the reference page shows."""

from collections.abc import Mapping
from dataclasses import field, replace
from functools import cache
from pathlib import Path

import msgspec

from tsched.model.records import dataclass
from tsched.validate.codes import CODES, WARNINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. `bad` and `good` are files by path, to be laid over a fleet of one pool with one agent.

    `link`: links that the bad example has; `bare`: it has nothing besides; `host`: variables of the machine that it
    needs (the rule is about a host); `encoding`: of the bad example's bytes. `more` is repeated at its end so many
    `times`, and `parts` names a file for each of them.
    """

    why: str
    bad: Mapping[str, str]
    good: Mapping[str, str]
    code: str = ""
    link: Mapping[str, str] = field(default_factory=dict)
    host: Mapping[str, str] = field(default_factory=dict)
    bare: bool = False
    encoding: str = "utf-8"
    more: str = ""
    times: int = 0
    parts: str = ""

    def in_full(self) -> Mapping[str, str]:
        """The bad example's files with all their repetitions."""
        files = {path: text + "".join(self._line(n) for n in range(self.times)) for path, text in self.bad.items()}
        part = next(iter(self.good.values()))
        return files | {self._numbered(self.parts, n): part for n in range(self.times if self.parts else 0)}

    def in_short(self) -> Mapping[str, str]:
        """The bad example's files as they are shown."""
        if not self.times:
            return self.bad
        rest = f"  # ... and so on, {self.times} in all\n"
        return {path: text + self._line(0) + self._line(1) + rest for path, text in self.bad.items()}

    def _line(self, number: int) -> str:
        return self._numbered(self.more, number)

    @staticmethod
    def _numbered(text: str, number: int) -> str:
        return text.replace("{number}", str(number))

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
