"""Whether a run's output proves that tokens were spent: exit status 0 alone proves nothing (goose-style agents)."""

import json
import re
from collections.abc import Callable, Iterator, Mapping

MOST = 1024 * 1024  # characters from the end of the output that are looked at

# The last resort for one JSON document whose beginning was cut off. An unescaped quote can't stand inside a string.
_GOOSE_END = re.compile(r'(?<!\\)"total_tokens"\s*:\s*([0-9]+)')


def evidence(runtime: str, output: str) -> bool:
    """Whether the end of a run's output proves spent tokens, in the words of that runtime (unknown: of any)."""
    output = output[-MOST:]
    readers = [_READERS[runtime]] if runtime in _READERS else list(_READERS.values())
    if any(reader(value) for value in documents(output) for reader in readers):
        return True
    return _goose in readers and any(int(match[1]) > 0 for match in _GOOSE_END.finditer(output[-4096:]))


def documents(output: str) -> Iterator[Mapping[str, object]]:
    """Each JSON object that begins a line, also over several lines; everything else is passed over."""
    decoder = json.JSONDecoder()
    position = failures = 0
    while failures < 5000 and (match := _OBJECT.search(output, position)) is not None:
        try:
            value, position = decoder.raw_decode(output, match.end() - 1)
        except (ValueError, RecursionError):
            position = match.end()
            failures += 1
            continue
        if isinstance(value, dict):
            yield value


_OBJECT = re.compile(r"^[ \t]*\{", re.MULTILINE)


def _goose(value: Mapping[str, object]) -> bool:
    """`--output-format json`: metadata.total_tokens; stream-json: the last event of type complete."""
    if value.get("type") == "complete":
        return _positive(value.get("total_tokens"))
    metadata = value.get("metadata")
    return isinstance(metadata, dict) and _positive(metadata.get("total_tokens"))


def _codex(value: Mapping[str, object]) -> bool:
    return value.get("type") == "turn.completed" and _spent(value.get("usage"))


def _claude(value: Mapping[str, object]) -> bool:
    if value.get("type") != "result" or value.get("is_error") is True:
        return False
    return _spent(value.get("usage")) or _positive(value.get("total_cost_usd"))


def _opencode(value: Mapping[str, object]) -> bool:
    part = value.get("part")
    return value.get("type") == "step_finish" and isinstance(part, dict) and _spent(part.get("tokens"))


def _spent(usage: object) -> bool:
    """Tokens that the model gave, not those it was sent: a request that failed may count its input."""
    if not isinstance(usage, dict):
        return False
    return any(_positive(usage.get(name)) for name in ("output_tokens", "output", "reasoning", "total_tokens"))


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


_READERS: Mapping[str, Callable[[Mapping[str, object]], bool]] = {
    "goose": _goose,
    "codex": _codex,
    "claude": _claude,
    "opencode": _opencode,
}
