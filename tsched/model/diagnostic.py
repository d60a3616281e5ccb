"""A finding about something a person wrote, with its place and its mend."""

from enum import StrEnum

from tsched.model.records import dataclass


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Diagnostic:
    """Line and column count from 1 (columns in characters); a fault of a whole file stands at 1:1."""

    path: str
    line: int
    column: int
    code: str  # TS1xx YAML, TS2xx schema, TS3xx cross-file, TS4xx recipe, TS5xx host
    message: str  # what is wrong, one sentence
    mend: str  # how to mend it, one sentence
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.code} {self.message} {self.mend}"


def of_file(path: str, code: str, message: str, mend: str, *, severity: Severity = Severity.ERROR) -> Diagnostic:
    """A fault of a whole file."""
    return Diagnostic(path=path, line=1, column=1, code=code, message=message, mend=mend, severity=severity)
