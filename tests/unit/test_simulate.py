"""The simulator: the same runs as passes that look at everything each time, waits as in theory, nothing lost."""

import heapq
import math
import random
from collections import Counter
from dataclasses import replace
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import NAMES, QUEUES, fleets
from tests.work import result
from tsched.model.fleet import Agent, Fleet, Limits, Pool, Retry, Suspend
from tsched.model.run import ExitReason, Outcome, Run, RunExit
from tsched.model.task import Settlement, Task, TaskStatus, Verdict
from tsched.schedule.breaker import Breaker, after, allowed
from tsched.schedule.load import ALWAYS, Arrival, Load, Shape, Source, recorded, scaled, synthetic
from tsched.schedule.match import capacities, match, room
from tsched.schedule.order import order
from tsched.schedule.queueing import mean_wait
from tsched.schedule.recovery import judge
from tsched.schedule.simulate import Simulation, Started, simulate
from tsched.schedule.tally import PARTS
from tsched.schedule.timeline import Window
from tsched.schedule.workload import spread

Start = tuple[float, str, str]  # when, which task, which agent
HOUR = 3600.0


def arrival(at: float = 0.0, seconds: float = 10.0, **facts: object) -> Arrival:
    return Arrival(**{"queue": "dev", "at": at, "seconds": seconds, **facts})  # type: ignore[arg-type]


def load_of(*arrivals: Arrival, until: float = 100.0) -> Load:
    return Load(window=Window(since=0.0, until=until), arrivals=tuple(arrivals), source="test")


def fleet_of(*agents: Agent, pool: Pool | None = None, **limits: object) -> Fleet:
    """A pool dev that passes look at each second."""
    dev = replace(pool or Pool(name="dev", queue="dev"), agents=agents)
    return Fleet(revision="r", pools=(dev,), limits=Limits(**{"loop_interval": 1.0, **limits}))  # type: ignore[arg-type]


def ada(limit: int = 1, **facts: object) -> Agent:
    return Agent(**{"name": "ada", "recipe": "r", "limit": limit, **facts})  # type: ignore[arg-type]


def told(fleet: Fleet, load: Load) -> list[tuple[float, str]]:
    return [(one.now, one.given.task.id) for one in Simulation(fleet, load).starts()]


loads = st.lists(
    st.builds(
        Arrival,
        queue=st.sampled_from((*QUEUES, "nobodys")),
        at=st.floats(0, 400),
        seconds=st.sampled_from((0.0, 30.0, 100.0, 4000.0)),
        priority=st.integers(0, 2),
        agent=st.sampled_from((None, None, *NAMES)),
        failures=st.sampled_from((0, 0, 1, 2, ALWAYS)),
    ),
    max_size=30,
).map(lambda them: load_of(*sorted(them, key=lambda one: one.at), until=400.0))


