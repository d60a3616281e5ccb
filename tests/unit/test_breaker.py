"""A recipe's breaker: when it trips, how long it rests, what closes it."""

from collections.abc import Iterable

import pytest

from tsched.model.run import Outcome
from tsched.schedule.breaker import COOL_DOWN, FAILURES, MOST, Breaker, after, allowed

CLOSED = Breaker(recipe="recipes/a.yaml", content="1")


def failed(tasks: Iterable[str], start: Breaker = CLOSED, *, now: float = 1000.0) -> Breaker:
    for task in tasks:
        start = after(start, Outcome.FAILED, task_id=task, now=now)
    return start


def test_failures_of_several_tasks_in_a_row_trip_it() -> None:
    assert not failed("1212").open
    tripped = failed("12121")
    assert tripped.until == 1000.0 + COOL_DOWN
    assert len("12121") == FAILURES


def test_one_bad_task_does_not_trip_it() -> None:
    assert not failed("1" * 50).open
    assert failed("2", failed("1" * 50)).open


@pytest.mark.parametrize("outcome", [Outcome.INTERRUPTED, Outcome.CANCELLED])
def test_what_we_stopped_does_not_count(outcome: Outcome) -> None:
    before = failed("1212")
    assert after(before, outcome, task_id="3", now=1000.0) == before


def test_unproven_counts_as_a_failure() -> None:
    assert after(failed("1212"), Outcome.UNPROVEN, task_id="3", now=1000.0).open


def test_a_success_closes_it() -> None:
    assert after(failed("1212"), Outcome.COMPLETE, task_id="3", now=1000.0) == CLOSED
    assert after(failed("12121"), Outcome.COMPLETE, task_id="3", now=1000.0) == CLOSED


def test_runs_that_began_before_the_rest_do_not_lengthen_it() -> None:
    tripped = failed("12121")
    assert failed("345", tripped, now=1001.0) == tripped


def test_each_failed_try_doubles_the_rest_up_to_a_bound() -> None:
    breaker, rests = failed("12121"), []
    for _ in range(8):
        now = breaker.until
        breaker = failed("1", breaker, now=now)
        rests.append(breaker.until - now)
    assert rests[:3] == [2 * COOL_DOWN, 4 * COOL_DOWN, 8 * COOL_DOWN]
    assert rests[-1] == MOST


def test_during_the_rest_none_may_start_and_then_one_at_a_time() -> None:
    tripped = failed("12121")
    assert allowed(None, running=3, now=0.0) is None
    assert allowed(failed("1212"), running=3, now=0.0) is None
    assert allowed(tripped, running=0, now=tripped.until - 1) == 0
    assert allowed(tripped, running=0, now=tripped.until) == 1
    assert allowed(tripped, running=1, now=tripped.until) == 0
