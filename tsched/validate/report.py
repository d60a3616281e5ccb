"""Findings in words: for a person, and as JSON."""

from collections.abc import Mapping, Sequence

from tsched.model import plain
from tsched.model.diagnostic import Diagnostic, Severity

_RED, _YELLOW, _DIM, _OFF = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"


def as_object(diagnostic: Diagnostic) -> dict[str, str | int]:
    """A finding as JSON shows it."""
    return {
        "path": diagnostic.path,
        "line": diagnostic.line,
        "column": diagnostic.column,
        "code": diagnostic.code,
        "severity": str(diagnostic.severity),
        "message": diagnostic.message,
        "mend": diagnostic.mend,
    }


def render_json(diagnostics: Sequence[Diagnostic]) -> str:
    """A JSON array of findings."""
    return plain.as_json([as_object(one) for one in diagnostics], indent=2)


def render_text(diagnostics: Sequence[Diagnostic], sources: Mapping[str, str], *, color: bool = False) -> str:
    """A line a finding; with the offending line and a caret where its file's text is in `sources`."""
    lines = {path: text.splitlines() for path, text in sources.items()}
    return "".join(_one(one, lines.get(one.path, []), color) for one in diagnostics)


def _one(found: Diagnostic, lines: Sequence[str], color: bool) -> str:
    paint = _RED if found.severity is Severity.ERROR else _YELLOW
    kind = f"{paint}{found.severity}{_OFF}" if color else str(found.severity)
    head = f"{found.path}:{found.line}:{found.column}: {found.code} {kind}: {found.message} {found.mend}\n"
    if not 0 < found.line <= len(lines):
        return head
    line = lines[found.line - 1].replace("\t", " ")
    start = max(0, found.column - 60)
    shown = line[start : start + 110]
    caret = " " * (found.column - 1 - start) + "^"
    return f"{head}    {shown}\n    {caret}\n" if not color else f"{head}    {shown}\n    {_DIM}{caret}{_OFF}\n"
