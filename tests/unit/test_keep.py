"""Which logs are compressed and which go, by name and age."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tsched.schedule.keep import Chores, daily_logs, run_logs

TODAY = date(2026, 3, 1)
DAY = 86_400.0


def named(days_ago: int, suffix: str = "") -> str:
    return f"scheduler_{TODAY - timedelta(days=days_ago):%Y%m%d}.log{suffix}"


def test_today_and_yesterday_stay_plain() -> None:
    names = [named(0), named(1), named(2), named(3, ".gz"), named(30), named(31), named(31, ".gz"), named(-1)]
    assert daily_logs(names, today=TODAY, keep_days=30) == Chores(
        compress=(named(30), named(2)), remove=(named(31), named(31, ".gz"))
    )


def test_what_is_no_log_of_a_day_is_left_alone() -> None:
    names = ["scheduler_20259999.log", "scheduler_2025.log", "notes.txt", "scheduler_20200101.log.bak", ".cared"]
    assert daily_logs(names, today=TODAY, keep_days=30) == Chores()


@given(st.integers(0, 400), st.integers(1, 365))
def test_a_log_goes_through_plain_compressed_gone_in_this_order(age: int, keep_days: int) -> None:
    found = daily_logs([named(age)], today=TODAY, keep_days=keep_days)
    assert (found.remove != ()) == (age > keep_days)
    assert (found.compress != ()) == (2 <= age <= keep_days)


def test_logs_of_runs_go_by_their_last_line_and_never_while_the_run_is_there() -> None:
    now = 100 * DAY
    written = {"a.log": now - DAY, "b.log": now - DAY - 1, "c.log": 0.0, "d.log.gz": now - 31 * DAY, "e.log": 0.0,
               "f.log.gz": now - 2 * DAY, ".b.log.gz.tmp": 0.0}  # fmt: skip
    assert run_logs(written, live={"e"}, now=now, keep_days=30) == Chores(
        compress=("b.log",), remove=("c.log", "d.log.gz")
    )
