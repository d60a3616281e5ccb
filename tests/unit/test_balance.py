"""Imbalance between a pool's agents, and the limits that follow the work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsched.schedule.balance import BUSY, AgentUse, Balance, Burden, balance

WINDOW = 100.0


def use(agent: str, limit: int, used: float, runs: int = 10, failed: int = 0) -> AgentUse:
    """An agent that used so much of its slots."""
    return AgentUse(agent=agent, limit=limit, busy=used * limit * WINDOW, runs=runs, failed=failed)


def burdens(found: Balance) -> dict[str, Burden]:
    return {one.agent: one.burden for one in found.agents}


def test_slots_go_from_the_idle_to_the_overloaded_and_the_total_stays() -> None:
    found = balance("dev", [use("vaela", 3, 1.0), use("damien", 3, 0.1)], window=WINDOW)
    assert burdens(found) == {"damien": Burden.IDLE, "vaela": Burden.OVERLOADED}
    assert found.suggested == {"damien": 1, "vaela": 5}
    assert found.spread == pytest.approx(0.9)
    assert found.reasoning == (
        "Overloaded in the last 1.7m: vaela (100% of 3 slots).",
        "Idle in the last 1.7m: damien (10% of 3 slots).",
        "Suggested: damien 3 → 1, vaela 3 → 5. The pool's total is the same.",
    )
    assert [one.reason for one in found.agents] == [
        "10% of its 3 slots in use; fewer slots follow the work",
        "100% of its 3 slots in use; more slots follow the work",
    ]


@pytest.mark.parametrize(
    "uses",
    [
        [use("ada", 3, 0.5), use("ben", 3, 0.0, runs=0)],  # uneven, but nobody waits for a slot
        [use("ada", 3, 0.95), use("ben", 1, 0.9)],  # both full: not a matter of balance
        [use("ada", 3, 1.0, runs=20, failed=20), use("ben", 3, 0.0)],  # more slots would mean more failures
        [use("ada", 3, 1.0)],
        [use("ada", 0, 0.0)],
        [],
    ],
)
def test_nothing_is_suggested_where_it_would_not_help(uses: list[AgentUse]) -> None:
    found = balance("dev", uses, window=WINDOW)
    assert found.balanced
    assert not found.reasoning[-1].startswith("Suggested")


def test_full_agents_need_more_slots_and_failing_ones_a_mend() -> None:
    full = balance("dev", [use("ada", 3, 0.95), use("ben", 1, 0.9)], window=WINDOW)
    assert full.reasoning[-1] == "Other limits of the same total would not help: more slots would."
    failing = balance("dev", [use("ada", 3, 1.0, runs=20, failed=20), use("ben", 3, 0.0)], window=WINDOW)
    assert failing.reasoning[-1].endswith("see why the runs of the overloaded fail.")


def test_capacitys_total_is_shared_out_by_the_work_even_where_all_is_even() -> None:
    found = balance("dev", [use("ada", 2, 0.6), use("ben", 2, 0.6)], window=WINDOW, total=8)
    assert found.suggested == {"ada": 4, "ben": 4}
    assert "8, after 4" in found.reasoning[-1]


def test_nothing_measured_keeps_the_proportion_of_the_limits() -> None:
    found = balance("dev", [use("ada", 3, 0.0), use("ben", 1, 0.0)], window=WINDOW, total=8)
    assert found.suggested == {"ada": 6, "ben": 2}


def test_an_agent_whose_runs_fail_gets_no_more_slots() -> None:
    uses = [use("ada", 2, 1.0, runs=20, failed=18), use("ben", 2, 0.9), use("cy", 2, 0.1)]
    found = balance("dev", uses, window=WINDOW)
    assert found.suggested == {"ben": 3, "cy": 1}
    assert found.agents[0].failure_rate == pytest.approx(0.9)
    assert found.agents[0].reason == "100% of its 2 slots in use; 18 of its 20 runs failed: mend that first"
    assert not use("ada", 2, 1.0, runs=3, failed=3).failing, "three runs are too few to be sure"


def test_an_agent_whose_runs_fail_may_have_fewer() -> None:
    found = balance("dev", [use("ada", 4, 0.2, runs=20, failed=18), use("ben", 2, 1.0)], window=WINDOW)
    assert found.suggested == {"ada": 2, "ben": 4}


def test_an_agent_that_is_off_stays_off() -> None:
    found = balance("dev", [use("ada", 2, 1.0), use("ben", 0, 0.0), use("cy", 4, 0.1)], window=WINDOW)
    assert burdens(found)["ben"] is Burden.OFF
    assert set(found.suggested) == {"ada", "cy"}


uses_of_a_pool = st.lists(
    st.builds(
        AgentUse,
        agent=st.sampled_from("abcdef"),
        limit=st.integers(0, 5),
        busy=st.floats(0, 600),
        runs=st.integers(10, 20),
        failed=st.integers(0, 10),
    ),
    unique_by=lambda one: one.agent,
)


@given(uses_of_a_pool, st.none() | st.integers(6, 40))
def test_the_total_is_kept_and_every_working_agent_has_a_slot(uses: list[AgentUse], total: int | None) -> None:
    found = balance("dev", uses, window=WINDOW, total=total)
    now = sum(one.limit for one in uses)
    after = {one.agent: found.suggested.get(one.agent, one.limit) for one in uses}
    assert sum(after.values()) == (total if total is not None and now else now)
    assert all((after[one.agent] > 0) == (one.limit > 0) for one in uses)
    if total is None and found.suggested:
        assert any(one.used(WINDOW) >= BUSY for one in uses)
