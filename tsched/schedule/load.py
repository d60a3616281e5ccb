"""Loads to simulate: tasks that come, with how long their runs take. From history, or drawn at random from a seed."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from random import Random

from tsched.model.fleet import Fleet, Pool
from tsched.model.records import dataclass
from tsched.model.run import Outcome, RunResult
from tsched.model.task import Verdict
from tsched.schedule.capacity import present_slots
from tsched.schedule.timeline import Window
from tsched.schedule.workload import FAILED, took

ALWAYS = 1_000_000  # failures of a task that never succeeds, whatever its retries


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A task that comes. `at`: seconds since the epoch; `seconds`: of each of its runs, while its agent works.

    `agent`: whom it is for, None: anybody of the queue. `failures`: how many of its first runs fail.
    """

    queue: str
    at: float
    seconds: float
    priority: int = 0
    agent: str | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The tasks of a window, by time of arrival. `source`: where they are from, in words."""

    window: Window
    arrivals: tuple[Arrival, ...]
    source: str


class Shape(StrEnum):
    """How the durations of a queue's runs are spread around their mean."""

    EXPONENTIAL = "exponential"
    LOGNORMAL = "lognormal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A queue's tasks: how many come in a second on average, the mean seconds of a run, and the most it takes.

    `longest` cuts what is drawn, so that no run comes to its max_runtime by chance.
    """

    queue: str
    rate: float
    seconds: float
    longest: float = math.inf


def recorded(results: Iterable[RunResult], window: Window) -> Load:
    """The tasks that some runs were for. Those that waited when the window began come as it begins.

    A task's runs take their own mean; it fails as often as it did, and always where it was given up.
    """
    of: dict[str, list[list[RunResult]]] = {}
    for one in sorted(results, key=lambda one: (one.run.created_at, one.run.run_id)):
        lives = of.setdefault(one.run.task_id, [])
        if one.run.first or not lives:  # a task that was reopened comes anew
            lives.append([])
        lives[-1].append(one)
    found = [arrival for lives in of.values() for life in lives if (arrival := _arrival(life, window)) is not None]
    return Load(window=window, arrivals=_by_time(found), source="recorded")


def _arrival(life: Sequence[RunResult], window: Window) -> Arrival | None:
    """None where no run of it ever started: how long one would take is not known."""
    durations = [seconds for one in life if (seconds := took(one)) is not None]
    if not durations:
        return None
    first, last = life[0].run, life[-1]
    failures = sum(one.outcome in FAILED for one in life)
    given_up = last.outcome is not Outcome.COMPLETE and last.settlement.verdict is Verdict.PARK
    return Arrival(
        queue=first.queue,
        at=max(window.since, first.queued_at or first.created_at),
        seconds=sum(durations) / len(durations),
        agent=first.assigned_before,
        failures=ALWAYS if given_up else failures,
    )


def synthetic(sources: Iterable[Source], window: Window, *, seed: int, shape: Shape, variation: float = 1.0) -> Load:
    """Tasks that come independently of each other (Poisson), each queue's from a seed of its own.

    `variation`: standard deviation of the durations as a part of their mean; exponential ones have 1.
    """
    found: list[Arrival] = []
    for source in sources:
        draw = Random(f"{seed}/{source.queue}")
        lasts = _durations(draw, source.seconds, shape, variation)
        at = window.since
        while source.rate > 0 and (at := at + draw.expovariate(source.rate)) < window.until:
            found.append(Arrival(queue=source.queue, at=at, seconds=min(lasts(), source.longest)))
    return Load(window=window, arrivals=_by_time(found), source=f"synthetic, {shape}, seed {seed}")


def _durations(draw: Random, mean: float, shape: Shape, variation: float) -> Callable[[], float]:
    if shape is Shape.EXPONENTIAL:
        return lambda: draw.expovariate(1 / mean)
    square = math.log1p(variation * variation)
    middle, sigma = math.log(mean) - square / 2, math.sqrt(square)
    return lambda: draw.lognormvariate(middle, sigma)


def busy(fleet: Fleet, *, part: float, seconds: float) -> Sequence[Source]:
    """As many tasks to each pool as keep this part of its slots in use, with runs of so many seconds on average."""
    cap = fleet.limits.max_running
    slots = {pool.queue: present_slots(pool, None) for pool in fleet.pools}
    total = sum(slots.values())
    part *= 1.0 if cap is None or cap >= total else cap / total  # the fleet's cap is for all of them together
    return [
        Source(queue=pool.queue, rate=part * slots[pool.queue] / seconds, seconds=seconds, longest=longest(pool))
        for pool in fleet.pools
    ]


def longest(pool: Pool | None) -> float:
    """The seconds of a run that every agent of a pool allows."""
    return min((agent.max_runtime for agent in pool.agents), default=math.inf) if pool is not None else math.inf


def scaled(load: Load, by: float, *, seed: int) -> Load:
    """`by` times as many tasks, and the same times of day: copies come between a task and the next of its queue.

    Below 1 that part of the tasks is kept.
    """
    if by == 1:
        return load
    draw, after = Random(seed), _following(load)
    found: list[Arrival] = []
    for one in load.arrivals:
        copies = math.floor(by) + (draw.random() < by % 1)
        following = next(after[one.queue])
        found += [one] if copies else []
        found += [replace(one, at=draw.uniform(one.at, following)) for _ in range(copies - 1)]
    return replace(load, arrivals=_by_time(found), source=f"{load.source}, {by:g} × the tasks")


def _following(load: Load) -> Mapping[str, Iterator[float]]:
    """For each queue when its second task comes, its third, and so on; the window's end after the last."""
    times: dict[str, list[float]] = {}
    for one in load.arrivals:
        times.setdefault(one.queue, []).append(one.at)
    return {queue: iter([*them[1:], max(them[-1], load.window.until)]) for queue, them in times.items()}


def _by_time(arrivals: list[Arrival]) -> tuple[Arrival, ...]:
    return tuple(sorted(arrivals, key=lambda one: one.at))  # stable: those of one moment stay in their order
