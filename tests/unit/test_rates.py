"""Percentiles, success rates and their intervals: against published figures, by value and by property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsched.schedule.rates import FEWEST, MATTERS, Interval, Rate, Shown, compare, newcombe, percentile, wilson


@pytest.mark.parametrize(
    ("percent", "expected"), [(5, 15.0), (30, 20.0), (40, 20.0), (50, 35.0), (95, 50.0), (100, 50.0)]
)
def test_a_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    """The worked example of Wikipedia's article on percentiles (15, 20, 35, 40, 50)."""
    assert percentile([50.0, 15.0, 40.0, 20.0, 35.0], percent) == expected


def test_no_values_have_no_percentile_and_0_is_none() -> None:
    assert percentile([], 50) is None
    with pytest.raises(ValueError, match="above 0"):
        percentile([1.0], 0)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 100))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], percent: int) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(one <= found for one in values) * 100 >= percent * len(values)
    assert sum(one < found for one in values) * 100 < percent * len(values)


@pytest.mark.parametrize(
    ("successes", "runs", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_as_published(successes: int, runs: int, low: float, high: float) -> None:
    """R. G. Newcombe, Two-sided confidence intervals for the single proportion, Stat. Med. 17 (1998), table I."""
    found = wilson(successes, runs)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@pytest.mark.parametrize(
    ("after", "before", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_newcombes_interval_is_as_published(
    after: tuple[int, int], before: tuple[int, int], low: float, high: float
) -> None:
    """R. G. Newcombe, Interval estimation for the difference …, Stat. Med. 17 (1998), table II, method 10."""
    one, other = (Rate(successes=k, runs=n) for k, n in (before, after))
    found = newcombe(one, other)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


rates = st.integers(0, 300).flatmap(lambda n: st.builds(Rate, successes=st.integers(0, n), runs=st.just(n)))


@given(rates)
def test_a_rate_lies_in_its_interval_and_that_between_0_and_1(rate: Rate) -> None:
    assert 0 <= rate.interval.low <= rate.interval.high <= 1
    assert rate.value is None or rate.value in rate.interval


@given(rates, rates)
def test_the_comparison_the_other_way_round_is_the_opposite(before: Rate, after: Rate) -> None:
    there, back = compare(before, after), compare(after, before)
    opposite = {Shown.BETTER: Shown.WORSE, Shown.WORSE: Shown.BETTER}
    assert back.verdict is opposite.get(there.verdict, there.verdict)
    assert back.difference.low == pytest.approx(-there.difference.high)
    assert there.verdict in (Shown.TOO_FEW, Shown.NO_DIFFERENCE) or 0 not in there.difference
    assert there.verdict is not Shown.NO_DIFFERENCE or MATTERS not in there.difference
    assert there.words.startswith(f"{there.verdict}: ")


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ((48, 80), (56, 70), Shown.BETTER),
        ((56, 70), (48, 80), Shown.WORSE),
        ((0, FEWEST - 1), (FEWEST, FEWEST), Shown.TOO_FEW),  # however plain it looks
        ((0, 0), (50, 50), Shown.TOO_FEW),
        ((8, 10), (9, 12), Shown.TOO_FEW),
        ((800, 1000), (810, 1000), Shown.NO_DIFFERENCE),
    ],
)
def test_the_verdict(before: tuple[int, int], after: tuple[int, int], verdict: Shown) -> None:
    one, other = (Rate(successes=k, runs=n) for k, n in (before, after))
    assert compare(one, other).verdict is verdict


def test_words_say_the_grounds() -> None:
    found = compare(Rate(successes=48, runs=80), Rate(successes=56, runs=70))
    assert found.words == "better: the difference lies between +5 and +33 percentage points (95% interval)"
    assert str(found.before) == "48 of 80 (60%, 95% interval 49% to 70%)"
    few = compare(Rate(successes=1, runs=1), Rate(successes=0, runs=0))
    assert few.words == "too few to tell: only 0 runs on a side, and 10 are the least"
    assert str(few.after) == "no runs"


def test_more_successes_than_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="can't be"):
        Rate(successes=2, runs=1)


def test_an_interval_has_its_ends() -> None:
    assert all(one in Interval(low=0.0, high=1.0) for one in (0.0, 1.0))
