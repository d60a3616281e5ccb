"""Waiting for slots: Erlang C against published figures, exact fractions and a simulation; and the advice."""

import heapq
import math
import random
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsched.model.fleet import Agent, Pool
from tsched.schedule.capacity import Demand, advise, measured, present_slots, share
from tsched.schedule.queueing import delay, delays, mean_wait, slots_for

HOUR = 3600.0


def textbook(slots: int, load: Fraction) -> Fraction:
    """Erlang C as it is defined, in exact fractions."""
    full = load**slots / math.factorial(slots) * slots / (slots - load)
    return full / (sum(load**k / math.factorial(k) for k in range(slots)) + full)


@pytest.mark.parametrize(("slots", "load"), [(1, 0.5), (2, 1.5), (14, 10), (55, 48), (150, 149.5), (400, 380.25)])
def test_erlang_c_is_what_its_definition_says(slots: int, load: float) -> None:
    assert delay(slots, load) == pytest.approx(float(textbook(slots, Fraction(load))), rel=1e-12)


def test_waits_are_as_published() -> None:
    """An eye clinic of 3 doctors, 6 patients an hour, 20 minutes each: 8/9 wait on average.

    D. Gross and C. M. Harris, Fundamentals of Queueing Theory, 2.3. And 3 servers, 300 a year, 2 days each of 365:
    0.352 wait, for 0.43 days (R. Bronson, Schaum's Outline of Operations Research, problem 24.6).
    """
    assert mean_wait(3, 2.0, HOUR / 3) * 6 / HOUR == pytest.approx(8 / 9)
    assert delay(3, 2.0) == pytest.approx(4 / 9)
    days = mean_wait(3, 300 * 2 / 365, 2.0)
    assert (round(days, 2), round(days * 300 / 365, 3)) == (0.43, 0.352)


def test_one_slot_is_the_formula_of_pollaczek_and_khinchine() -> None:
    assert mean_wait(1, 0.5, 10.0) == pytest.approx(10.0)  # M/M/1: ρ/(1-ρ) of a run
    assert mean_wait(1, 0.5, 10.0, variation=0.0) == pytest.approx(5.0)  # M/D/1: half of that


def test_thousands_of_slots_neither_overflow_nor_vanish() -> None:
    assert 0.4 < delay(10_000, 9_950.0) < 0.7  # near the limit of Halfin and Whitt, β = 0.5: 0.505
    assert delay(5_000, 1.0) == 0.0
    assert slots_for(5_000.0, 60.0, 1.0, wait=6.0) in range(5_001, 5_100)


def test_erlang_c_meets_the_limit_of_halfin_and_whitt() -> None:
    """S. Halfin and W. Whitt, Heavy-traffic limits for queues with many exponential servers (1981), theorem 1."""
    beta, slots = 0.5, 1_000_000
    density = math.exp(-(beta**2) / 2) / math.sqrt(2 * math.pi)
    distribution = (1 + math.erf(beta / math.sqrt(2))) / 2
    limit = 1 / (1 + beta * distribution / density)
    assert delay(slots, slots - beta * math.sqrt(slots)) == pytest.approx(limit, rel=1e-3)


@pytest.mark.parametrize(
    ("slots", "load", "variation"), [(1, 0.7, 1.0), (4, 3.2, 1.0), (4, 3.2, 0.0), (12, 10.0, 1.0)]
)
def test_a_simulated_queue_waits_as_long(slots: int, load: float, variation: float) -> None:
    """300,000 tasks through a real first-come queue. 5 % for exact formulas, 8 % for the approximation."""
    chance = random.Random(7)
    free = [0.0] * slots
    now = waited = 0.0
    number = 300_000
    for _ in range(number):
        now += chance.expovariate(load)
        start = max(now, heapq.heappop(free))
        waited += start - now
        heapq.heappush(free, start + (chance.expovariate(1.0) if variation else 1.0))
    tolerance = 0.05 if variation == 1.0 or slots == 1 else 0.08
    assert waited / number == pytest.approx(mean_wait(slots, load, 1.0, variation), rel=tolerance)


@given(st.floats(0.01, 200.0), st.integers(1, 300))
def test_more_slots_wait_less_and_more_load_longer(load: float, slots: int) -> None:
    assert mean_wait(slots + 1, load, 1.0) <= mean_wait(slots, load, 1.0)
    assert mean_wait(slots, load * 1.01, 1.0) >= mean_wait(slots, load, 1.0)
    assert all(0.0 <= probability <= 1.0 for _, probability in islice(delays(load), 20))


@given(st.floats(0.01, 60.0), st.floats(0.001, 5.0), st.floats(0.05, 1.0), st.floats(0.0, 3.0))
def test_the_slots_are_the_fewest_that_do(load: float, wait: float, busy: float, variation: float) -> None:
    slots = slots_for(load, 1.0, variation, wait=wait, busy=busy)
    assert mean_wait(slots, load, 1.0, variation) <= wait
    assert load <= busy * slots
    assert mean_wait(slots - 1, load, 1.0, variation) > wait or load > busy * (slots - 1)


weighted = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1e6), min_size=1)


