"""TS314: literals that look like credentials. Shapes are those that the issuers document."""

import re
from collections.abc import Iterator

from tsched.model.diagnostic import Diagnostic
from tsched.validate.source import Path, Source, Value

_SHAPES = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{40,}|glpat-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}\b"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}|sk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}|AIza[A-Za-z0-9_-]{35}|npm_[A-Za-z0-9]{36})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|://[^/\s:@]+:[^/\s:@{}$]+@"
)
_KEYS = re.compile(r"(?:^|[_-])(password|passwd|secret|token|api[_-]?key|authorization)$", re.IGNORECASE)
_REFERENCE = re.compile(r"\$\{?\w+\}?|\{\{.*\}\}|<.*>|(Bearer )?\$\{?\w+\}?")


# Cheap signs in the file's text, in small letters, without which neither a shape nor a key can be in it.
_SIGNS = (
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "akia", "xox", "aiza", "npm_"),
    *("private key", "\\"),
)
_SK = re.compile(r"\bsk-")
_NAMES = ("password", "passwd", "secret", "token", "apikey", "api_key", "api-key", "authorization")


def literal_credentials(source: Source, value: Value, path: Path = ()) -> Iterator[Diagnostic]:
    """A finding for each text in the value that has a credential's shape or stands under a credential's key."""
    if _may_hold_one(source.text.lower()):
        yield from _walk(source, value, path)


def _may_hold_one(text: str) -> bool:
    for sign in _SIGNS:
        if sign in text:
            return True
    for name in _NAMES:
        if name in text and any(name + end in text for end in ":\"' "):
            return True
    return bool("sk-" in text and _SK.search(text)) or ("://" in text and "@" in text)


def _walk(source: Source, value: Value, path: Path) -> Iterator[Diagnostic]:
    match value:
        case dict():
            for key, inner in value.items():
                yield from _walk(source, inner, [*path, key])
        case list():
            for index, inner in enumerate(value):
                yield from _walk(source, inner, [*path, index])
        case str():
            key = str(path[-1]) if path else ""
            named = _KEYS.search(key) and value.strip() and not _REFERENCE.fullmatch(value.strip())
            if named or _SHAPES.search(value):
                line, column = source.place(path)
                yield Diagnostic(
                    path=source.name, line=line, column=column, code="TS314",
                    message="This looks like a credential, and a repository is no place for one.",
                    mend="Take it out, revoke it, and name a variable in `env` or `env_keys` instead.",
                )  # fmt: skip