def plainly(fleet: Fleet, load: Load, passes: int) -> list[Start]:
    """Pass after pass as the runner makes them: everything is looked at each time, nothing is kept between."""
    homes = {agent.name: (pool, agent) for pool, agent in fleet.agents()}
    limits, waiting, found = fleet.limits, dict[str, Task](), list[Start]()
    going: list[tuple[float, int, str, Task, Arrival]] = []
    breakers: dict[str, Breaker] = {}
    facts = {str(number): one for number, one in enumerate(load.arrivals, 1)}
    came = 0
    for number in range(passes):
        now = number * limits.loop_interval
        while going and going[0][0] <= now:
            _, _, name, task, one = heapq.heappop(going)
            agent = homes[name][1]
            late = one.seconds > agent.max_runtime
            failed = late or task.runs < one.failures
            known = breakers.get(agent.recipe, Breaker(recipe=agent.recipe, content=""))
            outcome = Outcome.FAILED if failed else Outcome.COMPLETE
            breakers[agent.recipe] = after(known, outcome, task_id=task.id, now=now)
            if failed:
                end = RunExit(
                    run_id="", reason=ExitReason.TIMEOUT if late else ExitReason.EXITED, started=True, exit_code=1
                )  # fmt: skip
                run = Run(
                    run_id="", task_id=task.id, agent=name, pool="", queue="", attempt=1, revision="", executor="",
                    recipe="", runtime="", evidence="", created_at=0.0, assigned_before=task.assigned_to,
                )  # fmt: skip
                held = replace(task, status=TaskStatus.WORKING, assigned_to=name)
                end_of = judge(exit=end, run=run, task=held, missing="", retry=limits.retry, now=now).settlement
                if end_of.verdict is Verdict.RETRY:
                    waiting[task.id] = replace(
                        task, attempts=task.attempts + end_of.charged, runs=task.runs + 1,
                        not_before=end_of.not_before,
                    )  # fmt: skip
        while came < len(load.arrivals) and load.arrivals[came].at <= now:
            one, came = load.arrivals[came], came + 1
            owner = one.agent if one.agent in homes else None
            waiting[str(came)] = Task(
                id=str(came), title="", queue=one.queue, priority=one.priority, created_at=one.at, assigned_to=owner
            )  # fmt: skip
        runs = [name for _, _, name, _, _ in going]
        recipes = Counter(homes[name][1].recipe for name in runs)
        resting = {
            path: more
            for path, breaker in breakers.items()
            if (more := allowed(breaker, running=recipes[path], now=now)) is not None
        }
        queues = Counter(homes[name][0].queue for name in runs)
        slots = capacities(
            fleet, {}, running_by_agent=Counter(runs), running_by_queue=queues, now=now, resting=resting
        )
        ready = order(list(waiting.values()), now=now).ready
        for made in match(
            ready, slots, lifecycles={}, resting=resting, most=limits.spawn_per_cycle,
            fleet_free=room(limits.max_running, len(runs)),
        ):  # fmt: skip
            task = waiting.pop(made.task.id)
            ends = now + min(facts[task.id].seconds, homes[made.agent][1].max_runtime)
            heapq.heappush(going, (ends, len(found), made.agent, task, facts[task.id]))
            found.append((now, task.id, made.agent))
    return found


@given(fleets(), loads)
def test_it_starts_what_passes_over_everything_would_start(fleet: Fleet, load: Load) -> None:
    """The same tasks by the same agents in the same passes, through retries, time limits, rests and suspensions."""
    passes = 100
    until = passes * fleet.limits.loop_interval
    starts = [(one.now, one.given.task.id, one.given.agent) for one in Simulation(fleet, load).starts()]
    wanted = plainly(fleet, load, passes)
    assert sorted(one for one in starts if one[0] < until) == sorted(wanted)


def most_at_once(starts: list[Started]) -> int:
    edges = sorted([(one.now, 1) for one in starts] + [(one.ends, -1) for one in starts])
    most = now = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most


def crowded(draw: random.Random) -> tuple[Fleet, Load]:
    """Two small pools with more work than slots, tasks of certain agents among it, much of which fails."""
    pools = tuple(
        Pool(
            name=name,
            queue=name,
            max_running=draw.choice((None, 1, 2)),
            agents=tuple(
                Agent(
                    name=f"{name}{one}", recipe=draw.choice("rs"), limit=draw.randint(1, 2),
                    priority_floor=draw.choice((0, 0, 1)),
                )
                for one in range(3)
            ),
        )
        for name in ("dev", "qa")
    )  # fmt: skip
    names = [agent.name for pool in pools for agent in pool.agents]
    limits = Limits(
        max_running=draw.choice((None, None, 3)), spawn_per_cycle=draw.choice((None, 1)), retry=Retry(attempts=4)
    )
    failing = draw.choice((0.0, 0.9))
    them = [
        Arrival(
            queue=draw.choice(("dev", "qa")), at=draw.uniform(0, 1500), seconds=draw.uniform(10, 300),
            priority=draw.randint(0, 1), agent=draw.choice((None, *names[:4])),
            failures=ALWAYS if draw.random() < failing else 0,
        )
        for _ in range(40)
    ]  # fmt: skip
    arrivals = sorted(them, key=lambda one: one.at)
    return Fleet(revision="r", pools=pools, limits=limits), load_of(*arrivals, until=1500.0)


def test_it_starts_the_same_where_all_is_crowded_and_recipes_rest() -> None:
    for seed in range(60):
        fleet, load = crowded(random.Random(seed))
        starts = [(one.now, one.given.task.id, one.given.agent) for one in Simulation(fleet, load).starts()]
        passes = 80
        until = passes * fleet.limits.loop_interval
        assert sorted(one for one in starts if one[0] < until) == sorted(plainly(fleet, load, passes)), f"seed {seed}"


