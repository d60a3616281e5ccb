"""Answers that are kept between passes: given again for the very same things, found out anew for any other."""

from collections.abc import Sequence

from tsched.model.fleet import Agent, Fleet, Pool, Retry
from tsched.model.kept import Kept
from tsched.model.task import Task
from tsched.runner import backlog
from tsched.runner.roster import homes, names
from tsched.schedule.order import Ordered, order


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
    kept.forget({"other"})
    assert [kept(ask, things, 7, of="other"), kept(ask, things, 7)] == [10, 10]
    assert asked == [1000, 1000, 7, 7, 7], "what is not gone is still known"


def test_of_many_things_those_are_asked_about_that_are_new() -> None:
    kept, asked = Kept(), []

    def ask(thing: list[int], number: int) -> int:
        asked.append(thing[0])
        return thing[0] + number

    one, two, three = [1], [2], [3]
    assert kept.each(ask, (one, two), 10) == [11, 12]
    assert kept.each(ask, (two, three, one), 10) == [12, 13, 11]
    assert asked == [1, 2, 3]
    assert kept.each(ask, (three, [1]), 10) == [13, 11], "equal, but another object"
    assert kept.each(ask, (one, three, one), 10) == [11, 13, 11], "who was not there the last time is new"
    assert asked == [1, 2, 3, 1, 1, 1]
    assert kept.each(ask, (three,), 20) == [23]
    assert [kept.each(ask, (three,), 20), kept.each(ask, (three,), 20, of="other")] == [[23], [23]]
    assert asked == [1, 2, 3, 1, 1, 1, 3, 3]


def test_a_task_that_backs_off_is_ready_on_time_though_nobody_wrote() -> None:
    kept, waiting = Kept(), [task("1"), task("2", not_before=50.1)]
    retry = Retry(backoff=30.1)

    def ready(now: float) -> Ordered:
        return backlog.ordered(kept, waiting, now, blocking=True, retry=retry)

    assert ready(49.95) is ready(50.05), "found out once"
    for now in (0.0, 19.9, 20.01, 21.0, 50.05, 50.1, 60.0, 25.0, 10.0):  # also where the clock is set back
        assert ready(now) == order(waiting, now=now, retry=retry), now
    assert [len(ready(now).ready) for now in (19.9, 25.0, 50.1)] == [2, 1, 2]


def test_names_and_homes_are_the_same_objects_until_one_of_them_changes() -> None:
    """Host files may give a queue any name."""

    def fleet(limit: int, *agents: str) -> Fleet:
        own = tuple(Agent(name=name, recipe="r", limit=limit) for name in agents)
        return Fleet(revision="", pools=(Pool(name="p", queue="my queue\nx", agents=own), Pool(name="q", queue="q")))

    kept = Kept()
    first, second, third = fleet(1, "a", "b"), fleet(2, "a", "b"), fleet(2, "a")
    was, at_home = names(kept, first, of="x"), homes(kept, first, of="x")
    assert (was, at_home) == (("a", "b"), {"a": "my queue\nx", "b": "my queue\nx"})
    assert names(kept, second, of="x") is was
    assert homes(kept, second, of="x") is at_home
    assert (names(kept, third, of="x"), homes(kept, third, of="x")) == (("a",), {"a": "my queue\nx"})
