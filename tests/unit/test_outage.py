"""Outages: asked ever less, said seldom, and a long wait earns a long rest."""

from itertools import pairwise

import pytest

from tsched.schedule.outage import LONGEST, REMIND, Outage, failed, rests, woken


def down(seconds: float, *, took: float = 0.0) -> list[Outage]:
    """What becomes of one who stays away, asked whenever that may be."""
    outages: list[Outage] = []
    now = 0.0
    while now < seconds:
        before = outages[-1] if outages else None
        assert not rests(before, now)
        outages.append(failed(before, "w", began=now, now=now + took))
        now = outages[-1].until
    return outages


def test_nobody_is_asked_again_before_its_time() -> None:
    outage = failed(None, "w", began=5.0, now=5.0)
    assert not rests(None, 5.0)
    assert (rests(outage, 5.9), rests(outage, 6.0)) == (True, False)


def test_it_is_asked_ever_less_up_to_a_bound() -> None:
    times = [0.0, *(one.until for one in down(600))]
    waits = [after - before for before, after in pairwise(times)]
    assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert max(waits) == LONGEST


def test_it_is_said_at_first_and_then_once_an_hour() -> None:
    said = [one.told for one in down(3 * REMIND) if one.told == one.until - min(LONGEST, 2.0 ** (one.failures - 1))]
    assert len(said) == 3
    assert said[0] == 0.0
    assert all(REMIND <= after - before < REMIND + LONGEST for before, after in pairwise(said))


def test_who_makes_us_wait_long_is_left_alone_for_as_long() -> None:
    assert [one.until for one in down(1000, took=120.0)][:3] == [240.0, 480.0, 720.0]


def test_a_time_that_the_other_side_names_is_kept() -> None:
    assert failed(None, "w", began=0.0, now=0.0, after=500.0).until == 500.0


@pytest.mark.parametrize("now", [10.0, 10.5])
def test_a_wish_is_heard_at_once_and_forgets_nothing(now: float) -> None:
    outage = down(10)[-1]
    after = woken(outage, now)
    assert not rests(after, now)
    assert (after.failures, after.told, after.since) == (outage.failures, outage.told, outage.since)
