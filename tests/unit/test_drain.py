"""The agent's lifecycle as a table: every way through it."""

from copy import deepcopy
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import fleets, lifecycles
from tsched.model.fleet import Agent, DrainPolicy, Fleet, OnDeadline, Pool
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.schedule.drain import adopt, progress

Rows = dict[tuple[str, str], Lifecycle]
POLICY = DrainPolicy(deadline=60.0)


def fleet(**homes: str) -> Fleet:
    """Agents by name in pools named like their queues."""
    queues = sorted({"dev", *homes.values()})
    return Fleet(
        revision="r",
        pools=tuple(
            Pool(
                name=queue,
                queue=queue,
                drain=POLICY,
                agents=tuple(Agent(name=name, recipe="r") for name in sorted(homes) if homes[name] == queue),
            )
            for queue in queues
        ),
    )


def row(state: AgentState, **facts: object) -> Lifecycle:
    base = Lifecycle(agent="ada", queue="dev", pool="dev", state=state, since=100.0, policy=POLICY)
    return replace(base, **facts)  # type: ignore[arg-type]


def step(
    before: Lifecycle, *, live: int = 0, unacknowledged: int = 0, stopping: bool = False, handed_back: bool = False,
    now: float = 110.0,
) -> AgentState | None:  # fmt: skip
    after = progress(
        before, live=live, unacknowledged=unacknowledged, stopping=stopping, handed_back=handed_back, now=now
    )
    return None if after is None else after.state


def test_a_removed_agent_is_cordoned_with_the_policy_it_had() -> None:
    old, new = fleet(ada="dev", ben="dev"), fleet(ben="dev")
    rows = adopt(adopt({}, None, old, now=1.0), old, new, now=5.0)
    gone = rows["ada", "dev"]
    assert (gone.state, gone.since, gone.policy) == (AgentState.CORDONED, 5.0, POLICY)
    assert rows["ben", "dev"].state is AgentState.ACTIVE


def test_a_later_revision_does_not_begin_the_drain_anew() -> None:
    old = fleet(ada="dev")
    first = adopt(adopt({}, None, old, now=1.0), old, fleet(), now=5.0)
    assert adopt(first, fleet(), fleet(), now=50.0) == first


def test_a_moved_agent_drains_where_it_was_and_works_where_it_is() -> None:
    old, new = fleet(ada="dev"), fleet(ada="qa")
    rows = adopt(adopt({}, None, old, now=1.0), old, new, now=5.0)
    assert rows["ada", "dev"].state is AgentState.CORDONED
    assert rows["ada", "qa"].state is AgentState.ACTIVE


def test_a_renamed_pool_is_relabelled() -> None:
    old = fleet(ada="dev")
    new = replace(old, pools=(replace(old.pools[0], name="build"),))
    rows = adopt(adopt({}, None, old, now=1.0), old, new, now=5.0)
    assert (rows["ada", "dev"].state, rows["ada", "dev"].pool) == (AgentState.ACTIVE, "build")


def test_added_again_it_is_active_unless_its_runs_are_stopping() -> None:
    new = fleet(ada="dev")
    for state in (AgentState.CORDONED, AgentState.DRAINING, AgentState.DRAINED):
        back = adopt({("ada", "dev"): row(state)}, fleet(), new, now=9.0)["ada", "dev"]
        assert (back.state, back.policy, back.since) == (AgentState.ACTIVE, None, 0.0)
    for state in (AgentState.CORDONED, AgentState.DRAINING):
        rows: Rows = {("ada", "dev"): row(state)}
        stuck = adopt(rows, fleet(), new, now=9.0, stopping={("ada", "dev")})["ada", "dev"]
        assert (stuck.state, stuck.again) == (AgentState.STOPPING, True)
    stopping = adopt({("ada", "dev"): row(AgentState.STOPPING)}, fleet(), new, now=9.0)["ada", "dev"]
    assert (stopping.state, stopping.again) == (AgentState.STOPPING, True)


def test_removed_again_while_stopping_it_does_not_start_anew() -> None:
    rows = adopt({("ada", "dev"): row(AgentState.STOPPING, again=True)}, fleet(ada="dev"), fleet(), now=9.0)
    assert not rows["ada", "dev"].again


