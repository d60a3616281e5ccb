"""A load played through a fleet: discrete events, the real decisions, no process. What comes out is an estimate.

A run takes the time that the load says and holds its slot until the pass that reaps it. What costs nothing here costs
time in the world: a pass itself, a start, the task server's answers. Passes in which nothing can happen are left out.
"""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from tsched.model.fleet import Agent, Fleet, Pool
from tsched.model.records import dataclass
from tsched.model.run import ExitReason, Outcome, Run, RunExit
from tsched.model.task import Task, TaskStatus, Verdict
from tsched.schedule.breaker import Breaker, after, allowed
from tsched.schedule.load import Arrival, Load
from tsched.schedule.match import Assignment, Books, capacities, given_out, room
from tsched.schedule.order import SortKey, sort_key
from tsched.schedule.recovery import judge
from tsched.schedule.tally import Simulated, Tally

SHORTEST = 0.05  # seconds between passes, at least: as the daemon has it
_key = sort_key({})  # nothing blocks anything in a load


class Started(NamedTuple):  # a million of them: a tuple is made in a third of the time
    """A run that starts in the pass at `now`, and when its agent will be done (seconds since the epoch)."""

    now: float
    ends: float
    given: Assignment


class _Going(NamedTuple):
    """A run that goes on. `timeout`: it is stopped at its max_runtime."""

    task: Task
    arrival: Arrival
    given: Assignment
    since: float
    timeout: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Again:
    """A task whose back-off is over."""

    task: Task
    arrival: Arrival


class _Look:
    """A pass is due: a suspension or a recipe's rest is over."""


_Event = _Going | _Again | _Look
_Line = list[tuple[SortKey, Task, Arrival]]  # a heap: tasks that wait for the same slots, best first


def simulate(fleet: Fleet, load: Load) -> Simulated:
    """What becomes of a load. It begins with nothing waiting, and is over when nothing more can start."""
    simulation = Simulation(fleet, load)
    for _ in simulation.starts():
        pass
    return simulation.tally.result(left=simulation.waiting())


