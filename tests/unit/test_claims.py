"""Claims as comments: what is written is read again, nothing else is, and whoever came first holds the task."""

from hypothesis import given
from hypothesis import strategies as st

from tsched.model.task import Task, TaskStatus
from tsched.tasks.claims import Claim, End, Left, Remark, Standing, has_tag, parse, standing, status_of, tagged

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,10}", fullmatch=True)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text != "-")
COUNTS = st.integers(0, 1000)
CLAIMS = st.builds(
    Claim, run=NAMES, runner=NAMES, agent=WORDS, queue=WORDS | st.just(""), attempts=COUNTS, runs=COUNTS
)
ENDS = st.builds(
    End, run=NAMES, attempts=COUNTS, runs=COUNTS, not_before=st.integers(0, 2**33).map(float),
    left=st.builds(
        Left, status=st.sampled_from([*TaskStatus]).map(str), assigned_to=st.none() | WORDS, queue=WORDS | st.just("")
    ),
)  # fmt: skip


@given(CLAIMS)
def test_a_claim_is_read_as_it_was_written(claim: Claim) -> None:
    assert parse(claim.text()) == claim


@given(ENDS, st.text())
def test_an_end_is_read_as_it_was_written(end: End, words: str) -> None:
    assert parse(end.text(words)) == end


@given(st.text(), NAMES)
def test_what_a_run_remarks_is_no_claim_unless_it_was_one(text: str, tag: str) -> None:
    assert has_tag([Remark(id=1, text=tagged(text, tag))], tag)
    assert not has_tag([Remark(id=1, text=tagged(text, tag))], f"{tag}x")


def test_half_a_line_or_wrong_figures_are_no_word_of_ours() -> None:
    good = End(run="r", left=Left(status="idle", assigned_to=None, queue="dev")).text()
    assert parse(good) is not None
    for wrong in (
        "tsched-claim", "tsched-claim r1", "tsched-claim r1 runner=a", f" {good}", f"> {good}",
        good.replace("attempts=0", "attempts=x"), good.replace("left=idle:-:dev", "left=idle"),
    ):  # fmt: skip
        assert parse(wrong) is None, wrong


def _said(*words: Claim | End | str) -> list[Remark]:
    return [Remark(id=n, text=one if isinstance(one, str) else one.text()) for n, one in enumerate(words, 1)]


def _claim(run: str, runner: str) -> Claim:
    return Claim(run=run, runner=runner, agent="ada", queue="dev")


END = End(run="a1", attempts=1, runs=1, not_before=5.0, left=Left(status="idle", assigned_to=None, queue="dev"))


def test_the_first_runner_after_the_newest_end_holds_the_task() -> None:
    assert standing(_said("hello")) == Standing()
    assert standing(_said(_claim("a1", "a"), _claim("b1", "b"))).claim == _claim("a1", "a")
    assert standing(_said(_claim("a1", "a"), _claim("b1", "b"), END)) == Standing(end=END)
    assert standing(_said(_claim("a1", "a"), END, _claim("b1", "b"), _claim("a2", "a"))).claim == _claim("b1", "b")


def test_of_the_winners_claims_the_newest_counts_for_the_others_are_dead() -> None:
    assert standing(_said(_claim("a1", "a"), _claim("b1", "b"), _claim("a2", "a"))).claim == _claim("a2", "a")


@given(st.permutations(list(range(5))))
def test_the_order_of_ids_counts_not_that_of_the_answer(order: list[int]) -> None:
    said = _said(_claim("a1", "a"), END, _claim("b1", "b"), _claim("c1", "c"), "well")
    assert standing([said[index] for index in order]).claim == _claim("b1", "b")


def test_an_ends_figures_hold_while_the_task_is_as_it_was_left() -> None:
    task = Task(id="1", title="t", queue="dev")
    assert Standing(end=END).applied(task).attempts == 1
    assert Standing(end=END).applied(task).not_before == 5.0
    given_away = Task(id="1", title="t", queue="dev", assigned_to="ben")
    assert Standing(end=END).applied(given_away) == given_away
    reopened = End(run="a1", attempts=3, runs=3, left=Left(status="parked", assigned_to="parked", queue="dev"))
    assert Standing(end=reopened).applied(task) == task


def test_a_claim_carries_the_figures_on() -> None:
    claim = Claim(run="a2", runner="a", agent="ada", queue="dev", attempts=2, runs=4)
    task = Standing(claim=claim, end=END).applied(Task(id="1", title="t", queue="dev", status=TaskStatus.WORKING))
    assert (task.claim_run, task.claim_runner, task.attempts, task.runs) == ("a2", "a", 2, 4)


def test_statuses_that_the_server_does_not_have() -> None:
    assert status_of("idle", assigned_to="parked", archived=False) is TaskStatus.PARKED
    assert status_of("working", assigned_to="parked", archived=False) is TaskStatus.WORKING
    assert status_of("working", assigned_to="ada", archived=True) is TaskStatus.CANCELLED
