"""What local overrides mean, by value."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import fleets
from tsched.model.fleet import Agent, DrainPolicy, Fleet, OnDeadline, Pool
from tsched.model.override import FLEET, Lift, Order, Override, OverrideKind
from tsched.model.run import Run
from tsched.schedule.match import capacities
from tsched.schedule.override import (
    Overrides,
    admitted,
    carried,
    covers,
    deleted_by_hand,
    drain_of,
    kill_of,
    ordered,
    stop_of,
)

POLICY = DrainPolicy(deadline=60.0)
RUN = Run(
    run_id="7-1-a", task_id="7", agent="ada", pool="dev", queue="dev", attempt=1, revision="r", executor="local",
    recipe="recipes/a.yaml", runtime="goose", evidence="tokens", created_at=0.0,
)  # fmt: skip


def stop(pool: str = "", *, queue: str = "", since: float = 100.0, now: bool = False, reason: str = "") -> Override:
    subject = f"pool/{pool}" if pool else FLEET
    return Override(
        kind=OverrideKind.STOP, subject=subject, since=since, by="op", now=now, reason=reason, queue=queue or pool
    )


def drain(agent: str, *, since: float = 100.0, now: bool = False, policy: DrainPolicy = POLICY) -> Override:
    return Override(kind=OverrideKind.DRAIN, subject=f"agent/{agent}", since=since, by="op", now=now, policy=policy)


def kill(run_id: str, kind: OverrideKind = OverrideKind.KILL) -> Override:
    return Override(kind=kind, subject=f"run/{run_id}", since=100.0, by="op", now=True)


def lift(override: Override) -> Lift:
    return Lift(kind=override.kind, subject=override.subject, by="op")


def fleet(**queues: str) -> Fleet:
    """Pools by name, each with its queue and an agent named like the pool."""
    return Fleet(
        revision="r",
        pools=tuple(
            Pool(name=name, queue=queue, agents=(Agent(name=f"{name}-one", recipe="r", limit=2),))
            for name, queue in queues.items()
        ),
    )


ORDERS = st.lists(
    st.sampled_from([stop(), stop("dev"), drain("ada"), drain("ada", now=True), kill("r")]).flatmap(
        lambda one: st.sampled_from([one, lift(one)])
    ),
    max_size=8,
)


@given(orders=ORDERS)
def test_orders_that_were_followed_may_be_seen_again(orders: list[Order]) -> None:
    """A runner killed between following and ticking off loses nothing and adds nothing."""
    once = ordered((), orders)
    assert ordered(once, orders) == once
    assert [one.key for one in once] == sorted({one.key for one in once})


def test_ordered_again_a_drain_keeps_its_beginning_and_gains_force() -> None:
    (found,) = ordered((), [drain("ada"), drain("ada", since=150.0, now=True)])
    assert (found.since, found.now) == (100.0, True)
    (found,) = ordered((found,), [drain("ada", since=170.0)])
    assert (found.since, found.now) == (100.0, True), "a plain drain does not weaken it"


def test_a_reason_stays_until_another_is_given() -> None:
    (found,) = ordered((), [stop(reason="smoke"), stop()])
    assert found.reason == "smoke"
    (found,) = ordered((found,), [stop(reason="fire")])
    assert found.reason == "fire"


@pytest.mark.parametrize(
    ("policy", "now", "at"),
    [
        (POLICY, False, 160.0),
        (POLICY, True, 100.0),
        (DrainPolicy(on_deadline=OnDeadline.WAIT), False, None),
        (DrainPolicy(on_deadline=OnDeadline.WAIT), True, 100.0),
    ],
)
def test_when_a_drain_stops_runs(policy: DrainPolicy, now: bool, at: float | None) -> None:
    assert drain("ada", now=now, policy=policy).stops_at == at


def test_a_stop_leaves_runs_alone_unless_it_is_now() -> None:
    assert stop().stops_at is None
    assert stop(now=True).stops_at == 100.0


def test_the_fleets_stop_comes_before_a_pools() -> None:
    both = ordered((), [stop("dev"), stop()])
    assert stop_of(both, "dev") == stop()
    assert stop_of((stop("dev"),), "dev") == stop("dev")
    assert stop_of((stop("dev"),), "qa") is None


@pytest.mark.parametrize(
    ("override", "covered"),
    [
        (stop(), True), (stop("dev"), True), (stop("x", queue="dev"), True), (stop("qa"), False),
        (drain("ada"), True), (drain("ben"), False), (kill("7-1-a"), True), (kill("8-1-a"), False),
    ],
)  # fmt: skip
def test_whom_an_override_is_about(override: Override, covered: bool) -> None:
    assert covers(override, RUN) is covered


def test_the_order_about_a_run_is_found_whatever_its_kind() -> None:
    requeue = kill("b", OverrideKind.REQUEUE)
    assert kill_of((kill("a"), requeue), "b") == requeue
    assert kill_of((drain("a"),), "a") is None


@pytest.mark.parametrize("overrides", [(stop(),), (stop("dev"),), (drain("dev-one"),)])
def test_admission_is_closed_where_slots_are_counted(overrides: Overrides) -> None:
    found = capacities(
        fleet(dev="dev", qa="qa"), {}, running_by_agent={}, running_by_queue={}, now=0.0, overrides=overrides
    )
    free = {agent.name: agent.free for capacity in found for agent in capacity.agents}
    assert free == {"dev-one": 0, "qa-one": 0 if overrides == (stop(),) else 2}
    assert [capacity.shut for capacity in found] == [True, overrides == (stop(),)]


@given(fleet=fleets(), agent=st.sampled_from(("ada", "ben")), queue=st.sampled_from(("dev", "qa")))
def test_no_slot_is_counted_that_admission_refuses(fleet: Fleet, agent: str, queue: str) -> None:
    overrides = ordered((), [drain(agent), stop("some", queue=queue)])
    found = capacities(fleet, {}, running_by_agent={}, running_by_queue={}, now=0.0, overrides=overrides)
    for capacity in found:
        for one in capacity.agents:
            assert one.free == 0 or admitted(overrides, capacity.queue, one.name)


def test_what_a_new_fleet_leaves() -> None:
    old, new = fleet(dev="dev", qa="qa"), fleet(qa="qa")
    before = ordered((), [stop(), stop("dev"), drain("dev-one"), drain("qa-one"), kill("r")])
    assert carried(before, old, new) == ordered((), [stop(), drain("qa-one"), kill("r")])
    assert carried(before, old, old) == before


def test_a_renamed_pool_stays_stopped() -> None:
    old, renamed = fleet(dev="dev"), fleet(build="dev")
    (found,) = carried((stop("dev"),), old, renamed)
    assert (found.subject, found.queue) == ("pool/build", "dev")
    (found,) = carried((stop("dev"),), old, fleet(dev="other"))
    assert (found.subject, found.queue) == ("pool/dev", "other")


def test_deleted_by_hand_counts_what_was_shown_and_is_still_in_git() -> None:
    known = fleet(dev="dev", qa="qa", ops="ops")
    shown = (("dev-one", "dev"), ("qa-one", "qa"), ("gone", "dev"))
    assert deleted_by_hand(shown, (("dev-one", "dev"),), known, ()) == ["qa-one"]
    assert deleted_by_hand(shown, (("dev-one", "other"), ("qa-one", "qa")), known, ()) == [], "edited, not deleted"
    assert deleted_by_hand(shown, (), known, (drain("qa-one"),)) == ["dev-one"]


def test_words_name_who_since_when_and_why() -> None:
    said = str(replace(stop("dev", now=True), reason="smoke"))
    assert said == "stop of pool/dev, runs too (by op, since 1970-01-01T00:01:40.000Z: smoke)"
    assert stop("dev").undo == "tsched resume --pool dev"
    assert drain_of((drain("ada"),), "ada") == drain("ada")
