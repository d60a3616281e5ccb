"""Step 8: which ready task would start on which free slot now, and what the log says of it. Changes nothing."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from tsched.model.fleet import Fleet, Pool, Recipe
from tsched.model.kept import Kept
from tsched.model.lifecycle import Lifecycles
from tsched.model.run import Run
from tsched.model.selector import Selector
from tsched.model.task import Task
from tsched.observe import messages
from tsched.runner import backlog
from tsched.runner.agree import say_odd
from tsched.runner.record import Pass
from tsched.runner.revise import select
from tsched.runner.roster import names
from tsched.schedule.breaker import allowed
from tsched.schedule.match import Assignment, Capacity, match, room
from tsched.schedule.order import Ordered
from tsched.schedule.standstill import Room, room_for
from tsched.state import history, overrides


def serving(p: Pass) -> Fleet | None:
    """The applied fleet as this runner serves it: its pools alone, host overrides in place.

    Where the guard holds a narrower TSCHED_POOLS back, those that it leaves out still have active agents: they stay.
    """
    if p.applied.fleet is None:
        return None
    settings = p.host.settings
    return p.host.kept(_serving, p.applied.fleet, p.applied.lifecycles, settings.pools, settings.agent_limits)


def _serving(fleet: Fleet, lifecycles: Lifecycles, pools: Selector, limits: Mapping[str, int]) -> Fleet:
    served = select(fleet, pools, besides=lifecycles.admitting) if pools else fleet
    return overridden(served, limits)


def overridden(fleet: Fleet, limits: Mapping[str, int]) -> Fleet:
    """Limits given on the command line win over git, for this process alone."""
    if not limits:
        return fleet
    pools = tuple(
        replace(pool, agents=tuple(replace(a, limit=limits.get(a.name, a.limit)) for a in pool.agents))
        for pool in fleet.pools
    )
    return replace(fleet, pools=pools)


def find_work(p: Pass) -> tuple[Assignment, ...]:
    """Decide what would start now. Reads the task server, changes nothing, says what it saw."""
    fleet = serving(p)
    if fleet is None:
        return ()
    if not p.host.settings.enabled:
        p.log.warning("TINYSCHEDULER_ENABLED is false: nothing new is started")
        return ()
    kept, rows = p.host.kept, p.applied.lifecycles
    queues, agents = kept(wanted, kept, fleet)
    waiting = p.waiting = p.host.tasks.waiting(queues=queues, agents=agents)
    say_odd(p)
    blocking, retry = not p.host.settings.disable_blocking, fleet.limits.retry
    ordered = backlog.ordered(kept, waiting, p.now, blocking=blocking, retry=retry)
    rests, runs = resting(p, fleet), p.every_run()
    slots = backlog.free_slots(
        kept, fleet, rows, runs=runs, now=p.now, resting=rests, overrides=overrides.load(p.host.db)
    )
    _say(p, waiting, ordered, slots)
    held, left = held_tasks(p), room(fleet.limits.max_running, len(runs))
    p.room = kept(_room, ordered.ready, slots, held, kept(backlog.by_queue, runs), left)
    most, resting_now = fleet.limits.spawn_per_cycle, frozenset(rests.items())
    return kept(_matched, ordered.ready, slots, rows, held, left, most, resting_now)


def _room(
    ready: Sequence[Task], slots: Sequence[Capacity], held: frozenset[str], running: Mapping[str, int],
    left: int | None,
) -> Room:  # fmt: skip
    return room_for(ready, slots, held=held, running_by_queue=running, fleet_free=left)


def _matched(
    ready: Sequence[Task], slots: Sequence[Capacity], rows: Lifecycles, held: frozenset[str], left: int | None,
    most: int | None, resting: frozenset[tuple[str, int]],
) -> tuple[Assignment, ...]:  # fmt: skip
    return match(ready, slots, lifecycles=rows, held=held, fleet_free=left, most=most, resting=dict(resting))


def wanted(kept: Kept, fleet: Fleet | None) -> tuple[Sequence[str], Sequence[str]]:
    """The queues and the agents whose tasks a pass asks for."""
    if fleet is None:
        return (), ()
    return [pool.queue for pool in fleet.pools if not pool.own_only], names(kept, fleet, of="served")


def held_tasks(p: Pass) -> frozenset[str]:
    """Tasks that a run, a lease or an undelivered result still names: never matched, whatever their status says."""
    undelivered = frozenset(result.run.task_id for result in history.unacknowledged(p.host.db))
    leased = p.leased if p.leased is not None else p.host.leases.scan().tasks
    return p.host.kept(_held, leased, undelivered, p.every_run())


def _held(leased: frozenset[str], undelivered: frozenset[str], runs: Sequence[Run]) -> frozenset[str]:
    return leased | undelivered | {run.task_id for run in runs}


def resting(p: Pass, fleet: Fleet) -> dict[str, int]:
    """Recipes whose breaker is open, and how many more of their runs may start: none of one that is not there."""
    running = Counter([run.recipe for run in p.runs.values()] if p.breakers else ())
    found = dict.fromkeys(p.host.kept(_absent, p.host.kept, fleet), 0)
    for path, breaker in p.breakers.items():
        recipe = fleet.recipes.get(path)
        more = allowed(breaker, running=running[path], now=p.now)
        if recipe is not None and recipe.content == breaker.content and more is not None:
            found[path] = more
    return found


def _absent(kept: Kept, fleet: Fleet) -> Collection[str]:
    return list(chain.from_iterable(kept.each(_absent_in, fleet.pools, fleet.recipes)))


def _absent_in(pool: Pool, recipes: Mapping[str, Recipe]) -> Collection[str]:
    return [agent.recipe for agent in pool.agents if agent.recipe not in recipes]


def _say(p: Pass, waiting: Sequence[Task], ordered: Ordered, slots: Sequence[Capacity]) -> None:
    """The queue's part of the operator's log, word for word as the guide's greps want it."""
    p.log.routine(backlog.log_lines(p.host.kept, waiting, ordered.blocked, slots))
    if ordered.blocks:
        p.log.info(messages.prioritizing(len(ordered.blocks)))
        for task_id, number in ordered.blocks.items():
            p.log.info(messages.blocks(task_id, number))
    blocked = sum(ordered.blocked.values())
    p.log.info(messages.blocked_skipped(blocked))
    p.log.count(blocked_skipped=blocked)