@given(weighted, st.integers(0, 60), st.integers(0, 3))
def test_a_share_adds_up_and_keeps_the_order(weights: dict[str, float], total: int, least: int) -> None:
    parts = share(total, weights, least=least)
    assert parts.keys() == weights.keys()
    assert sum(parts.values()) == total
    assert min(parts.values()) >= min(least, total // len(weights))
    for one, weight in weights.items():
        assert all(parts[one] >= parts[other] for other, less in weights.items() if less < weight)


def test_a_share_is_in_proportion() -> None:
    assert share(10, {"ada": 3, "ben": 1, "cy": 1}) == {"ada": 6, "ben": 2, "cy": 2}
    assert share(3, {"ada": 9, "ben": 0}) == {"ada": 2, "ben": 1}
    assert share(1, {"ada": 1, "ben": 2}) == {"ada": 0, "ben": 1}
    assert share(4, {}) == {}


def pool(*limits: int, cap: int | None = None) -> Pool:
    agents = tuple(Agent(name=name, limit=n, recipe="r") for name, n in zip("abcdef", limits, strict=False))
    return Pool(name="dev", queue="dev", agents=agents, max_running=cap)


GUIDE = Demand(queue="dev", window=HOUR, arrivals=30, runs=40, duration=HOUR / 3)
"""The operations guide's example: 30 tasks an hour of 20 minutes each."""


def test_the_guides_example_needs_ten_slots_and_not_ninety() -> None:
    advice = advise(GUIDE, pool(6, 6))
    assert advice.load == pytest.approx(10.0)
    assert advice.utilisation == pytest.approx(10 / 12)
    assert advice.wait == pytest.approx(mean_wait(12, 10.0, HOUR / 3))
    law = next(one for one in advice.reasoning if "Little" in one)
    assert "30 an hour × 0.333 hours = 10." in law
    assert "divides by the duration where it must multiply; it would say 90." in law


def test_the_advice_is_the_fewest_slots_within_a_tenth_of_a_run_in_proportion() -> None:
    advice = advise(GUIDE, pool(2, 1))
    assert advice.grows
    assert advice.wait is None
    assert advice.recommended == slots_for(10.0, HOUR / 3, 1.0, wait=120.0) == 13
    assert advice.limits == {"a": 9, "b": 4}
    assert advice.wait_then is not None
    assert advice.wait_then <= 120.0
    assert any("grows without end, by about 21 tasks an hour" in one for one in advice.reasoning)
    assert any("13 slots are the fewest" in one for one in advice.reasoning)


def test_a_target_for_use_alone_looks_at_no_wait() -> None:
    assert advise(GUIDE, pool(9), busy=0.8).recommended == 13
    assert advise(GUIDE, pool(9), busy=0.8, wait=1.0).recommended == 20
    with pytest.raises(ValueError, match="no number"):
        advise(GUIDE, pool(9), busy=1.5)


def test_exactly_as_many_slots_as_the_load_is_too_few() -> None:
    advice = advise(GUIDE, pool(10))
    assert advice.grows
    assert any("no more than the 10 it needs: its queue grows without end." in one for one in advice.reasoning)


def test_caps_count_and_are_said_to_be_in_the_way() -> None:
    advice = advise(GUIDE, pool(9, 9, cap=12), fleet_cap=11)
    assert (advice.slots, advice.max_running) == (11, 13)
    assert any("max_running of 12 has to be raised to 13" in one for one in advice.reasoning)
    assert any("The fleet's max_running of 11" in one for one in advice.reasoning)
    assert advise(GUIDE, pool(9, 9, cap=13)).max_running is None


def test_agents_with_limit_0_stay_so_unless_all_are() -> None:
    assert advise(GUIDE, pool(1, 0)).limits == {"a": 13}
    assert advise(GUIDE, pool(0, 0)).limits == {"a": 7, "b": 6}


def test_a_slot_for_each_agent_is_the_least() -> None:
    quiet = Demand(queue="dev", window=HOUR, arrivals=1, runs=1, duration=10.0)
    advice = advise(quiet, pool(3, 3, 3))
    assert advice.limits == {"a": 1, "b": 1, "c": 1}
    assert any("take all this as a guess" in one for one in advice.reasoning)


def test_a_queue_nobody_serves_has_needs_but_no_agents() -> None:
    advice = advise(GUIDE, None)
    assert (advice.pool, advice.slots, advice.recommended, advice.limits) == (None, 0, 13, {})
    assert any("No pool serves the queue dev" in one for one in advice.reasoning)
    assert present_slots(None, 5) == 0


@pytest.mark.parametrize(("arrivals", "durations"), [(0, [5.0]), (4, [])])
def test_without_arrivals_or_runs_nothing_is_advised(arrivals: int, durations: list[float]) -> None:
    advice = advise(measured("dev", window=HOUR, arrivals=arrivals, durations=durations), pool(2))
    assert (advice.recommended, advice.limits, advice.changed, advice.grows) == (None, {}, False, False)
    assert len(advice.reasoning) == 1


def test_what_is_measured() -> None:
    found = measured("dev", window=HOUR, arrivals=6, durations=[10.0, 20.0, 30.0], tasks=2)
    assert (found.duration, found.runs, found.runs_per_task) == (20.0, 3, 1.5)
    assert found.variation == pytest.approx(math.sqrt(200 / 3) / 20)
    assert found.load == pytest.approx(6 / HOUR * 1.5 * 20)
    assert measured("dev", window=HOUR, arrivals=1, durations=[3.0]).variation == 1.0
    with pytest.raises(ValueError, match="window"):
        measured("dev", window=0, arrivals=1, durations=[])