@given(fleets(), loads)
def test_no_task_is_lost_or_run_twice_and_no_limit_is_passed(fleet: Fleet, load: Load) -> None:
    calm = replace(load, arrivals=tuple(replace(one, failures=0, seconds=30.0) for one in load.arrivals))
    simulation = Simulation(fleet, calm)
    starts = list(simulation.starts())
    begun = Counter(one.given.task.id for one in starts)
    assert set(begun.values()) <= {1}
    assert len(starts) + simulation.waiting().total() == len(calm.arrivals)
    for pool, agent in fleet.agents():
        assert most_at_once([one for one in starts if one.given.agent == agent.name]) <= agent.limit
        of = [one for one in starts if one.given.queue == pool.queue]
        assert pool.max_running is None or most_at_once(of) <= pool.max_running
    assert fleet.limits.max_running is None or most_at_once(starts) <= fleet.limits.max_running
    each = Counter(one.now for one in starts)
    assert max(each.values(), default=0) <= (fleet.limits.spawn_per_cycle or len(starts))


def first_come_first_served(load: Load, slots: int) -> list[float]:
    """Each task's wait for so many equal servers (J. Kiefer and J. Wolfowitz, 1955)."""
    free, found = [0.0] * slots, []
    for one in load.arrivals:
        begins = max(one.at, free[0])
        heapq.heapreplace(free, begins + one.seconds)
        found.append(begins - one.at)
    return found


@pytest.mark.parametrize(("slots", "rho"), [(1, 0.5), (3, 0.8), (20, 0.7)])
def test_waits_are_those_of_queueing_theory(slots: int, rho: float) -> None:
    """M/M/c: task for task those of as many servers, and on average Erlang's, as surely as so many tasks can tell."""
    seconds, interval, tasks, batches = 100.0, 0.05, 8_000, 20
    rate = rho * slots / seconds
    window = Window(since=0.0, until=tasks / rate)
    load = synthetic([Source(queue="dev", rate=rate, seconds=seconds)], window, seed=3, shape=Shape.EXPONENTIAL)
    simulation = Simulation(fleet_of(ada(slots, max_runtime=1e9), loop_interval=interval), load)
    waits = [one.now - one.given.task.created_at for one in simulation.starts()]
    exact = first_come_first_served(load, slots)
    assert fmean(waits) == pytest.approx(fmean(exact), rel=0.01, abs=2 * interval)
    size = len(waits) // batches
    means = [fmean(waits[size * one : size * (one + 1)]) for one in range(batches)]
    error = stdev(means) / math.sqrt(batches)
    assert abs(fmean(waits) - mean_wait(slots, rho * slots, seconds)) < 4 * error
    found = simulation.tally.result(left=simulation.waiting())
    assert found.queues[0].waits == spread(waits)
    assert found.pools[0].utilisation == pytest.approx(rho, rel=0.04)
    assert (found.pools[0].runs, found.queues[0].left) == (len(load.arrivals), 0)


def test_the_same_seed_gives_the_same_estimate() -> None:
    window = Window(since=0.0, until=HOUR)
    sources = [Source(queue="dev", rate=0.1, seconds=20.0), Source(queue="qa", rate=0.1, seconds=20.0)]
    one, same, other = (synthetic(sources, window, seed=seed, shape=Shape.LOGNORMAL) for seed in (1, 1, 2))
    assert (one == same, one == other) == (True, False)
    assert simulate(fleet_of(ada(3)), one) == simulate(fleet_of(ada(3)), same)
    alone = synthetic(sources[:1], window, seed=1, shape=Shape.LOGNORMAL).arrivals
    assert alone == tuple(one for one in one.arrivals if one.queue == "dev"), (
        "another queue changed what this one draws"
    )


def test_a_slot_is_free_from_the_pass_that_reaps_its_run_on() -> None:
    load = load_of(arrival(0.5, 10.0), arrival(0.6, 10.0), arrival(0.7, 10.0))
    assert told(fleet_of(ada()), load) == [(1.0, "1"), (11.0, "2"), (21.0, "3")]
    assert told(fleet_of(ada(), loop_interval=60.0), load) == [(60.0, "1"), (120.0, "2"), (180.0, "3")]


def test_one_pass_starts_no_more_than_it_may_and_the_next_goes_on() -> None:
    load = load_of(*(arrival(0.0, 50.0) for _ in range(5)))
    assert [now for now, _ in told(fleet_of(ada(9), spawn_per_cycle=2), load)] == [0.0, 0.0, 1.0, 1.0, 2.0]