def test_the_way_down() -> None:
    assert step(row(AgentState.CORDONED), live=1) is AgentState.DRAINING
    assert step(row(AgentState.DRAINING), live=1) is AgentState.DRAINING
    assert step(row(AgentState.DRAINING), live=1, now=160.0) is AgentState.STOPPING
    assert step(row(AgentState.DRAINING), live=1, stopping=True) is AgentState.STOPPING
    assert step(row(AgentState.DRAINING), unacknowledged=1) is AgentState.DRAINING
    assert step(row(AgentState.DRAINING)) is AgentState.DRAINED
    assert step(row(AgentState.STOPPING), live=1) is AgentState.STOPPING
    assert step(row(AgentState.STOPPING)) is AgentState.DRAINED
    assert step(row(AgentState.DRAINED)) is AgentState.DRAINED
    assert step(row(AgentState.DRAINED), handed_back=True) is None
    assert step(row(AgentState.DRAINED, again=True), handed_back=True) is AgentState.ACTIVE


def test_wait_never_stops_a_run() -> None:
    waiting = row(AgentState.DRAINING, policy=DrainPolicy(deadline=1.0, on_deadline=OnDeadline.WAIT))
    assert step(waiting, live=1, now=1e9) is AgentState.DRAINING


@given(lifecycles(), fleets(), fleets())
def test_adopting_twice_changes_nothing_more(rows: Rows, old: Fleet, new: Fleet) -> None:
    once = adopt(rows, old, new, now=20.0)
    assert adopt(once, new, new, now=30.0) == once


@given(lifecycles(), fleets(), fleets())
def test_every_wanted_agent_has_a_row_and_no_row_is_lost(rows: Rows, old: Fleet, new: Fleet) -> None:
    after = adopt(rows, old, new, now=20.0)
    wanted = {(agent.name, pool.queue) for pool, agent in new.agents()}
    assert after.keys() == rows.keys() | wanted
    assert all(after[key].state is not AgentState.ACTIVE for key in after.keys() - wanted)


@given(lifecycles(), st.integers(0, 2), st.integers(0, 2), st.booleans(), st.booleans(), st.floats(0, 1e5))
def test_nothing_alive_is_ever_deleted_or_admitted(
    rows: Rows, live: int, unacknowledged: int, stopping: bool, handed_back: bool, now: float
) -> None:
    for before in rows.values():
        after = progress(
            before, live=live, unacknowledged=unacknowledged, stopping=stopping, handed_back=handed_back, now=now
        )
        if before.state is AgentState.DRAINED:
            continue  # by then both numbers were seen at 0
        assert after is not None
        assert after.state is before.state or after.state is not AgentState.ACTIVE
        if live or unacknowledged:
            assert after.state is not AgentState.DRAINED


@given(lifecycles(), fleets(), fleets(), st.sets(st.integers(0, 9)))
def test_pools_that_are_the_same_objects_only_save_work(
    rows: Rows, first: Fleet, second: Fleet, shared: set[int]
) -> None:
    """As a revision leaves some pools as they are: what is skipped comes to what would have come of it."""
    old = adopt(rows, None, first, now=20.0)
    own = {pool.queue: pool for number, pool in enumerate(first.pools) if number in shared}
    mixed = replace(second, pools=tuple(own.get(pool.queue, pool) for pool in second.pools))
    after = adopt(old, first, mixed, now=30.0)
    assert after == adopt(old, deepcopy(first), mixed, now=30.0)
    for pool in mixed.pools:
        if pool is own.get(pool.queue) and pool.agents and not any(row.queue == pool.queue for row in old.leaving):
            assert old.queues[pool.queue] is after.queues[pool.queue], "gone through for nothing"
    assert after.leaving == [row for row in after.values() if row.state is not AgentState.ACTIVE]
    assert after.admitting == {row.queue for row in after.values() if row.state is AgentState.ACTIVE or row.again}
    assert len(after) == len(list(after))


def test_agents_are_cordoned_in_the_order_of_their_rows() -> None:
    """Their events are told in it."""
    old = fleet(**dict.fromkeys("abcdefgh", "dev"))
    rows = adopt({}, None, old, now=20.0)
    assert [row.agent for row in adopt(rows, old, fleet(), now=30.0).values()] == list("abcdefgh")
