"""What a look at a runner finds: one judgement each, with what it rests on and how to mend it."""

from collections.abc import Iterable
from enum import StrEnum

from tsched.model.records import dataclass


class Standing(StrEnum):
    """In the order of weight."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`check` names what was looked at, `evidence` what was seen there, `mend` what to do about it ("": nothing)."""

    check: str
    standing: Standing
    evidence: str
    mend: str = ""


def ok(check: str, evidence: str) -> Finding:
    """All is well."""
    return Finding(check=check, standing=Standing.OK, evidence=evidence)


def warn(check: str, evidence: str, mend: str) -> Finding:
    """A person should know."""
    return Finding(check=check, standing=Standing.WARN, evidence=evidence, mend=mend)


def fail(check: str, evidence: str, mend: str) -> Finding:
    """A person must act."""
    return Finding(check=check, standing=Standing.FAIL, evidence=evidence, mend=mend)


def worst(findings: Iterable[Finding]) -> Standing:
    """What they come to: the weightiest of them, ok where there are none."""
    return max((one.standing for one in findings), key=list(Standing).index, default=Standing.OK)


def shortened(words: Iterable[str], most: int = 5) -> str:
    """A list for one line: the first ones, and how many more."""
    every = list(words)
    more = f", and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
