"""Finished runs taken together: groups, failures by kind, bars over time, queues, arrivals, revisions compared."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.work import result, run
from tsched.model.fleet import Agent, Fleet, Limits, Pool, Retry
from tsched.model.history import Sample
from tsched.model.run import ExitReason, Outcome, RunResult, Usage
from tsched.model.task import QueueDepth, Task, TaskStatus
from tsched.schedule.depth import Depth, depths
from tsched.schedule.fared import fared, fared_by
from tsched.schedule.forecast import forecast, uses
from tsched.schedule.queues import arrivals, queue_work
from tsched.schedule.rates import Rate, Shown
from tsched.schedule.recovery import judge
from tsched.schedule.report import work_report
from tsched.schedule.timeline import MOST_BARS, Window, bars, bins, step_of
from tsched.schedule.workload import By, Spread, grouped, spread, succeeded, summary, took, waited, why

HOUR = Window(since=1000.0, until=4600.0)


def sample(time: float, idle: int, *, queue: str = "dev", oldest: float | None = None) -> Sample:
    return Sample(time=time, queue=queue, idle=idle, blocked=0, working=0, oldest=oldest)


@st.composite
def results(draw: st.DrawFn) -> list[RunResult]:
    """Some runs of several agents, in and around HOUR, oldest first."""
    made = [
        result(
            f"r{number}",
            at=draw(st.floats(0, 5000)),
            took=draw(st.floats(0, 3000)),
            outcome=draw(st.sampled_from(list(Outcome))),
            started=draw(st.booleans()),
            agent=draw(st.sampled_from(("ada", "ben"))),
            queue=draw(st.sampled_from(("dev", "qa"))),
            recipe=draw(st.sampled_from(("recipes/a.yaml", "recipes/b.yaml"))),
            task_id=str(number),
            first=draw(st.booleans()),
            usage=draw(
                st.none() | st.builds(Usage, total_tokens=st.integers(0, 9), cost_usd=st.none() | st.just(1.0))
            ),
        )
        for number in range(draw(st.integers(0, 5)))
    ]
    return sorted(made, key=lambda one: one.exit.ended_at)


@given(results(), st.sampled_from(list(By)))
def test_groups_add_up_to_the_whole(runs: list[RunResult], by: By) -> None:
    whole, parts = summary(runs), [summary(one) for one in grouped(runs, by).values()]
    assert sum(one.runs for one in parts) == whole.runs == len(runs)
    assert sum((Counter(one.outcomes) for one in parts), Counter()) == Counter(whole.outcomes) + Counter()
    assert sum(one.tasks for one in parts) == whole.tasks
    assert sum(one.usage.total_tokens for one in parts if one.usage) == (
        whole.usage.total_tokens if whole.usage else 0
    )
    assert sum(one.durations.number for one in parts if one.durations) == (
        whole.durations.number if whole.durations else 0
    )
    assert sum(kind.runs for one in parts for kind in one.failures) == whole.failed.successes


@given(
    st.lists(
        st.builds(
            Usage,
            input_tokens=st.integers(0, 9),
            output_tokens=st.integers(0, 9),
            total_tokens=st.integers(0, 9),
            cost_usd=st.none() | st.integers(0, 9).map(float),
        )
    )
)
def test_what_was_spent_is_the_sum(spent: list[Usage]) -> None:
    runs = [result(str(number), usage=one) for number, one in enumerate(spent)]
    assert summary(runs).usage == (sum(spent, Usage()) if spent else None)


def test_a_rate_leaves_out_what_was_ended_from_outside() -> None:
    ended = [Outcome.COMPLETE, Outcome.COMPLETE, Outcome.FAILED, Outcome.UNPROVEN, Outcome.INTERRUPTED,
             Outcome.CANCELLED]  # fmt: skip
    runs = [result(str(number), outcome=outcome) for number, outcome in enumerate(ended)]
    assert summary(runs).failed == Rate(successes=2, runs=4)
    assert succeeded(runs) == Rate(successes=2, runs=4)


def test_durations_are_of_started_runs_and_waits_of_first_ones() -> None:
    assert took(result(at=10.0, took=5.0)) == 5.0
    assert took(result(at=10.0, took=5.0, started=False)) is None
    assert waited(result(at=10.0, first=True, queued_at=4.0)) == 6.0
    assert waited(result(at=10.0, first=False, queued_at=4.0)) is None
    assert waited(result(at=10.0, first=True)) is None, "the task's age is not known"
    assert spread([None, 1.0, 2.0, 9.0]) == Spread(number=3, mean=4.0, p50=2.0, p95=9.0)
    assert spread([None]) is None


def test_failures_that_differ_in_names_alone_are_one_kind() -> None:
    def failed(name: str, reason: str, **rest: object) -> RunResult:
        return result(name, outcome=Outcome.FAILED, reason=reason, **rest)  # type: ignore[arg-type]

    runs = [
        failed("a", "exited with 3 after task 7", exit_code=3),
        failed("b", "exited with 3 after task 8", exit_code=3),
        failed("c", "exited with 3 after task 8", exit_code=4),
        failed("d", "ran over", exit_code=143, exit_reason=ExitReason.TIMEOUT),
        result("e", outcome=Outcome.INTERRUPTED, reason="ran over"),
    ]
    kinds = summary(runs).failures
    assert [(one.runs, one.reason, one.exit_code) for one in kinds] == [(2, "exited", 3), (1, "exited", 4),
                                                                        (1, "timeout", 143)]  # fmt: skip
    assert kinds[0].example == "exited with 3 after task 8", "the newest"


@given(st.integers(1, 3), st.integers(0, 9), st.sampled_from(("", "a detail (of its own)")))
def test_what_recovery_adds_of_the_task_is_no_part_of_why(attempts: int, earlier: int, detail: str) -> None:
    ended = result(outcome=Outcome.FAILED, exit_code=3, exit_reason=ExitReason.TIMEOUT)
    task = Task(id="1", title="t", queue="dev", status=TaskStatus.WORKING, assigned_to="ada", attempts=earlier)
    retry = Retry(attempts=attempts, backoff=30.0)
    end = replace(ended.exit, detail=detail)
    decided = judge(exit=end, run=ended.run, task=task, missing="", retry=retry, now=5.0)
    assert why(decided.reason) == "max_runtime passed" + (f": {detail}" if detail else "")


@given(results(), st.sampled_from((60.0, 300.0, 3600.0)))
def test_every_run_that_ended_in_the_window_is_in_one_bar(runs: list[RunResult], step: float) -> None:
    drawn = bars(runs, HOUR, step)
    assert sum(bar.total for bar in drawn) == sum(HOUR.since <= one.exit.ended_at <= HOUR.until for one in runs)
    assert drawn[0].start <= HOUR.since < drawn[0].start + step
    assert drawn[-1].start <= HOUR.until < drawn[-1].start + step


@given(st.floats(1, 400 * 86400.0))
def test_bars_stay_few(window: float) -> None:
    assert len(bars([], Window(since=5.0, until=5.0 + window), step_of(window))) <= MOST_BARS


def test_durations_fall_into_growing_bins_without_empty_ends() -> None:
    found = bins([0.05, 1.0, 2.9, 200_000.0])
    assert (found[0].low, found[0].runs) == (0.0, 1)
    assert {one.low: one.runs for one in found if one.runs} == {0.0: 1, 1.0: 2, 86400.0: 1}
    assert bins([]) == ()
    assert len(bins([15.0])) == 1


# depth


@st.composite
def points(draw: st.DrawFn) -> list[Sample]:
    times = draw(st.lists(st.floats(0, 5000), min_size=1, max_size=8, unique=True))
    return [sample(time, draw(st.integers(0, 50))) for time in sorted(times)]


def test_an_average_is_weighted_by_time_not_by_samples() -> None:
    depth = depths([sample(0.0, 10), sample(90.0, 0), sample(91.0, 0), sample(92.0, 0)])["dev"]
    assert depth.mean(0.0, 100.0) == pytest.approx(9.0)
    assert depth.mean(80.0, 100.0) == pytest.approx(5.0)
    assert (depth.at(89.9), depth.at(90.0), depth.at(1e9)) == (10, 0, 0), "a sample stands until the next"
    assert depth.most(Window(since=95.0, until=99.0)) == 0
    assert depth.most(Window(since=50.0, until=99.0)) == 10


def test_before_the_first_sample_nothing_is_known() -> None:
    depth = depths([sample(50.0, 4)])["dev"]
    assert depth.at(49.0) is None
    assert depth.mean(0.0, 49.0) is None
    assert depth.mean(0.0, 100.0) == 4.0, "of the part that is known"
    assert depth.means(Window(since=0.0, until=100.0), 4) == (None, None, 4.0, 4.0)
    assert Depth().most(HOUR) is None
    assert Depth().mean(0.0, 1.0) is None


@given(points(), st.floats(0, 5000), st.floats(0, 5000), st.floats(0, 1))
def test_an_average_lies_between_its_ends_and_is_the_average_of_its_parts(
    found: list[Sample], one: float, other: float, cut: float
) -> None:
    since, until = sorted((max(one, found[0].time), max(other, found[0].time)))
    depth = depths(found)["dev"]
    mean = depth.mean(since, until)
    assert mean is not None
    most = depth.most(Window(since=since, until=until))
    assert most is not None
    assert min(point.idle for point in found) - 1e-6 <= mean <= most + 1e-6
    middle = since + cut * (until - since)
    left, right = depth.mean(since, middle), depth.mean(middle, until)
    assert left is not None
    assert right is not None
    assert left * (middle - since) + right * (until - middle) == pytest.approx(mean * (until - since), abs=1e-3)


# queues


def test_a_queue_shows_what_was_started_ended_and_waits() -> None:
    ended = [
        result("a", at=900.0, took=200.0),  # started before the window
        result("b", at=1500.0, outcome=Outcome.FAILED),
        result("c", at=1500.0, queue="qa"),
    ]
    live = [run("d", at=2000.0), run("e", at=2000.0, queue="qa")]
    found = queue_work(
        "dev", HOUR, now=QueueDepth(name="dev", idle=3, blocked=1), depth=depths([sample(1000.0, 2)])["dev"],
        last=sample(4000.0, 2, oldest=3600.0), results=ended, live=live,
    )  # fmt: skip
    assert (found.assigned, found.outcomes[Outcome.COMPLETE], found.outcomes[Outcome.FAILED]) == (2, 1, 1)
    assert (found.average, found.most, found.oldest, found.per_hour) == (2.0, 2, 1000.0, 1.0)
    assert found.series == (2.0,) * len(found.series)


def test_nothing_that_only_is_blocked_has_waited() -> None:
    blocked = QueueDepth(name="dev", idle=1, blocked=1)
    found = queue_work(
        "dev", HOUR, now=blocked, depth=Depth(), last=sample(4000.0, 2, oldest=3600.0), results=[], live=[]
    )
    assert found.oldest is None


def test_without_the_task_servers_word_the_last_sample_is_what_is_known() -> None:
    found = queue_work("dev", HOUR, now=None, depth=Depth(), last=sample(1.0, 7), results=[], live=[])
    assert found.now == QueueDepth(name="dev", idle=7)


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 2000)), max_size=20))
def test_what_came_is_what_was_started_plus_the_growth(tasks: list[tuple[float, float]]) -> None:
    """Tasks come, and are started once after some wait; the depth is sampled at each change."""
    window = Window(since=200.0, until=800.0)
    moments = sorted({0.0, *(time for came, wait in tasks for time in (came, came + wait))})
    seen = [sample(now, sum(came <= now < came + wait for came, wait in tasks)) for now in moments]
    runs = [run(str(number), at=came + wait, first=True) for number, (came, wait) in enumerate(tasks)]
    found = arrivals(window, depths(seen)["dev"], runs)
    assert found.number == sum(window.since < came <= window.until for came, _ in tasks)


def test_arrivals_are_counted_where_the_depth_is_known_alone() -> None:
    runs = [run("a", at=1500.0, first=True), run("b", at=3000.0, first=True), run("c", at=3000.0)]
    late = arrivals(HOUR, depths([sample(2000.0, 5), sample(4000.0, 4)])["dev"], runs)
    assert (late.window.since, late.started, late.growth, late.number) == (2000.0, 1, -1, 0)
    assert late.words.startswith("1 task had its first run in the 43m that are known and the queue shrank by 1")
    unknown = arrivals(HOUR, Depth(), runs)
    assert (unknown.window, unknown.started, unknown.growth, unknown.number) == (HOUR, 2, None, 2)
    assert "not recorded" in unknown.words


# advice


def dev(limit: int = 2, max_running: int | None = None) -> Fleet:
    pool = Pool(name="dev", queue="dev", agents=(Agent(name="ada", limit=limit, recipe="recipes/ada.yaml"),))
    return Fleet(revision="r", pools=(pool,), limits=Limits(max_running=max_running))


def test_a_queues_demand_is_its_arrivals_times_its_durations() -> None:
    ended = [result(str(n), at=1000.0 + 60 * n, took=120.0, first=True, task_id=str(n), queued_at=940.0 + 60 * n)
             for n in range(1, 31)]  # fmt: skip
    depth = depths([sample(1000.0, 0)])["dev"]
    found = forecast("dev", HOUR, fleet=dev(), depth=depth, results=ended, live=[])
    assert found.advice.load == pytest.approx(1.0)
    assert found.advice.slots == 2
    assert found.advice.utilisation == pytest.approx(0.5)
    assert found.waits == Spread(number=30, mean=60.0, p50=60.0, p95=60.0)
    assert found.missing == ()
    assert forecast("dev", HOUR, fleet=dev(max_running=1), depth=depth, results=ended, live=[]).advice.grows


def test_what_is_missing_is_said() -> None:
    window = Window(since=4600.0, until=4600.0, asked=0.0)
    found = forecast("dev", window, fleet=dev(), depth=Depth(), results=[], live=[])
    assert len(found.missing) == 3
    assert found.advice.recommended is None


def test_an_agents_use_is_its_time_in_the_window_in_all_queues() -> None:
    ended = [
        result("a", at=500.0, took=600.0),  # 100 s of it in the window
        result("b", at=2000.0, took=50.0, queue="qa", outcome=Outcome.UNPROVEN),
        result("c", at=2000.0, took=50.0, agent="ben"),
    ]
    (ada,) = uses(dev().pools[0], HOUR, ended, [run("d", at=4500.0)])
    assert ada.busy == pytest.approx(250.0)
    assert (ada.agent, ada.limit, ada.runs, ada.failed) == ("ada", 2, 3, 1)


# revisions


def outcomes(good: int, bad: int, **rest: object) -> list[RunResult]:
    return [
        result(str(number), outcome=Outcome.COMPLETE if number < good else Outcome.FAILED, **rest)  # type: ignore[arg-type]
        for number in range(good + bad)
    ]


def test_two_revisions_differ_where_their_rates_or_recipes_do() -> None:
    assert fared(outcomes(19, 1), outcomes(5, 15)).comparison.verdict is Shown.WORSE
    few = fared(outcomes(2, 0), outcomes(0, 2))
    assert (few.comparison.verdict, few.differs) == (Shown.TOO_FEW, False)
    assert fared(outcomes(2, 0, content="1"), outcomes(2, 0, content="2")).differs
    assert not fared([], outcomes(2, 0, content="2")).differs
    by = fared_by(outcomes(1, 0, queue="dev"), outcomes(1, 0, queue="qa"), By.QUEUE)
    assert {name: (one.before.runs, one.after.runs) for name, one in by.items()} == {"dev": (1, 0), "qa": (0, 1)}


def test_a_report_of_nothing_is_a_report() -> None:
    made = work_report(HOUR, [], [], by=[By.POOL])
    assert (made.whole.runs, made.groups, made.bins, made.depths) == (0, {By.POOL: {}}, (), ())
