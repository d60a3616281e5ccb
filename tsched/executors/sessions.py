"""What an agent's output says of its conversation: its name, and whether the model has answered in it."""

import re
from collections.abc import Callable, Mapping

from tsched.executors.documents import Document, documents
from tsched.model.run import Run

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")  # it becomes an argument


def session_of(run: Run, output: str) -> str:
    """The conversation that a retry may go on with; "" where there is none, or the model never answered in it."""
    if not run.keeps_session or run.runtime not in _READERS:
        return ""
    key, answer = _READERS[run.runtime]
    name, answered = run.session or (run.run_id if not key else ""), False
    for value in documents(output):
        said = value.get(key)
        name = said if isinstance(said, str) and _NAME.fullmatch(said) else name
        answered = answered or answer(value)
    return name if answered else ""


def answered(runtime: str, output: str) -> bool:
    """Whether the model answered in this very run, and not only earlier in the conversation."""
    return runtime not in _READERS or any(map(_READERS[runtime][1], documents(output)))


def _goose(value: Document) -> bool:
    """goose speaks as the assistant also where it has no answer; then it names no model."""
    message = value.get("message")
    metadata = message.get("metadata") if isinstance(message, dict) and message.get("role") == "assistant" else None
    return isinstance(metadata, dict) and bool(metadata.get("inference"))


def _claude(value: Document) -> bool:
    """So does Claude Code, as the model `<synthetic>`."""
    message = value.get("message")
    said = value.get("type") == "assistant" and isinstance(message, dict)
    return said and isinstance(message, dict) and message.get("model") != "<synthetic>"


def _codex(value: Document) -> bool:
    item = value.get("item")
    return value.get("type") == "item.completed" and isinstance(item, dict) and item.get("type") != "error"


def _opencode(value: Document) -> bool:
    return value.get("type") == "step_finish"


# What names the conversation in each event ("": we name it, by the run that begins it), and which event is an answer.
_READERS: Mapping[str, tuple[str, Callable[[Document], bool]]] = {
    "goose": ("", _goose),
    "claude": ("session_id", _claude),
    "codex": ("thread_id", _codex),
    "opencode": ("sessionID", _opencode),
}
