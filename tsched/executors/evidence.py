"""What a run's output says of tokens spent, and whether that proves work: exit status 0 alone proves nothing."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from tsched.executors.answer import cut_off, misfit
from tsched.executors.documents import documents
from tsched.executors.sessions import answered
from tsched.model.fleet import Evidence
from tsched.model.run import Run, RunExit, Usage

MOST = 1024 * 1024  # characters from the end of the output that are looked at

# The last resort for one JSON document whose beginning was cut off. An unescaped quote can't stand inside a string.
_GOOSE_END = re.compile(r'(?<!\\)"total_tokens"\s*:\s*([0-9]+)')


_TOKENS = {
    "goose": "tokens in its last `complete` event and a last word of its model's",
    "claude": "a `result` that is no error, with tokens of the model's or a cost",
    "codex": "a `turn.completed` with tokens of the model's",
    "opencode": "a `step_finish` with tokens of the model's",
}


def rule(runtime: str, evidence: Evidence) -> str:
    """What proves success under that runtime, in words. The task's own state counts before all of it."""
    match evidence:
        case Evidence.TASK:
            return "the agent completes or hands over its task"
        case Evidence.EXIT:
            return "exit status 0"
        case Evidence.TOKENS:
            return f"exit status 0 and {_TOKENS.get(runtime, 'tokens in its output, in the words of any of these')}"


def missing(run: Run, end: RunExit, output: str, earlier: Usage | None = None) -> str:
    """What a run that exited with 0 lacks as proof of success, in words; "" where it has all.

    `earlier`: what the conversation that it went on with had spent before.
    `evidence: task` is proven by the task itself, which is looked at before this: here it is always lacking.
    """
    match Evidence(run.evidence):
        case Evidence.TASK:
            return "the agent neither completed nor handed over its task"
        case Evidence.TOKENS if not evidence(run.runtime, output, earlier):
            return f"the output does not show that {run.runtime} got an answer from its model (no token spent)"
        case Evidence.TOKENS if not end.unmet and cut_off(run.runtime, documents(output[-MOST:])):
            return f"the last word is not its model's but {run.runtime}'s own: the model stopped answering"
        case Evidence.TOKENS | Evidence.EXIT:
            pass
    if end.unmet:
        return f"the recipe's check {end.unmet}"
    problem = misfit(run.runtime, documents(output[-MOST:]), run.response) if run.response else ""
    return f"its answer is not what the recipe's response asks for: {problem}" if problem else ""


def evidence(runtime: str, output: str, earlier: Usage | None = None) -> bool:
    """Whether the end of a run's output proves spent tokens, in the words of that runtime (unknown: of any).

    A run that went on with a conversation needs an answer of its own: goose repeats the sum of all its runs.
    """
    output = output[-MOST:]
    if earlier is not None:
        spent = usage(runtime, output, earlier)
        return (
            spent is not None and spent.total_tokens > 0 and evidence(runtime, output) and answered(runtime, output)
        )
    readers = [_READERS[runtime]] if runtime in _READERS else list(_READERS.values())
    if any(reader(value) for value in documents(output) for reader in readers):
        return True
    return _goose in readers and any(int(match[1]) > 0 for match in _GOOSE_END.finditer(output[-4096:]))


def usage(runtime: str, output: str, earlier: Usage | None = None) -> Usage | None:
    """The figures in a run's output, in the words of that runtime (unknown: of any); None where there are none.

    `earlier`: what was spent before in the same conversation, where a runtime's figures are of all of it.
    """
    output = output[-MOST:]
    readers = [_FIGURES[runtime]] if runtime in _FIGURES else list(_FIGURES.values())
    found: Usage | None = None
    for value in documents(output):
        for reader, adds in readers:
            one = reader(value)
            if one is not None:
                found = found + one if found is not None and adds else one
    if found is None or earlier is None:
        return found
    since = found - earlier
    return since if runtime in ("goose", "codex") else replace(found, cost_usd=since.cost_usd)


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


def _goose_figures(value: Mapping[str, object]) -> Usage | None:
    metadata = value if value.get("type") == "complete" else value.get("metadata")
    if not isinstance(metadata, dict) or "total_tokens" not in metadata:
        return None
    return _usage(metadata, "input_tokens", "output_tokens")


def _codex_figures(value: Mapping[str, object]) -> Usage | None:
    spent = value.get("usage") if value.get("type") == "turn.completed" else None
    return _usage(spent, "input_tokens", "output_tokens") if isinstance(spent, dict) else None


def _claude_figures(value: Mapping[str, object]) -> Usage | None:
    spent = value.get("usage") if value.get("type") == "result" else None
    cost = value.get("total_cost_usd")
    return _usage(spent, "input_tokens", "output_tokens", cost=cost) if isinstance(spent, dict) else None


def _opencode_figures(value: Mapping[str, object]) -> Usage | None:
    part = value.get("part") if value.get("type") == "step_finish" else None
    if not isinstance(part, dict) or not isinstance(spent := part.get("tokens"), dict):
        return None
    return _usage(spent, "input", "output", cost=part.get("cost"))


def _usage(spent: Mapping[str, object], asked: str, given: str, *, cost: object = None) -> Usage:
    sent, got, total = (_count(spent.get(name)) for name in (asked, given, "total_tokens"))
    price = (
        float(cost) if isinstance(cost, int | float) and 0 <= cost < 2**53 and not isinstance(cost, bool) else None
    )
    return Usage(input_tokens=sent, output_tokens=got, total_tokens=total or sent + got, cost_usd=price)


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) and _positive(value) and value < 2**53 else 0


# Each runtime's reader, and whether the figures of several documents add up (else the last one counts).
_FIGURES: Mapping[str, tuple[Callable[[Mapping[str, object]], Usage | None], bool]] = {
    "goose": (_goose_figures, False),
    "codex": (_codex_figures, True),
    "claude": (_claude_figures, False),
    "opencode": (_opencode_figures, True),
}

_READERS: Mapping[str, Callable[[Mapping[str, object]], bool]] = {
    "goose": _goose,
    "codex": _codex,
    "claude": _claude,
    "opencode": _opencode,
}