def test_a_failed_run_is_tried_again_and_in_the_end_given_up() -> None:
    retry = Retry(attempts=3, backoff=100.0)
    fleet = fleet_of(ada(), retry=retry)
    assert told(fleet, load_of(arrival(failures=1))) == [(0.0, "1"), (110.0, "1")]
    found = simulate(fleet, load_of(arrival(failures=ALWAYS)))
    assert [(one.runs, one.failed, one.parked) for one in found.pools] == [(3, 3, 1)]
    late = simulate(fleet_of(ada(max_runtime=5.0), retry=retry), load_of(arrival(seconds=10.0)))
    assert [(one.failed, one.parked, one.busy) for one in late.pools] == [(3, 1, 5.0)]  # of 15, in the window of 100


def test_a_suspended_pool_starts_when_it_ends_and_a_task_of_nobody_never() -> None:
    dev = Pool(name="dev", queue="dev", suspend=Suspend(until=50.5))
    load = load_of(arrival(), arrival(queue="nobodys"), arrival(agent="gone"))
    found = simulate(fleet_of(ada(2), pool=dev), load)
    assert told(fleet_of(ada(2), pool=dev), load) == [(51.0, "1"), (51.0, "3")]
    assert {one.queue: (one.pool, one.tasks, one.left) for one in found.queues} == {
        "dev": ("dev", 2, 0), "nobodys": (None, 1, 1),
    }  # fmt: skip


def test_depth_and_use_are_those_of_the_window() -> None:
    found = simulate(fleet_of(ada()), load_of(arrival(0.0, 48.0), arrival(0.0, 400.0), until=float(PARTS * 2)))
    (queue,), (pool,) = found.queues, found.pools
    assert queue.depth == (1,) * 24 + (0,) * 24
    assert (queue.most, pool.busy, pool.utilisation, found.ended) == (2, 96.0, 1.0, 448.0)


def test_scaling_multiplies_the_tasks_and_keeps_their_times_of_day() -> None:
    window = Window(since=0.0, until=HOUR)
    load = synthetic([Source(queue="dev", rate=1.0, seconds=1.0)], window, seed=1, shape=Shape.EXPONENTIAL)
    early = replace(load, arrivals=tuple(one for one in load.arrivals if one.at < HOUR / 4))
    for by in (0.5, 1.0, 2.0, 3.5):
        found = scaled(early, by, seed=1)
        assert len(found.arrivals) == pytest.approx(by * len(early.arrivals), rel=0.07)
        assert sum(one.at < HOUR / 4 + 5 for one in found.arrivals) >= len(found.arrivals) - 10
        assert list(found.arrivals) == sorted(found.arrivals, key=lambda one: one.at)


def test_lognormal_durations_have_the_mean_asked_for() -> None:
    window = Window(since=0.0, until=40_000.0)
    load = synthetic([Source(queue="dev", rate=1.0, seconds=50.0)], window, seed=1, shape=Shape.LOGNORMAL)
    assert sum(one.seconds for one in load.arrivals) / len(load.arrivals) == pytest.approx(50.0, rel=0.03)
    cut = synthetic(
        [Source(queue="dev", rate=1.0, seconds=50.0, longest=60.0)], window, seed=1, shape=Shape.LOGNORMAL
    )
    assert max(one.seconds for one in cut.arrivals) == 60.0


def test_a_recorded_task_comes_once_with_its_retries() -> None:
    failed, parked = Outcome.FAILED, Settlement(verdict=Verdict.PARK)
    results = [
        result("a", at=110.0, took=10.0, outcome=failed, task_id="1", queued_at=100.0, first=True,
               assigned_before="ada"),
        result("b", at=150.0, took=20.0, task_id="1", queued_at=100.0),
        result("c", at=60.0, took=5.0, task_id="2", queued_at=10.0, first=True),
        result("d", at=500.0, took=5.0, task_id="2", queued_at=10.0, first=True),
        replace(result("e", at=90.0, took=3.0, outcome=failed, task_id="3", queued_at=80.0), settlement=parked),
        result("f", at=90.0, started=False, exit_reason=ExitReason.START_FAILED, task_id="4", outcome=failed),
    ]  # fmt: skip
    found = recorded(results, Window(since=50.0, until=600.0)).arrivals
    assert [(one.at, one.seconds, one.agent, one.failures) for one in found] == [
        (50.0, 5.0, None, 0), (50.0, 5.0, None, 0), (80.0, 3.0, None, ALWAYS), (100.0, 15.0, "ada", 1),
    ]  # fmt: skip