class Simulation:
    """One play of one load. Its cost follows the tasks, their runs, and the queues that have something new."""

    def __init__(self, fleet: Fleet, load: Load) -> None:
        self.tally = Tally(fleet, load)
        self._fleet = fleet
        self._load = load
        self._homes = {agent.name: (pool, agent) for pool, agent in fleet.agents()}
        self._interval = max(fleet.limits.loop_interval, SHORTEST)
        self._passes = -1  # number of the last one
        self._came = 0  # how many of the load's tasks
        self._cut = False  # the last pass had more to start than spawn_per_cycle
        self._events: list[tuple[float, int, _Event]] = []
        self._numbers = 0
        self._shared: defaultdict[str, _Line] = defaultdict(list)  # by queue
        self._own: defaultdict[str, _Line] = defaultdict(list)  # by agent
        self._news: set[str] = set()  # queues of whose lines the first may start
        self._own_news: set[str] = set()  # the same for agents
        self._by_recipe: Counter[str] = Counter()
        self._running = 0
        self._breakers: dict[str, Breaker] = {}
        for pool in fleet.pools:
            if pool.suspend is not None and pool.suspend.until is not None:
                self._at(max(pool.suspend.until, load.window.since), _Look())
        self._books = self._reckoned(load.window.since)

    def starts(self) -> Iterator[Started]:
        """Every run, in the order of their starts."""
        while (due := self._due()) is not None:
            self._passes = max(self._passes + 1, math.ceil((due - self._load.window.since) / self._interval))
            now = self._load.window.since + self._passes * self._interval
            self._happen(now)
            self._arrive(now)
            self.tally.passes += 1
            yield from self._match(now)

    def waiting(self) -> Counter[str]:
        """How many tasks of each queue wait."""
        lines = (*self._shared.values(), *self._own.values())
        return Counter(task.queue for line in lines for _, task, _ in line)

    def _due(self) -> float | None:
        """When the next pass has something to do; None: never."""
        if self._cut:
            return self._load.window.since  # at once: the next pass is the next one
        times = [self._events[0][0]] if self._events else []
        if self._came < len(self._load.arrivals):
            times.append(self._load.arrivals[self._came].at)
        return min(times, default=None)

    def _at(self, time: float, event: _Event) -> None:
        self._numbers += 1
        heapq.heappush(self._events, (time, self._numbers, event))

    def _happen(self, now: float) -> None:
        """Runs are reaped, back-offs and rests end."""
        looked = False
        while self._events and self._events[0][0] <= now:
            _, _, event = heapq.heappop(self._events)
            if isinstance(event, _Going):
                self._reap(event, now)
            elif isinstance(event, _Again):
                self._wait(event.task, event.arrival)
            else:
                looked = True
        wanted = self._resting(now)
        if looked or wanted != self._books.resting:
            self._books = self._reckoned(now)
            self._news.update(self._shared)
            self._own_news.update(self._own)

    def _arrive(self, now: float) -> None:
        arrivals = self._load.arrivals
        while self._came < len(arrivals) and arrivals[self._came].at <= now:
            one = arrivals[self._came]
            self._came += 1
            owner = one.agent if one.agent in self._homes else None  # who is not there hands it back
            task = Task(
                id=str(self._came), title="", queue=one.queue, priority=one.priority, created_at=one.at,
                assigned_to=owner,
            )  # fmt: skip
            self.tally.idle(one.queue, one.at)
            self._wait(task, one)

    def _wait(self, task: Task, arrival: Arrival) -> None:
        line, news, name = (
            (self._shared, self._news, task.queue)
            if task.assigned_to is None
            else (self._own, self._own_news, task.assigned_to)
        )
        heapq.heappush(line[name], (_key(task), task, arrival))
        news.add(name)

    def _match(self, now: float) -> Iterator[Started]:
        """Give waiting tasks to free slots, as a pass does."""
        limits = self._fleet.limits
        caps = (room(limits.max_running, self._running), limits.spawn_per_cycle)
        most = min((n for n in caps if n is not None), default=len(self._load.arrivals))
        own, shared = _heads(self._own, self._own_news), _heads(self._shared, self._news)
        made = 0
        for given in given_out(self._books, own, shared, lifecycles={}, most=most):
            made += 1
            yield self._start(given, now)
        if not self._books.open:  # what happens next names whose line has news
            self._news.clear()
            self._own_news.clear()
        self._cut = 0 < made == limits.spawn_per_cycle and bool(self._news or self._own_news)

    def _start(self, given: Assignment, now: float) -> Started:
        task = given.task
        line = self._own[given.agent] if given.assigned else self._shared[task.queue]
        _, _, arrival = heapq.heappop(line)
        agent = self._homes[given.agent][1]
        timeout = arrival.seconds > agent.max_runtime
        ends = now + min(arrival.seconds, agent.max_runtime)
        self._at(ends, _Going(task=task, arrival=arrival, given=given, since=now, timeout=timeout))
        self._running += 1
        self._by_recipe[agent.recipe] += 1
        self.tally.start(given, now, ends)
        return Started(now=now, ends=ends, given=given)

    def _reap(self, going: _Going, now: float) -> None:
        """A run is over: its slot is free, its task is complete, tried again or given up."""
        given = going.given
        pool, agent = self._homes[given.agent]
        self._running -= 1
        self._by_recipe[agent.recipe] -= 1
        self._books.back(given.agent)
        self._news.add(given.queue)
        if pool.max_running is None:
            if self._own.get(given.agent):
                self._own_news.add(given.agent)
        else:  # its place in the pool may be another agent's
            self._own_news.update(one.name for one in pool.agents if self._own.get(one.name))
        failed = going.timeout or going.task.runs < going.arrival.failures
        self._try_breaker(going, agent, Outcome.FAILED if failed else Outcome.COMPLETE, now)
        if failed:
            self._failed(going, pool, agent, now)

    def _failed(self, going: _Going, pool: Pool, agent: Agent, now: float) -> None:
        task = going.task
        held = replace(task, status=TaskStatus.WORKING, assigned_to=agent.name)
        run, end = _told(going, pool, agent, self._fleet.revision)
        found = judge(exit=end, run=run, task=held, missing="", retry=self._fleet.limits.retry, now=now).settlement
        again = found.verdict is Verdict.RETRY
        self.tally.failed(given=going.given, parked=not again)
        if again:
            charged = task.attempts + found.charged
            tried = replace(task, attempts=charged, runs=task.runs + 1, not_before=found.not_before)
            self.tally.idle(task.queue, now)
            if found.not_before <= now:
                self._wait(tried, going.arrival)
            else:
                self._at(found.not_before, _Again(task=tried, arrival=going.arrival))

    def _try_breaker(self, going: _Going, agent: Agent, outcome: Outcome, now: float) -> None:
        known = self._breakers.get(agent.recipe)
        if known is None and outcome is Outcome.COMPLETE:
            return
        known = known or Breaker(recipe=agent.recipe, content="")
        found = after(known, outcome, task_id=going.task.id, now=now)
        self._breakers[agent.recipe] = found
        if found.until > known.until:
            self._at(found.until, _Look())

    def _resting(self, now: float) -> dict[str, int]:
        """Recipes whose breaker is open, and how many more of their runs may start."""
        found = {}
        for path, breaker in self._breakers.items():
            more = allowed(breaker, running=self._by_recipe[path], now=now)
            if more is not None:
                found[path] = more
        return found

    def _reckoned(self, now: float) -> Books:
        """The books from nothing but the fleet and what runs, as each pass of a runner makes them."""
        rests = self._resting(now)
        going = [event.given for _, _, event in self._events if isinstance(event, _Going)]
        by_agent, by_queue = Counter(one.agent for one in going), Counter(one.queue for one in going)
        slots = capacities(
            self._fleet, {}, running_by_agent=by_agent, running_by_queue=by_queue, now=now, resting=rests
        )
        return Books(slots, rests)


def _heads(lines: dict[str, _Line], news: set[str]) -> Iterator[Task]:
    """The first of each line that has news, best of all first, and the one behind it once the first has left.

    Whose first is refused is done: those behind it have no higher priority and would be refused too.
    """
    heads = [(line[0][0], name) for name in news if (line := lines.get(name))]
    news.intersection_update(name for _, name in heads)
    heapq.heapify(heads)
    while heads:
        key, name = heads[0]
        line = lines[name]
        yield line[0][1]
        if line and line[0][0] != key:
            heapq.heapreplace(heads, (line[0][0], name))
        else:
            heapq.heappop(heads)
            news.discard(name)


def _told(going: _Going, pool: Pool, agent: Agent, revision: str) -> tuple[Run, RunExit]:
    """The run and its end, as a runner would have written them down."""
    run = Run(
        run_id="", task_id=going.task.id, agent=agent.name, pool=pool.name, queue=pool.queue,
        attempt=going.task.attempts + 1, revision=revision, executor="", recipe=agent.recipe, runtime=agent.runtime,
        evidence="", created_at=going.since, assigned_before=going.task.assigned_to,
    )  # fmt: skip
    reason = ExitReason.TIMEOUT if going.timeout else ExitReason.EXITED
    return run, RunExit(run_id="", reason=reason, started=True, exit_code=1, started_at=going.since)
