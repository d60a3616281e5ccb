"""How many slots a queue needs, from what was measured of it, with the reasoning in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from statistics import fmean, pstdev

from tsched.model.fleet import Agent, Pool
from tsched.model.records import dataclass
from tsched.model.units import about, count
from tsched.schedule.queueing import mean_wait, slots_for

PATIENCE = 0.1  # the wait aimed at where none is said, as a part of the mean run
FEW = 20  # runs below which the figures are a guess, and said to be one


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What was measured of a queue in `window` seconds: tasks that came, and the runs that ended.

    `duration`: mean seconds of a run. `variation`: standard deviation of those, as a part of the mean.
    `runs_per_task`: above 1 where tasks are retried.
    """

    queue: str
    window: float
    arrivals: int
    runs: int = 0
    duration: float = 0.0
    variation: float = 1.0
    runs_per_task: float = 1.0

    @property
    def load(self) -> float:
        """Slots busy on average if none of it waits for ever: Little's law."""
        return self.arrivals / self.window * self.runs_per_task * self.duration


def measured(
    queue: str, *, window: float, arrivals: int, durations: Sequence[float], tasks: int | None = None
) -> Demand:
    """The demand that some runs' durations (seconds) show. `tasks`: how many tasks those runs were for.

    Raises ValueError where the window is not above 0.
    """
    if window <= 0:
        raise ValueError("the window must be longer than nothing")
    mean = fmean(durations) if durations else 0.0
    return Demand(
        queue=queue,
        window=window,
        arrivals=arrivals,
        runs=len(durations),
        duration=mean,
        variation=pstdev(durations, mean) / mean if len(durations) > 1 and mean > 0 else 1.0,
        runs_per_task=len(durations) / tasks if tasks else 1.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityAdvice:
    """Slots that a queue has and should have. Waits are mean seconds; None: it grows without end.

    `recommended` is None where nothing was measured to go by. `limits`: what each agent of the pool would get;
    `max_running`: what the pool's own cap would have to be, None where it can stay.
    """

    queue: str
    pool: str | None
    demand: Demand
    slots: int
    load: float
    utilisation: float | None
    wait: float | None
    recommended: int | None = None
    wait_then: float | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    max_running: int | None = None
    reasoning: tuple[str, ...] = ()

    @property
    def grows(self) -> bool:
        """Whether the queue grows without end at the present limits."""
        return self.load > 0 and self.load >= self.slots

    @property
    def changed(self) -> bool:
        """Whether the advice is to change anything."""
        return self.recommended is not None and self.recommended != self.slots


def advise(
    demand: Demand,
    pool: Pool | None,
    *,
    fleet_cap: int | None = None,
    wait: float | None = None,
    busy: float | None = None,
) -> CapacityAdvice:
    """The fewest slots that keep the mean wait within `wait` seconds and at most the part `busy` of them in use.

    Where neither is given, the wait is to be at most PATIENCE of the mean run. `pool`: who serves the queue;
    `fleet_cap`: the fleet's max_running. Raises ValueError where `wait` or `busy` can't be met by any number.
    """
    slots = present_slots(pool, fleet_cap)
    load = demand.load
    here = mean_wait(slots, load, demand.duration, demand.variation)
    advice = CapacityAdvice(
        queue=demand.queue,
        pool=pool.name if pool is not None else None,
        demand=demand,
        slots=slots,
        load=load,
        utilisation=load / slots if slots else None,
        wait=here if math.isfinite(here) else None,
    )
    if load <= 0:
        return replace(advice, reasoning=(_nothing(demand),))
    target = wait if wait is not None else math.inf if busy is not None else PATIENCE * demand.duration
    needed = slots_for(load, demand.duration, demand.variation, wait=target, busy=busy or 1.0)
    agents = working_agents(pool)
    total = max(needed, len(agents))  # a slot each is the least while they stay
    limits = share(total, {agent.name: float(agent.limit) for agent in agents})
    capped = pool is not None and pool.max_running is not None and pool.max_running < total
    advice = replace(
        advice,
        recommended=total,
        wait_then=mean_wait(total, load, demand.duration, demand.variation),
        limits=limits,
        max_running=total if capped else None,
    )
    return replace(advice, reasoning=_reasoning(advice, pool, fleet_cap, needed, target, busy))


def present_slots(pool: Pool | None, fleet_cap: int | None) -> int:
    """How many tasks a pool may run at once, suspended or not; 0 where there is none."""
    if pool is None:
        return 0
    caps = [cap for cap in (pool.max_running, fleet_cap) if cap is not None]
    return min([sum(agent.limit for agent in pool.agents), *caps])


def working_agents(pool: Pool | None) -> Sequence[Agent]:
    """The agents that slots can be given to: limit 0 is somebody's wish, unless it is said of all."""
    agents = pool.agents if pool is not None else ()
    return [agent for agent in agents if agent.limit > 0] or agents


def share(total: int, weights: Mapping[str, float], *, least: int = 1) -> dict[str, int]:
    """`total` in whole parts by weight, each at least `least` as far as it goes: largest remainders, then names.

    Equal parts where all weights are 0. The parts always add up to `total`.
    """
    names = sorted(weights)
    if not names:
        return {}
    floor = min(least, total // len(names))
    rest, whole = total - floor * len(names), sum(weights.values())
    wanted = {name: total * (weights[name] / whole if whole > 0 else 1 / len(names)) - floor for name in names}
    above = {name: max(0.0, part) for name, part in wanted.items()}
    scale = rest / sum(above.values()) if rest else 0.0
    exact = {name: part * scale for name, part in above.items()}
    parts = {name: floor + math.floor(part) for name, part in exact.items()}
    order = sorted(names, key=lambda name: (math.floor(exact[name]) - exact[name], name))
    for name in order[: total - sum(parts.values())]:
        parts[name] += 1
    return parts


def _nothing(demand: Demand) -> str:
    span = f"in {about(demand.window)}"
    if not demand.arrivals:
        return f"No task came to the queue {demand.queue} {span}: there is nothing to go by."
    return f"No run of the queue {demand.queue} ended {span}: how long one takes is not known yet."


def _reasoning(
    advice: CapacityAdvice, pool: Pool | None, fleet_cap: int | None, needed: int, target: float, busy: float | None
) -> tuple[str, ...]:
    return (
        *_measured(advice.demand),
        _at_present(advice, pool),
        _aim(advice, needed, target, busy),
        *_where(advice, pool, fleet_cap),
        "This takes tasks to come independently of each other: those that come in batches wait longer.",
    )


def _measured(demand: Demand) -> Sequence[str]:
    hourly, hours = demand.arrivals / demand.window * 3600, demand.duration / 3600
    retried = demand.runs_per_task > 1.005
    again = f" × {demand.runs_per_task:.2f} runs a task" if retried else ""
    found = [
        f"{count(demand.arrivals, 'task')} came in {about(demand.window)} ({hourly:.3g} an hour); a run takes "
        f"{about(demand.duration)} on average, with a coefficient of variation of {demand.variation:.2f} "
        f"({count(demand.runs, 'run')} measured).",
        f"By Little's law, arrivals × duration slots are busy on average: {hourly:.3g} an hour{again} × {hours:.3g} "
        f"hours = {demand.load:.3g}. (The operations guide's formula divides by the duration where it must "
        f"multiply; it would say {hourly / hours:.3g}.)",
    ]
    if demand.runs < FEW:
        found.append(f"Fewer than {FEW} runs were measured: take all this as a guess.")
    return found


def _at_present(advice: CapacityAdvice, pool: Pool | None) -> str:
    if pool is None:
        return f"No pool serves the queue {advice.queue}: it grows without end."
    has = f"The pool {pool.name} has {count(advice.slots, 'slot')}"
    if advice.wait is None or advice.utilisation is None:
        left = (advice.load - advice.slots) / advice.load * advice.demand.arrivals / advice.demand.window * 3600
        more = f", by about {left:.2g} tasks an hour" if left > 0 else ""
        return f"{has}, no more than the {advice.load:.3g} it needs: its queue grows without end{more}."
    spread = (1 + advice.demand.variation**2) / 2
    return (
        f"{has}, {advice.utilisation:.0%} of them in use: a task waits {about(advice.wait)} on average "
        f"(M/M/c by Erlang C, × {spread:.2f} for how much the durations vary)."
    )


def _aim(advice: CapacityAdvice, needed: int, target: float, busy: float | None) -> str:
    aims = [f"a mean wait of at most {about(target)}"] if math.isfinite(target) else []
    aims += [f"at most {busy:.0%} of the slots in use"] if busy is not None else []
    then = f"then a task waits {about(advice.wait_then or 0.0)} on average"
    return f"{count(needed, 'slot is', 'slots are')} the fewest with {' and '.join(aims)}; {then}."


def _where(advice: CapacityAdvice, pool: Pool | None, fleet_cap: int | None) -> Sequence[str]:
    total = advice.recommended or 0
    found = []
    if advice.limits:
        parts = ", ".join(f"{name} {limit}" for name, limit in advice.limits.items())
        found.append(f"Over the pool's agents, in the proportion of their limits: {parts}.")
    elif pool is not None:
        found.append(f"The pool {pool.name} has no agent to give them to: add some.")
    if pool is not None and advice.max_running is not None:
        found.append(f"The pool's max_running of {pool.max_running} has to be raised to {total}.")
    if fleet_cap is not None and fleet_cap < total:
        found.append(f"The fleet's max_running of {fleet_cap} is less than that, and for all pools together.")
    return found
