"""Which conversation a retry may go on with, and what proves that a resumed run did anything itself."""

import json
from dataclasses import replace

import pytest

from tsched.executors.evidence import evidence, usage
from tsched.executors.sessions import answered, session_of
from tsched.model.run import Run, Usage

RUN = Run(
    run_id="7-1-a", task_id="7", agent="ada", pool="dev", queue="dev", attempt=1, revision="r", executor="local",
    recipe="recipes/ada.yaml", runtime="goose", evidence="tokens", created_at=0.0, keeps_session=True,
)  # fmt: skip


def lines(*values: object) -> str:
    return "".join(f"{json.dumps(value)}\n" for value in values)


# As the programs wrote them: goose 1.52.0, Claude Code 2.1.330, codex-cli 0.169.0.
def goose(text: str, *, model: bool = True, total: int = 42) -> str:
    metadata = {"userVisible": True, **({"inference": {"provider": "openai"}} if model else {})}
    message = {"id": "m", "role": "assistant", "content": [{"type": "text", "text": text}], "metadata": metadata}
    end = {"type": "complete", "total_tokens": total, "input_tokens": total - 2, "output_tokens": 2}
    return lines({"type": "message", "message": message}, end)


def claude(model: str = "claude-opus-5-5", cost: float = 0.5) -> str:
    said = {"type": "assistant", "message": {"role": "assistant", "model": model}, "session_id": "c-1"}
    spent = {"input_tokens": 40, "output_tokens": 2 if model != "<synthetic>" else 0}
    end = {"type": "result", "is_error": False, "usage": spent, "total_cost_usd": cost, "session_id": "c-1"}
    return lines({"type": "system", "subtype": "init", "session_id": "c-1"}, said, end)


def codex(kind: str = "agent_message", *, total: int = 42) -> str:
    items = [
        {"type": "item.completed", "item": {"type": "error"}},
        {"type": "item.completed", "item": {"type": kind}},
    ]
    end = {"type": "turn.completed", "usage": {"input_tokens": total - 2, "output_tokens": 2}}
    return lines({"type": "thread.started", "thread_id": "x-1"}, *items, end)


@pytest.mark.parametrize(
    ("runtime", "output", "session"),
    [
        ("goose", goose("Done."), "7-1-a"),
        ("goose", goose("Network error", model=False), ""),
        ("goose", "", ""),
        ("claude", claude(), "c-1"),
        ("claude", claude("<synthetic>"), ""),
        ("claude", claude().replace("c-1", "--dangerously-skip-permissions"), ""),
        ("codex", codex(), "x-1"),
        ("codex", codex("error"), ""),
        ("opencode", lines({"type": "step_finish", "sessionID": "o-1", "part": {"tokens": {"output": 2}}}), "o-1"),
        ("opencode", lines({"type": "error", "sessionID": "o-1"}), ""),
        ("make", "all good", ""),
    ],
)
def test_a_conversation_is_kept_once_the_model_has_answered_in_it(runtime: str, output: str, session: str) -> None:
    run = replace(RUN, runtime=runtime)
    assert session_of(run, output) == session
    assert session_of(replace(run, keeps_session=False), output) == ""


def test_a_conversation_that_is_gone_on_with_keeps_its_name_unless_the_agent_gives_another() -> None:
    assert session_of(replace(RUN, session="7-1-first"), goose("Done.")) == "7-1-first"
    assert session_of(replace(RUN, runtime="claude", session="old"), claude()) == "c-1"


@pytest.mark.parametrize(
    ("runtime", "output", "proven"),
    [
        ("goose", goose("Done.", total=84), True),
        ("goose", goose("Network error", model=False, total=42), False),
        # What the run before spent was never told (it was killed): the sum alone would prove this one.
        ("goose", goose("Network error", model=False, total=500), False),
        ("claude", claude(), True),
        ("claude", claude("<synthetic>", cost=0.5), False),
        ("codex", codex(total=84), True),
        ("codex", lines({"type": "thread.started", "thread_id": "x-1"}, {"type": "turn.failed"}), False),
    ],
)
def test_a_resumed_run_needs_an_answer_of_its_own(runtime: str, output: str, proven: bool) -> None:
    earlier = Usage(input_tokens=40, output_tokens=2, total_tokens=42, cost_usd=0.5)
    assert evidence(runtime, output, earlier) is proven
    assert answered(runtime, output) or not proven


def test_figures_of_a_whole_conversation_are_made_those_of_the_run() -> None:
    earlier = Usage(input_tokens=40, output_tokens=1, total_tokens=41, cost_usd=0.5)
    assert usage("goose", goose("Done.", total=83), earlier) == Usage(
        input_tokens=41, output_tokens=1, total_tokens=42
    )
    assert usage("codex", codex(total=82), earlier) == Usage(input_tokens=40, output_tokens=1, total_tokens=41)
    assert usage("claude", claude(cost=0.75), earlier) == Usage(
        input_tokens=40, output_tokens=2, total_tokens=42, cost_usd=0.25
    )
    assert usage("goose", "", earlier) is None
