"""What a run that exited with 0 lacks as proof: rules per runtime, each in words."""

import json
from dataclasses import replace

import pytest

from tsched.executors.answer import last_words
from tsched.executors.documents import documents
from tsched.executors.evidence import missing
from tsched.model.run import ExitReason, Run, RunExit

SCHEMA = json.dumps({"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}})
RUN = Run(
    run_id="7-1-a", task_id="7", agent="ada", pool="dev", queue="dev", attempt=1, revision="r", executor="local",
    recipe="recipes/a.yaml", runtime="goose", evidence="tokens", created_at=0.0,
)  # fmt: skip
END = RunExit(run_id="7-1-a", reason=ExitReason.EXITED, started=True, exit_code=0)
GOOSE_END = {"type": "complete", "total_tokens": 42, "input_tokens": 40, "output_tokens": 2}


def lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def goose(*pieces: str, id: str = "c1", role: str = "assistant") -> list[object]:
    """A message as goose 1.52.0 streams it: an event for each piece."""
    return [
        {"type": "message", "message": {"id": id, "role": role, "content": [{"type": "text", "text": piece}]}}
        for piece in pieces
    ]


def final_output(**arguments: object) -> dict[str, object]:
    """As goose 1.52.0 shows the call of the tool that a recipe's `response` brings."""
    call = {"status": "success", "value": {"name": "recipe__final_output", "arguments": arguments}}
    content = [{"type": "toolRequest", "id": "call_2", "toolCall": call}]
    return {"type": "message", "message": {"id": "c1", "role": "assistant", "content": content}}


def lacking(runtime: str, *values: object, evidence: str = "tokens", response: str = "", unmet: str = "") -> str:
    run = replace(RUN, runtime=runtime, evidence=evidence, response=response)
    return missing(run, replace(END, unmet=unmet), lines(*values))


def test_tokens_spent_are_enough_where_the_recipe_asks_for_no_more() -> None:
    assert lacking("goose", GOOSE_END) == ""


def test_without_tokens_the_runtime_is_named() -> None:
    said = lacking("goose", {**GOOSE_END, "total_tokens": 0})
    assert said == "the output does not show that goose got an answer from its model (no token spent)"


def test_where_the_task_is_the_proof_nothing_else_is() -> None:
    assert lacking("x", GOOSE_END, evidence="task") == "the agent neither completed nor handed over its task"


def test_the_exit_status_is_enough_where_the_runtime_says_so() -> None:
    assert lacking("x", evidence="exit") == ""


@pytest.mark.parametrize("evidence", ["exit", "tokens"])
def test_an_unmet_check_outweighs_tokens_and_status(evidence: str) -> None:
    """goose 1.52.0 exits with 0 and shows tokens where its own retries are used up."""
    said = lacking("goose", GOOSE_END, evidence=evidence, unmet="`make test`: exit status 2: 1 failed")
    assert said == "the recipe's check `make test`: exit status 2: 1 failed"


def said(text: str, *, model: bool = True, **more: object) -> dict[str, object]:
    """A message as goose 1.52.0 gives it: only what comes of the model names one."""
    metadata = {"userVisible": True, **({"inference": {"provider": "openai"}} if model else {})}
    message = {"id": text, "role": "assistant", "content": [{"type": "text", "text": text}], "metadata": metadata}
    return {"type": "message", "message": message | more}


REFUSED = said("Ran into this error: Request failed: Bad request (400).", model=False)
NOTICE = said("Compacting", model=False, content=[{"type": "systemNotification", "msg": "Compacting"}])
FINAL = {"type": "message", "message": {**final_output(ok=True)["message"], "metadata": {"inference": {"p": 1}}}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("messages", "cut"),
    [
        ([said("Half done."), REFUSED], True),
        ([said("Half done."), REFUSED, said("All done.")], False),
        ([said("All done."), NOTICE], False),
        ([FINAL, said('{"ok": true}', model=False)], False),
        ([FINAL, said("There is more to do."), REFUSED], True),
        ([said("x", model=False)], False),
        ([said("Half done."), said("I did as much as I may.", model=False)], True),
    ],
)
@pytest.mark.parametrize("runtime", ["goose", "mine"])
def test_a_model_that_stopped_answering_midway_proves_nothing(
    messages: list[dict[str, object]], cut: bool, runtime: str
) -> None:
    """goose 1.52.0 exits with 0 and shows the tokens that were spent until then."""
    for values in (
        [*messages, GOOSE_END],
        [{"messages": [one["message"] for one in messages], "metadata": GOOSE_END}],
    ):
        said = lacking(runtime, *values)
        assert said == (f"the last word is not its model's but {runtime}'s own: the model stopped answering" * cut)


def test_a_check_that_failed_is_named_though_goose_had_the_last_word() -> None:
    """It says so itself when its own try of the check failed."""
    own = said("Retry failed: 1 attempt", model=False)
    found = lacking("goose", said("Done."), own, GOOSE_END, unmet="`test -e x`: exit status 1")
    assert found == "the recipe's check `test -e x`: exit status 1"


GOOD = '{"ok": true}'
ANSWERS = [
    ("goose", [final_output(ok=True), *goose(GOOD, id="c2"), GOOSE_END]),
    ("goose", [final_output(ok=True), GOOSE_END]),
    ("goose", [*goose("Here: {", '"ok": ', "true} as asked"), GOOSE_END]),
    ("goose", [{"messages": [m["message"] for m in goose(GOOD)], "metadata": {"total_tokens": 3}}]),  # type: ignore[index]
    ("codex", [
        {"type": "item.completed", "item": {"type": "agent_message", "text": f"Done.\n```json\n{GOOD}\n```\n"}},
        {"type": "turn.completed", "usage": {"output_tokens": 2}},
    ]),
    ("claude", [{"type": "result", "is_error": False, "result": GOOD, "usage": {"output_tokens": 3}}]),
    ("claude", [
        {"type": "result", "result": "Done", "structured_output": {"ok": True}, "usage": {"output_tokens": 3}},
    ]),
    ("opencode", [
        {"type": "text", "part": {"text": f"Done: {GOOD}"}},
        {"type": "step_finish", "part": {"tokens": {"output": 3}}},
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("runtime", "output"), ANSWERS)
def test_an_answer_that_fits_is_proof(runtime: str, output: list[object]) -> None:
    assert lacking(runtime, *output, response=SCHEMA) == ""


@pytest.mark.parametrize(("runtime", "output"), ANSWERS)
def test_the_same_answer_against_another_schema_is_none(runtime: str, output: list[object]) -> None:
    said = lacking(runtime, *output, response=SCHEMA.replace("boolean", "string"))
    assert said == 'its answer is not what the recipe\'s response asks for: $.ok: true is not of type "string"'


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ([*goose("I could not do it."), GOOSE_END], "there is no JSON in it"),
        ([GOOSE_END], "there is no JSON in it"),
        ([*goose(GOOD), *goose("so be it", role="user"), *goose("On second thoughts, no."), GOOSE_END], "no JSON"),
        ([*goose(GOOD, id="c1"), *goose("No.", id="c2"), GOOSE_END], "no JSON"),
        ([*goose('{"ok": 1}'), GOOSE_END], '$.ok: 1 is not of type "boolean"'),
        ([*goose("{}"), GOOSE_END], '$: "ok" is a required property'),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(output: list[object], words: str) -> None:
    assert words in lacking("goose", *output, response=SCHEMA)


def test_a_runtime_of_the_fleets_own_answers_with_its_last_document() -> None:
    assert lacking("own", {"ok": False}, evidence="exit", response=SCHEMA) == ""
    assert '"ok" is a required' in lacking("own", {"ok": False}, {"no": 1}, evidence="exit", response=SCHEMA)


def test_a_schema_is_never_fetched() -> None:
    elsewhere = json.dumps({"$ref": "http://127.0.0.1:9/schema.json"})
    said = lacking("goose", *goose(GOOD), GOOSE_END, response=elsewhere)
    assert "the schema can't be used: Resource 'http://127.0.0.1:9/schema.json' is not present" in said


@pytest.mark.parametrize(
    ("schema", "answer", "words"),
    [
        ({"pattern": "^(a+)+$"}, json.dumps("a" * 5000 + "!"), '$: "aaa'),
        ({"pattern": r"(a|aa)+\1$"}, json.dumps("a" * 5000 + "!"), "Max limit for backtracking"),
        ({"pattern": "("}, '"x"', "the schema can't be used"),
        ({"$schema": "http://127.0.0.1:9/x", "type": "string"}, "1", "is not of type"),
        ({"$ref": "#"}, "1", ""),
        ({"type": "string"}, "[" * 100_000, "there is no JSON in it"),
        ({"type": "string"}, "9" * 100_000, "there is no JSON in it"),
        ({"items": {"$ref": "#"}, "type": "array"}, "[" * 500 + "1" + "]" * 500, "$[0][0]"),
    ],
)
def test_neither_answer_nor_schema_can_keep_or_break_the_runner(
    schema: dict[str, object], answer: str, words: str
) -> None:
    assert words in lacking("goose", *goose(answer), GOOSE_END, response=json.dumps(schema))


@pytest.mark.parametrize(("runtime", "output"), ANSWERS)
def test_last_words_are_what_a_person_would_read(runtime: str, output: list[object]) -> None:
    words = last_words(runtime, documents(lines(*output)))
    assert "\n{" not in words or "```" in words
    assert "item.completed" not in words
