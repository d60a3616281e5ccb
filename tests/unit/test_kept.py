"""Answers that are kept between passes: given again for the very same things, found out anew for any other."""

from collections.abc import Sequence

from tsched.model.task import Task
from tsched.runner import backlog
from tsched.runner.kept import Kept


def task(number: str, *, not_before: float = 0.0) -> Task:
    return Task(id=number, title="t", queue="dev", not_before=not_before)


def test_the_same_things_are_asked_about_once() -> None:
    kept, asked = Kept(), []

    def ask(things: Sequence[int], number: int) -> int:
        asked.append(number)
        return sum(things) + number

    things = [1, 2]
    assert [kept(ask, things, 1000), kept(ask, things, int("1000"))] == [1003, 1003]
    assert asked == [1000]
    assert kept(ask, [1, 2], 1000) == 1003, "equal, but another object: it might differ in what is not seen here"
    assert kept(ask, things, 7) == 10
    assert asked == [1000, 1000, 7]
    assert [kept(ask, things, 7, of="other"), kept(ask, things, 7)] == [10, 10]
    kept.forget()
    kept(ask, things, 7)
    assert asked == [1000, 1000, 7, 7, 7]


def test_a_task_that_backs_off_is_ready_on_time_though_nobody_wrote() -> None:
    kept, waiting = Kept(), [task("1"), task("2", not_before=50.0)]
    early = backlog.ordered(kept, waiting, 49.9, blocking=True)
    assert [one.id for one in early.ready] == ["1"]
    assert backlog.ordered(kept, waiting, 49.95, blocking=True) is early
    assert [one.id for one in backlog.ordered(kept, waiting, 50.0, blocking=True).ready] == ["1", "2"]
    assert [one.id for one in backlog.ordered(kept, waiting, 10.0, blocking=True).ready] == ["1"], "a clock set back"
