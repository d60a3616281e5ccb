"""An agent's last word in its output, held against the JSON Schema that its recipe gives for it."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tsched.executors.documents import Document

MOST_TRIES = 100_000  # of a pattern on one text


def misfit(runtime: str, documents: Iterable[Document], schema: str) -> str:
    """What is wrong with a run's answer, "" for nothing. `schema`: JSON text; it is never fetched from anywhere.

    Agent and recipe together can't keep us here: a pattern may try so often and no more.
    """
    import jsonschema_rs

    wanted: Any = json.loads(schema)
    if isinstance(wanted, dict) and "://json-schema.org/" not in str(wanted.get("$schema")):
        wanted.pop("$schema", None)  # an unknown one would be looked for
    patterns = jsonschema_rs.FancyRegexOptions(backtrack_limit=MOST_TRIES)
    try:
        validator = jsonschema_rs.validator_for(
            wanted, validate_formats=False, retriever=_nowhere, pattern_options=patterns
        )
    except ValueError as fault:
        return f"the schema can't be used: {str(fault).partition(chr(10))[0]}"[:300]
    problem = "there is no JSON in it"
    for value in answers(runtime, documents):
        error = next(validator.iter_errors(value), None)
        if error is None:
            return ""
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
        problem = f"${path}: {error.message}"[:300]
    return problem


def _nowhere(address: str) -> Any:
    raise ValueError("what is not in the schema is not looked for")


def answers(runtime: str, documents: Iterable[Document]) -> Iterator[object]:
    """The JSON values of a run's last word, the likeliest first. A runtime that we don't know: its last document."""
    read = _READERS.get(runtime)
    last = list(documents)[-1:] if read is None else read(documents)
    for value in last:
        if isinstance(value, str):
            yield from _within(value)
        else:
            yield value


def last_words(runtime: str, documents: Iterable[Document]) -> str:
    """What the agent said last, "" where its output does not tell."""
    read = _READERS.get(runtime)
    said = read(documents) if read is not None else ()
    return next((value.strip() for value in said if isinstance(value, str)), "")


def cut_off(runtime: str, documents: Iterable[Document]) -> bool:
    """Whether the last word is the program's own, where its model had the word before.

    So goose says that its model stopped answering; and then it exits with 0. What it repeats of a `final_output` is
    the model's word.
    """
    if runtime in _READERS and runtime != "goose":
        return False
    spoke = final = own = False
    speaking: object = None
    for message in _messages(documents):
        parts = list(_list(message.get("content"))) if message.get("role") == "assistant" else []
        if parts and _map(message.get("metadata")).get("inference"):
            final = any(_is_final(_call(part)) for part in parts) or (final and speaking == message.get("id"))
            spoke, own, speaking = True, False, message.get("id")
        elif any(part.get("type") == "text" for part in parts):
            own = not final
    return spoke and own


def _within(text: str) -> Iterator[object]:
    """The whole text as JSON, else what stands in its fences, else its last object."""
    for part in (*(match[1] for match in _FENCED.finditer(text)), text):
        try:
            yield json.loads(part)
        except (ValueError, RecursionError):
            continue
    decoder = json.JSONDecoder()
    for match in reversed(list(_BRACE.finditer(text))[:50]):
        try:
            yield decoder.raw_decode(text, match.start())[0]
        except (ValueError, RecursionError):
            continue


_FENCED = re.compile(r"^```(?:json)?[ \t]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_BRACE = re.compile(r"\{")


def _goose(documents: Iterable[Document]) -> Sequence[object]:
    """`--output-format json`: all messages in one document; stream-json: an event for each piece of a message."""
    said: list[object] = []
    speaking: object = None  # the id of the message that the last piece was of
    for message in _messages(documents):
        ours = message.get("role") == "assistant"
        for part in _list(message.get("content")) if ours else ():
            text, call = part.get("text"), _call(part)
            if isinstance(text, str) and part.get("type") == "text":
                before = said.pop() if speaking == message.get("id") and said else ""
                said.append(f"{before}{text}")
                speaking = message.get("id")
            elif _is_final(call):
                said.append(call.get("arguments"))
                speaking = None
        speaking = speaking if ours else None
    return said[-1:]


def _messages(documents: Iterable[Document]) -> Iterator[Document]:
    for document in documents:
        messages = document.get("messages")
        yield from _list(messages if isinstance(messages, list) else [document.get("message")])


def _call(part: Document) -> Document:
    return _map(_map(part.get("toolCall")).get("value"))


def _is_final(call: Document) -> bool:
    return str(call.get("name", "")).endswith("final_output")


def _codex(documents: Iterable[Document]) -> Sequence[object]:
    items = [_map(one.get("item")) for one in documents if one.get("type") == "item.completed"]
    return [item.get("text") for item in items if item.get("type") == "agent_message"][-1:]


def _claude(documents: Iterable[Document]) -> Sequence[object]:
    ends = [one for one in documents if one.get("type") == "result"][-1:]
    return [end[key] for end in ends for key in ("structured_output", "result") if key in end]


def _opencode(documents: Iterable[Document]) -> Sequence[object]:
    return [_map(one.get("part")).get("text") for one in documents if one.get("type") == "text"][-1:]


def _map(value: object) -> Document:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Iterator[Document]:
    yield from (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


_READERS: Mapping[str, Callable[[Iterable[Document]], Sequence[object]]] = {
    "goose": _goose,
    "codex": _codex,
    "claude": _claude,
    "opencode": _opencode,
}
