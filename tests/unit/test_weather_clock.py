"""A clock that was an hour ahead and jumps back: no wait is longer than it may be, nothing is held for ever."""

from dataclasses import replace

import pytest

from tsched.model.fleet import DrainPolicy, OnDeadline, Retry
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.run import Outcome
from tsched.model.task import Task
from tsched.schedule import breaker, drain
from tsched.schedule.order import order

NOW, HOUR = 1_700_000_000.0, 3600.0


def task(not_before: float) -> Task:
    return Task(id="1", title="t", queue="dev", not_before=not_before)


@pytest.mark.parametrize(
    ("wait", "failures", "ready"),
    [(0.0, 1, True), (1.0, 1, False), (30.0, 1, False), (31.0, 1, True), (31.0, 2, False), (HOUR, 9, False),
     (HOUR + 1, 9, True), (-HOUR, 1, True)],
)  # fmt: skip
def test_a_back_off_of_a_clock_that_was_ahead_is_over(wait: float, failures: int, ready: bool) -> None:
    """Of 30 s, 60 s, …, an hour at most."""
    waiting = replace(task(NOW + wait), attempts=failures)
    assert bool(order([waiting], now=NOW, retry=Retry()).ready) is ready
    assert bool(order([waiting], now=NOW).ready) is (wait <= 0)


def test_so_is_a_breakers_rest() -> None:
    tripped = breaker.Breaker(recipe="r", content="c", failures=5, tasks=("1", "2"), rests=1, until=NOW + 300)
    assert breaker.allowed(tripped, running=0, now=NOW) == 0
    ahead = replace(tripped, until=NOW + HOUR + 300)
    assert breaker.allowed(ahead, running=0, now=NOW) == 1
    after = breaker.after(ahead, Outcome.FAILED, task_id="3", now=NOW)
    assert after.until <= NOW + breaker.MOST, "what fails then counts again, by the clock as it is"


def test_a_drains_deadline_counts_from_when_the_clock_was_put_right() -> None:
    policy = DrainPolicy(deadline=600.0, on_deadline=OnDeadline.REQUEUE)
    row = Lifecycle(agent="ada", queue="dev", pool="dev", state=AgentState.DRAINING, since=NOW + HOUR, policy=policy)
    right = drain.put_right(row, NOW)
    assert right.deadline == NOW + 600.0
    assert drain.put_right(right, NOW + 60) == right, "once, not again and again"
    assert not drain.overdue(right, NOW + 599)
    assert drain.overdue(right, NOW + 600)
    active = Lifecycle(agent="ada", queue="dev", pool="dev")
    assert drain.put_right(active, NOW) == active
