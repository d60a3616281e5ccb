"""TS314: literals that look like credentials. Shapes are those that the issuers document."""

import re
from collections.abc import Iterator

from tsched.model.diagnostic import Diagnostic
from tsched.validate.source import Path, Source, Value

_SHAPES = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{40,}|glpat-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}\b"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}|sk-(?:ant-|proj-)?(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}|AIza[A-Za-z0-9_-]{35}|npm_[A-Za-z0-9]{36})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|://[^/\s:@]+:[^/\s:@{}$]+@"
    r"|://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9]|://(?:\w+\.)?discord(?:app)?\.com/api/webhooks/[0-9]"
)
_OPTION = re.compile(r"--?([A-Za-z][\w-]*)=(.+)", re.DOTALL)
_KEYS = re.compile(r"(?:^|[_-])(password|passwd|secret|token|api[_-]?key|authorization)$", re.IGNORECASE)
_REFERENCE = re.compile(r"\$\{?\w+\}?|\{\w+\}|\{\{.*\}\}|<.*>|(Bearer )?\$\{?\w+\}?")


# Cheap signs in the file's text, in small letters, without which neither a shape nor a key can be in it.
_SIGNS = (
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "akia", "xox", "aiza", "npm_"),
    *("private key", "\\", "hooks.slack.com/", "/api/webhooks/"),
)
_SK = re.compile(r"\bsk-")
_NAMES = ("password", "passwd", "secret", "token", "apikey", "api_key", "api-key", "authorization")


def literal_credentials(source: Source, value: Value, path: Path = ()) -> Iterator[Diagnostic]:
    """A finding for each text in the value that has a credential's shape or stands under a credential's key.

    And for each comment that holds one.
    """
    if not _may_hold_one(source.text.lower()):
        return
    yield from _walk(source, value, path)
    for number, line in enumerate(source.text.splitlines(), 1):
        comment = line.find("#") if line.lstrip().startswith("#") else line.find(" #")
        if comment >= 0 and (found := _SHAPES.search(line, comment)) is not None:
            yield _finding(source, number, found.start() + 1)


def _may_hold_one(text: str) -> bool:
    for sign in _SIGNS:
        if sign in text:
            return True
    for name in _NAMES:
        if name in text and any(name + end in text for end in ":\"' =,]"):
            return True
    return bool("sk-" in text and _SK.search(text)) or ("://" in text and "@" in text)


def _walk(source: Source, value: Value, path: Path) -> Iterator[Diagnostic]:
    match value:
        case dict():
            for key, inner in value.items():
                named = value.get("key") if key == "default" else key  # a parameter's default
                yield from _walk_one(source, inner, [*path, key], str(named))
        case list():
            before = ""
            for index, inner in enumerate(value):
                named = before.lstrip("-") if before.startswith("-") else ""  # what stands behind an option
                yield from _walk_one(source, inner, [*path, index], named)
                before = inner if isinstance(inner, str) else ""


def _walk_one(source: Source, value: Value, path: Path, named: str) -> Iterator[Diagnostic]:
    if not isinstance(value, str):
        yield from _walk(source, value, path)
        return
    text = value.strip()
    if (option := _OPTION.fullmatch(text)) is not None:
        named, text = option[1], option[2]
    literal = text and not text.startswith("-") and not _REFERENCE.fullmatch(text)
    if _SHAPES.search(value) or (literal and _KEYS.search(named)):
        yield _finding(source, *source.place(path))


def _finding(source: Source, line: int, column: int) -> Diagnostic:
    return Diagnostic(
        path=source.name, line=line, column=column, code="TS314",
        message="This looks like a credential, and a repository is no place for one.",
        mend="Take it out, revoke it, and name a variable in `env` or `env_keys` instead.",
    )  # fmt: skip
