"""Order, match and their promises: by value and by property."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import fleets, lifecycles, tasks
from tsched.model.fleet import Agent, Fleet, Pool, Suspend
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.task import Task
from tsched.schedule.match import AgentSlots, Assignment, Capacity, capacities, match
from tsched.schedule.order import order

NOW = 100.0
Rows = dict[tuple[str, str], Lifecycle]


def task(number: int, **facts: object) -> Task:
    return Task(**{"id": str(number), "title": "t", "queue": "dev", **facts})  # type: ignore[arg-type]


def ids(found: tuple[Task, ...]) -> list[str]:
    return [one.id for one in found]


def test_blockers_of_most_come_first_then_priority_then_age_then_id() -> None:
    waiting = [
        task(1, priority=9, created_at=1.0),
        task(2, created_at=5.0),
        task(3, blocked_by="2", blocked=True),
        task(4, blocked_by="2", blocked=True),
        task(5, created_at=1.0),
        task(10, created_at=1.0),
        task(6, priority=9, created_at=0.5),
    ]
    ordered = order(waiting, now=NOW)
    assert ids(ordered.ready) == ["2", "6", "1", "5", "10"]
    assert ordered.blocked == {"dev": 2}
    assert ordered.blocks == {"2": 2}


def test_blocking_switched_off_filters_nothing_and_favours_nobody() -> None:
    waiting = [task(1, created_at=2.0), task(2, blocked_by="1", blocked=True, created_at=1.0)]
    ordered = order(waiting, now=NOW, blocking=False)
    assert (ids(ordered.ready), ordered.blocked, ordered.blocks) == (["2", "1"], {}, {})


def test_a_task_that_backs_off_is_not_ready_until_its_time() -> None:
    waiting = [task(1, not_before=NOW), task(2, not_before=NOW + 0.1)]
    assert ids(order(waiting, now=NOW).ready) == ["1"]


def slots(*agents: AgentSlots, free: int | None = None, queue: str = "dev") -> Capacity:
    return Capacity(pool=queue, queue=queue, agents=agents, free=free)


def pairs(made: tuple[Assignment, ...]) -> list[tuple[str, str]]:
    return [(one.task.id, one.agent) for one in made]


def test_most_free_slots_win_then_the_first_name() -> None:
    ready = [task(n) for n in (1, 2, 3, 4)]
    free = slots(AgentSlots(name="ben", free=1), AgentSlots(name="ada", free=1), AgentSlots(name="cy", free=2))
    assert pairs(match(ready, [free], lifecycles={})) == [("1", "cy"), ("2", "ada"), ("3", "ben"), ("4", "cy")]


def test_an_agents_own_tasks_come_before_the_queues() -> None:
    ready = [task(1, priority=9), task(2, assigned_to="ada")]
    made = match(ready, [slots(AgentSlots(name="ada", free=1))], lifecycles={})
    assert [(one.task.id, one.assigned) for one in made] == [("2", True)]


def test_a_task_below_the_floor_goes_to_who_takes_it() -> None:
    free = slots(AgentSlots(name="ada", free=5, priority_floor=1), AgentSlots(name="ben", free=1))
    assert pairs(match([task(1), task(2), task(3, priority=1)], [free], lifecycles={})) == [
        ("1", "ben"),
        ("3", "ada"),
    ]


def test_a_cordoned_agent_takes_no_task_of_that_queue_even_its_own() -> None:
    row = Lifecycle(agent="ada", queue="dev", pool="dev", state=AgentState.DRAINING)
    ready = [task(1, assigned_to="ada"), task(2, assigned_to="ada", queue="qa")]
    made = match(ready, [slots(AgentSlots(name="ada", free=2), queue="qa")], lifecycles={row.key: row})
    assert pairs(made) == [("2", "ada")]


def test_no_slots_in_a_suspended_pool_until_it_ends_by_itself() -> None:
    pool = Pool(name="dev", queue="dev", suspend=Suspend(until=NOW), agents=(Agent(name="ada", recipe="r", limit=2),))
    fleet = Fleet(revision="r", pools=(pool,))
    for now, free in ((NOW - 1, 0), (NOW, 2)):
        (capacity,) = capacities(fleet, {}, running_by_agent={}, running_by_queue={}, now=now)
        assert [one.free for one in capacity.agents] == [free]
        assert capacity.shut is (free == 0)


def test_a_resting_recipes_allowance_goes_to_whoever_has_work() -> None:
    """And not to the first agent by name, which may have none: nothing would ever close the breaker."""
    agents = (Agent(name="ada", recipe="r", limit=2), Agent(name="ben", recipe="r"), Agent(name="cy", recipe="s"))
    fleet = Fleet(revision="r", pools=(Pool(name="dev", queue="dev", agents=agents),))
    for more, free in ((0, [0, 0, 1]), (1, [1, 1, 1])):
        resting = {"r": more}
        (capacity,) = capacities(
            fleet, {}, running_by_agent={}, running_by_queue={}, now=NOW, resting=resting
        )  # fmt: skip
        assert [one.free for one in capacity.agents] == free
        for owner in (None, "ben"):
            wanted = [task(number, assigned_to=owner) for number in range(1, 5)]
            made = match(wanted, [capacity], lifecycles={}, resting=resting)
            assert sum(one.agent in ("ada", "ben") for one in made) == more
            assert owner is None or {one.agent for one in made} <= {"ben"}


@given(fleets(), lifecycles(), tasks(), st.randoms(use_true_random=False), st.booleans())
def test_no_slot_is_oversubscribed_and_no_blocked_task_matched(
    fleet: Fleet, rows: Rows, waiting: list[Task], shuffle: random.Random, blocking: bool
) -> None:
    homes = {agent.name: (pool, agent) for pool, agent in fleet.agents()}
    running = Counter(dict.fromkeys(shuffle.sample(sorted(homes), len(homes) // 2), 1))
    by_queue = Counter(homes[name][0].queue for name in running.elements())
    held = {one.id for one in waiting if shuffle.random() < 0.2}
    cap = fleet.limits.max_running
    free = None if cap is None else max(0, cap - running.total())

    def run(given_tasks: list[Task]) -> tuple[Assignment, ...]:
        capacity = capacities(fleet, rows, running_by_agent=running, running_by_queue=by_queue, now=NOW)
        ready = order(given_tasks, now=NOW, blocking=blocking).ready
        most = fleet.limits.spawn_per_cycle
        return match(ready, capacity, lifecycles=rows, held=held, fleet_free=free, most=most)

    made = run(waiting)
    assert made == run(shuffle.sample(waiting, len(waiting))), "the same tasks in another order gave another result"
    assert len({one.task.id for one in made}) == len(made), "a task was matched twice"
    assert len(made) <= (fleet.limits.spawn_per_cycle or len(made))
    assert free is None or len(made) <= free
    for name, number in Counter(one.agent for one in made).items():
        assert number + running[name] <= homes[name][1].limit
    for queue, number in Counter(one.queue for one in made).items():
        pool = next(pool for pool in fleet.pools if pool.queue == queue)
        assert pool.max_running is None or number + by_queue[queue] <= pool.max_running
    for one in made:
        pool, agent = homes[one.agent]
        assert one.task.id not in held
        assert not (blocking and one.task.blocked)
        assert one.task.not_before <= NOW
        assert one.task.priority >= agent.priority_floor
        assert one.task.assigned_to in (None, one.agent)
        assert one.queue == pool.queue
        assert pool.suspend is None or not pool.suspend.holds(NOW)
        for queue in (pool.queue, one.task.queue):
            row = rows.get((one.agent, queue))
            assert row is None or row.state is AgentState.ACTIVE


@given(fleets(), tasks())
def test_no_ready_task_waits_beside_a_free_slot(fleet: Fleet, waiting: list[Task]) -> None:
    """Nothing is left lying: an unmatched unassigned task means that nobody in its pool could take it."""
    capacity = capacities(fleet, {}, running_by_agent={}, running_by_queue={}, now=NOW)
    ready = order(waiting, now=NOW).ready
    made = match(ready, capacity, lifecycles={})
    given_to = Counter(one.agent for one in made)
    by_queue = Counter(one.queue for one in made)
    matched = {one.task.id for one in made}
    for one in ready:
        home = next((c for c in capacity if c.queue == one.queue), None)
        if one.id in matched or one.assigned_to is not None or home is None:
            continue
        full = home.free is not None and by_queue[home.queue] >= home.free
        able = [a for a in home.agents if a.free > given_to[a.name] and one.priority >= a.priority_floor]
        assert full or not able


agents_free = st.lists(st.builds(
    AgentSlots, name=st.sampled_from(("ada", "ben", "cy", "dot", "eve")), free=st.integers(0, 3),
    priority_floor=st.integers(0, 2), recipe=st.sampled_from(("r", "s")),
), unique_by=lambda one: one.name).map(tuple)  # fmt: skip
of_dev = st.lists(st.builds(task, st.integers(1, 99), priority=st.integers(0, 2)), unique_by=lambda one: one.id)


@given(agents_free, of_dev, st.sampled_from(({}, {"r": 0}, {"r": 1, "s": 2})))
def test_each_task_goes_to_the_freest_who_takes_it(
    agents: tuple[AgentSlots, ...], ready: list[Task], resting: dict[str, int]
) -> None:
    """By definition: everybody is asked for each task."""
    free, left, wanted = {one.name: one.free for one in agents}, dict(resting), []
    for one in ready:
        able = [
            (-free[agent.name], agent.name, agent.recipe)
            for agent in agents
            if free[agent.name] > 0 and one.priority >= agent.priority_floor and left.get(agent.recipe, 1) > 0
        ]
        if able:
            _, name, recipe = min(able)
            free[name] -= 1
            left[recipe] = left.get(recipe, 99) - 1
            wanted.append((one.id, name))
    assert pairs(match(ready, [slots(*agents)], lifecycles={}, resting=resting)) == wanted
