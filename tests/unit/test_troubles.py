"""Errors that are alike, and samples that say something new."""

import pytest

from tests.integration.test_state_passes import sample
from tsched.model.history import Trouble
from tsched.model.units import iso, since
from tsched.runner.chronicle import SAMPLED, fresh_samples, histogram
from tsched.schedule.troubles import by_kind


def trouble(time: float, message: str, kind: str = "start") -> Trouble:
    return Trouble(time=time, kind=kind, message=message)


def test_messages_that_differ_in_names_and_numbers_are_one_kind() -> None:
    found = by_kind(
        [
            trouble(1, "task 7: agent 'ada' has no program"),
            trouble(2, "Revision 0a1b2c3d4e5f rejected", "revision"),
            trouble(3, "task 12: agent 'bob' has no program"),
        ]
    )
    assert [(one.number, one.kind, one.first, one.last) for one in found] == [
        (2, "start", 1, 3),
        (1, "revision", 2, 2),
    ]
    assert found[0].example == "task 12: agent 'bob' has no program"


def test_the_same_words_of_another_kind_are_another_kind() -> None:
    assert len(by_kind([trouble(1, "down", "remote"), trouble(1, "down", "task-server")])) == 2


def test_a_depth_is_kept_when_it_changed_and_once_a_minute() -> None:
    known = {"dev": sample(100.0, idle=3)}
    assert fresh_samples(known, [sample(101.0, idle=3)]) == []
    assert fresh_samples(known, [sample(100.0 + SAMPLED, idle=3)]) != []
    assert fresh_samples(known, [sample(101.0, idle=4)]) != []
    assert fresh_samples(known, [sample(101.0, idle=3, oldest=7.0)]) != []
    assert fresh_samples(known, [sample(101.0, "qa", 3)]) != []


def test_an_observation_counts_in_each_bucket_that_holds_it() -> None:
    found = {(one.name, one.labels.get("le")): one.value for one in histogram("s", 0.5, (0.1, 0.5, 1.0), {})}
    assert found == {
        ("s_bucket", "0.1"): 0, ("s_bucket", "0.5"): 1, ("s_bucket", "1"): 1, ("s_sum", None): 0.5,
        ("s_count", None): 1,
    }  # fmt: skip


def test_since_is_an_age_or_a_time() -> None:
    assert since("1h", 10_000.0) == 6400.0
    assert since(iso(5000.0), 10_000.0) == 5000.0
    with pytest.raises(ValueError, match="yet to come"):
        since(iso(10_001.0), 10_000.0)
    with pytest.raises(ValueError, match="is no time"):
        since("9" * 400 + "d", 10_000.0)
