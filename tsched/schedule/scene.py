"""All that decides whether a task starts: what `tsched why` looks at, put together by whoever asks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tsched.model.fleet import Agent, Fleet, Pool
from tsched.model.lifecycle import Lifecycle
from tsched.model.task import Task
from tsched.schedule.breaker import Breaker
from tsched.schedule.facts import Refused
from tsched.schedule.match import Assignment, Capacity, Rows, capacities, match, room
from tsched.schedule.order import Ordered, order
from tsched.schedule.override import Overrides


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One moment. `fleet`: the applied one as this runner serves it, None where none is applied.

    `waiting`: what the task source says waits for this fleet. `known`: further tasks by id, blockers above all.
    `running_by_*`: live runs by agent and by queue; `running`: all of them. `held`: ids of tasks that a run, a lease
    or an undelivered result still names. `resting`: recipes whose breaker is open, and how many more of their runs
    may start; `breakers`: by recipe, for the words. `refused`: the newest revision where it is not in force.
    `halted`: why nothing starts at all; `overrides`: what was ordered on this host beside git. `blocking`: whether
    blocked tasks are left out. `now`: seconds since the epoch.
    """

    fleet: Fleet | None
    now: float
    lifecycles: Mapping[tuple[str, str], Lifecycle] = field(default_factory=dict)
    waiting: Sequence[Task] = ()
    known: Mapping[str, Task] = field(default_factory=dict)
    running_by_agent: Mapping[str, int] = field(default_factory=dict)
    running_by_queue: Mapping[str, int] = field(default_factory=dict)
    running: int = 0
    held: frozenset[str] = frozenset()
    resting: Mapping[str, int] = field(default_factory=dict)
    breakers: Mapping[str, Breaker] = field(default_factory=dict)
    refused: Refused | None = None
    halted: str = ""
    overrides: Overrides = ()
    blocking: bool = True

    @cached_property
    def tasks(self) -> Mapping[str, Task]:
        """Every task that is known, by id."""
        return {**self.known, **{task.id: task for task in self.waiting}}

    @cached_property
    def ordered(self) -> Ordered:
        """Which waiting tasks are ready, best first."""
        retry = self.fleet.limits.retry if self.fleet is not None else None
        return order(self.waiting, now=self.now, blocking=self.blocking, retry=retry)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Where each ready task stands in the order, by id."""
        return {task.id: place for place, task in enumerate(self.ordered.ready)}

    @cached_property
    def slots(self) -> tuple[Capacity, ...]:
        """Free slots by pool."""
        if self.fleet is None or self.halted:
            return ()
        return capacities(
            self.fleet,
            self.lifecycles,
            running_by_agent=self.running_by_agent,
            running_by_queue=self.running_by_queue,
            now=self.now,
            resting=self.resting,
            overrides=self.overrides,
        )

    @property
    def fleet_free(self) -> int | None:
        """What the fleet's own cap leaves; None where it has none."""
        return None if self.fleet is None else room(self.fleet.limits.max_running, self.running)

    def started(self, ready: Sequence[Task]) -> tuple[Assignment, ...]:
        """What a pass would start now if these were the ready tasks, best first: the real decision, not a copy."""
        rows: Rows = self.lifecycles
        return match(
            ready,
            self.slots,
            lifecycles=rows,
            held=self.held,
            fleet_free=self.fleet_free,
            most=None if self.fleet is None else self.fleet.limits.spawn_per_cycle,
            resting=self.resting,
        )

    @cached_property
    def starts(self) -> Mapping[str, Assignment]:
        """What a pass would start now, by task id."""
        return {one.task.id: one for one in self.started(self.ordered.ready)}

    def pool_of(self, queue: str) -> Pool | None:
        """The pool that serves a queue."""
        pools = self.fleet.pools if self.fleet is not None else ()
        return next((pool for pool in pools if pool.queue == queue), None)

    def home_of(self, agent: str) -> tuple[Pool, Agent] | None:
        """An agent of the fleet, with its pool."""
        return self.fleet.find(agent) if self.fleet is not None else None
