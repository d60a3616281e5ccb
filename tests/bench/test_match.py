"""Matching beside sorting the same tasks, and the simulator's cost by task: ratios measured within one run."""

import gc
import random
import statistics
import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.bench.conftest import Figures
from tsched.model.task import Task
from tsched.model.units import count
from tsched.runner.simulate import made_up
from tsched.schedule.load import Shape, busy, synthetic
from tsched.schedule.match import AgentSlots, Capacity, match
from tsched.schedule.order import sort_key
from tsched.schedule.simulate import simulate
from tsched.schedule.timeline import Window

POOLS, AGENTS, TASKS = 100, 10_000, 100_000


def least(work: Callable[[], object], times: int = 5) -> float:
    """Seconds of this process's own time, the best of some tries."""
    found = []
    for _ in range(times):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return min(found)


def tasks(number: int) -> list[Task]:
    draw = random.Random(7)
    return [
        Task(id=str(one), title="", queue=f"q{draw.randrange(POOLS)}", priority=draw.randrange(5),
             created_at=draw.uniform(0, 1e6))
        for one in range(number)
    ]  # fmt: skip


def pools(slots: int, *, agents: int = AGENTS, floors: int = 1) -> list[Capacity]:
    """So many free slots over all agents, as evenly as it goes."""
    free = [slots // agents + (one < slots % agents) for one in range(agents)]
    random.Random(7).shuffle(free)
    each = agents // POOLS
    return [
        Capacity(
            pool=f"q{pool}",
            queue=f"q{pool}",
            agents=tuple(
                AgentSlots(name=f"a{pool}-{one}", free=free[pool * each + one], priority_floor=one % floors)
                for one in range(each)
            ),
        )
        for pool in range(POOLS)
    ]


@pytest.mark.parametrize(("slots", "bar"), [(40_000, 4.0), (1_000, 1.0)])
@pytest.mark.parametrize("floors", [1, 5])
def test_matching_is_no_dearer_than_sorting_by_so_much(slots: int, bar: float, floors: int, figure: Figures) -> None:
    waiting, free = tasks(TASKS), pools(slots, floors=floors)
    key = sort_key({})
    ready = sorted(waiting, key=key)
    sorting = least(lambda: sorted(waiting, key=key))
    matching = least(lambda: match(ready, free, lifecycles={}))
    made = len(match(ready, free, lifecycles={}))
    size = f"{TASKS:,} tasks, {slots:,} slots, {count(floors, 'floor')}"
    assert made == slots if floors == 1 else made > slots * 0.5
    assert figure("matching / sorting the tasks", size, matching / sorting, most=bar)


def match_each(some: list[tuple[list[Task], list[Capacity]]]) -> None:
    for ready, free in some:
        match(ready, free, lifecycles={})


def test_matching_grows_with_the_tasks(figure: Figures) -> None:
    """Ten times the tasks, slots and agents cost about ten times as much.

    Of each size as many tasks in all, none of them twice, and in turns: they share the processor's caches and the
    machine's good and bad moments. What earlier tests left is not looked through for garbage.
    """
    sizes = (1_000, 10_000, 100_000)
    work = [
        [
            (sorted(tasks(size), key=sort_key({})), pools(size * 2 // 5, agents=max(POOLS, size // 10)))
            for _ in range(TASKS // size)
        ]
        for size in sizes
    ]
    gc.collect()
    gc.freeze()
    times: list[list[float]] = [[] for _ in sizes]
    try:
        for _ in range(5):
            for found, some in zip(times, work, strict=True):
                found.append(least(partial(match_each, some), 1))
    finally:
        gc.unfreeze()
    one, ten, hundred = map(statistics.median, times)
    small = figure("matching ten times as much", "10,000 / 1,000 tasks", 10 * ten / one, most=20)
    assert figure("matching ten times as much", "100,000 / 10,000 tasks", 10 * hundred / ten, most=20) and small


def test_a_task_below_every_floor_is_not_offered_to_every_agent(figure: Figures) -> None:
    """It was: a thousand agents and ten thousand such tasks took 15 s."""
    agents = tuple(AgentSlots(name=f"a{one}", free=9, priority_floor=1) for one in range(1000))
    free = [Capacity(pool="q", queue="q", agents=agents)]
    waiting = [Task(id=str(one), title="", queue="q") for one in range(10_000)]
    key = sort_key({})
    sorting = least(lambda: sorted(waiting, key=key))
    matching = least(lambda: match(waiting, free, lifecycles={}))
    size = "10,000 tasks that nobody takes"
    assert figure("matching / sorting the tasks", size, matching / sorting, most=1)


def test_a_simulations_cost_follows_its_tasks(figure: Figures) -> None:
    """The same load by task over ten times the agents: what there is costs little beside what happens."""
    each = []
    for agents, span in ((1_000, 3600.0), (1_000, 36_000.0), (10_000, 3600.0)):
        fleet = made_up(agents)
        load = synthetic(
            busy(fleet, part=0.8, seconds=600.0), Window(since=0.0, until=span), seed=1, shape=Shape.LOGNORMAL
        )
        seconds = least(lambda fleet=fleet, load=load: simulate(fleet, load), 2)  # type: ignore[misc]
        each.append(seconds / len(load.arrivals) * 1e6)
        figure("simulating a task", f"{agents:,} agents, {len(load.arrivals):,} tasks", each[-1], unit="µs")
    long = figure("simulating a task, ten times as long", "1,000 agents", each[1] / each[0], most=1.5)
    assert figure("simulating a task, ten times the agents", "10,000 agents", each[2] / each[0], most=3) and long
