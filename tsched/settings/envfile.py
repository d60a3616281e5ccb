"""Reads an env file: `KEY=VALUE` lines with quotes, comments and `export`, as shells and systemd write them."""

import re
from collections.abc import Iterator, Mapping

from tsched.model.errors import ConfigurationError

LARGEST = 1 << 20  # bytes of a file
LONGEST = 1 << 17  # characters of a value: no process can be given more in one variable
_START = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_SKIP = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_SINGLE = re.compile(r"'([^']*)'")  # literal, may span lines
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_PLAIN = re.compile(r"[^\n]*")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def parse_env_file(text: str, *, name: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of an env file, a later line winning over an earlier one.

    `${NAME}` and `${NAME:-default}` outside single quotes take from `environ` first, then from the lines above.
    Raises ConfigurationError naming file and line where a line can't be read.
    """
    found: dict[str, str] = {}
    outside = environ or {}

    def referred(reference: re.Match[str]) -> str:
        return outside.get(reference[1]) or found.get(reference[1]) or reference[2] or ""

    for key, value, literal in _entries(text.replace("\r\n", "\n"), name):
        found[key] = value if literal else _REFERENCE.sub(referred, value)
        if len(found[key]) > LONGEST:
            raise ConfigurationError(f"{name}: {key} is longer than {LONGEST} characters: shorten it")
    return found


def _entries(text: str, name: str) -> Iterator[tuple[str, str, bool]]:
    at, line, counted = 0, 1, 0
    while at < len(text):
        if skip := _SKIP.match(text, at):
            at = skip.end()
            continue
        line, counted = line + text.count("\n", counted, at), at
        start = _START.match(text, at)
        if start is None:
            raise ConfigurationError(f"{name}:{line}: this is no setting: write NAME=VALUE, or # before a comment")
        value, literal, at = _value(text, start.end(), f"{name}:{line}: {start[1]}")
        if "\0" in value:
            raise ConfigurationError(f"{name}:{line}: {start[1]} holds a NUL character: take it out")
        yield start[1], value, literal


def _value(text: str, at: int, place: str) -> tuple[str, bool, int]:
    """The value that begins at a position, whether it is literal, and where the next entry begins."""
    quote = text[at : at + 1]
    if quote not in ("'", '"'):
        plain = _PLAIN.match(text, at)
        assert plain is not None  # it matches the empty text too
        return re.split(r"(?:^|[ \t])#", plain[0], maxsplit=1)[0].strip(), False, plain.end() + 1
    match = (_SINGLE if quote == "'" else _DOUBLE).match(text, at)
    if match is None:
        raise ConfigurationError(f"{place}: the {quote} is never closed: add the closing one")
    rest = _SKIP.match(text, match.end())
    if rest is None:
        raise ConfigurationError(f"{place}: there is more after the closing {quote}: take it out or quote the whole")
    if quote == "'":
        return match[1], True, rest.end()
    return re.sub(r"\\(.)", lambda pair: _ESCAPES.get(pair[1], pair[1]), match[1], flags=re.DOTALL), False, rest.end()
