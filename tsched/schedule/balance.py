"""Which agents of a pool are overloaded or idle, and limits that would even it out."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import assert_never

from tsched.model.records import dataclass
from tsched.model.units import about, count
from tsched.schedule.capacity import share
from tsched.schedule.rates import Rate

BUSY = 0.85  # of its slots in use over the window: an agent without room for what comes in bursts
IDLE = 0.3
FAILING = 0.5  # of its runs, by the sure end of the interval: more slots for it would mean more failures


class Burden(StrEnum):
    """How an agent's slots are used."""

    OVERLOADED = "overloaded"
    EVEN = "even"
    IDLE = "idle"
    OFF = "off"  # limit 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentUse:
    """What was measured of an agent. `busy`: seconds that its runs took within the window, all added up."""

    agent: str
    limit: int
    busy: float = 0.0
    runs: int = 0
    failed: int = 0

    def used(self, window: float) -> float:
        """The part of its slot-seconds that was used; may be above 1 where its limit was lowered meanwhile."""
        return self.busy / (self.limit * window) if self.limit else 0.0

    @property
    def failing(self) -> bool:
        """Whether most of its runs fail, surely: Wilson's interval lies above FAILING."""
        return Rate(successes=self.failed, runs=self.runs).interval.low > FAILING


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentBalance:
    """An agent's share of the work and what its limit should be, with the reason."""

    agent: str
    limit: int
    used: float
    runs: int
    failure_rate: float | None
    burden: Burden
    suggested: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """A pool's agents by name. `spread`: between the most and the least used, as a part of their slots."""

    pool: str
    agents: tuple[AgentBalance, ...] = ()
    spread: float = 0.0
    reasoning: tuple[str, ...] = ()
    suggested: Mapping[str, int] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """Whether nothing is suggested."""
        return not self.suggested


def balance(pool: str, uses: Sequence[AgentUse], *, window: float, total: int | None = None) -> Balance:
    """How evenly a pool's agents worked in `window` seconds. `suggested` holds the limits that should change alone.

    Limits follow the work: in proportion to the slot-seconds that each agent used, with a slot for each, and no more
    than now for one whose runs mostly fail. `total`: slots of the pool after it (None: as many as now). Nothing is
    suggested unless a sound agent is overloaded while another has room, or `total` asks for it.
    """
    uses = sorted(uses, key=lambda one: one.agent)
    working = [one for one in uses if one.limit > 0]
    now = sum(one.limit for one in working)
    wanted = now if total is None else total
    full = [one for one in working if _burden(one, window) is Burden.OVERLOADED]
    uneven = len(full) < len(working) and any(not one.failing for one in full)
    limits = {one.agent: one.limit for one in uses}
    if working and (wanted != now or uneven):
        limits |= _even(working, wanted)
    agents = tuple(_balanced(one, limits[one.agent], window) for one in uses)
    used = [one.used(window) for one in working]
    return Balance(
        pool=pool,
        agents=agents,
        spread=max(used) - min(used) if used else 0.0,
        reasoning=_reasoning(pool, agents, now, wanted, window),
        suggested={one.agent: one.suggested for one in agents if one.suggested != one.limit},
    )


def _burden(use: AgentUse, window: float) -> Burden:
    if not use.limit:
        return Burden.OFF
    used = use.used(window)
    return Burden.OVERLOADED if used >= BUSY else Burden.IDLE if used <= IDLE else Burden.EVEN


def _even(working: Sequence[AgentUse], total: int) -> dict[str, int]:
    """Slots by the work done. What a failing agent may not have more of goes to the others, where there are any."""
    parts = share(total, _weights(working))
    kept = {one.agent: one.limit for one in working if one.failing and parts[one.agent] > one.limit}
    others = [one for one in working if one.agent not in kept]
    if not kept or not others or total - sum(kept.values()) < len(others):
        return parts
    return kept | share(total - sum(kept.values()), _weights(others))


def _weights(uses: Sequence[AgentUse]) -> dict[str, float]:
    """Slot-seconds used; the present limits where nothing was."""
    busy = {one.agent: one.busy for one in uses}
    return busy if any(busy.values()) else {one.agent: float(one.limit) for one in uses}


def _balanced(use: AgentUse, suggested: int, window: float) -> AgentBalance:
    burden = _burden(use, window)
    return AgentBalance(
        agent=use.agent,
        limit=use.limit,
        used=use.used(window),
        runs=use.runs,
        failure_rate=Rate(successes=use.failed, runs=use.runs).value,
        burden=burden,
        suggested=suggested,
        reason=_reason(use, burden, suggested, window),
    )


def _reason(use: AgentUse, burden: Burden, suggested: int, window: float) -> str:
    failing = f"; {use.failed} of its {count(use.runs, 'run')} failed: mend that first" if use.failing else ""
    share_of = f"{use.used(window):.0%} of its {count(use.limit, 'slot')} in use"
    match burden:
        case Burden.OFF:
            return "its limit is 0"
        case Burden.IDLE if not use.runs:
            words = "it had no runs: `tsched why queue` says what it waits for"
        case Burden.OVERLOADED | Burden.EVEN | Burden.IDLE:
            words = share_of
        case _:
            assert_never(burden)
    if suggested != use.limit:
        words += f"; {'more' if suggested > use.limit else 'fewer'} slots follow the work"
    return words + failing


def _reasoning(pool: str, agents: Sequence[AgentBalance], now: int, wanted: int, window: float) -> tuple[str, ...]:
    if not now:
        return (f"No agent of the pool {pool} has a slot: there is nothing to balance.",)
    by = {burden: [one for one in agents if one.burden is burden] for burden in Burden}
    found = [
        f"{burden.capitalize()} in the last {about(window)}: "
        + ", ".join(f"{one.agent} ({one.used:.0%} of {count(one.limit, 'slot')})" for one in by[burden])
        + "."
        for burden in (Burden.OVERLOADED, Burden.IDLE)
        if by[burden]
    ]
    changed = [f"{one.agent} {one.limit} → {one.suggested}" for one in agents if one.suggested != one.limit]
    if changed:
        same = "the same" if now == wanted else f"{wanted}, after {now}"
        found.append(f"Suggested: {', '.join(changed)}. The pool's total is {same}.")
    elif by[Burden.OVERLOADED]:
        full = all(one.burden in (Burden.OVERLOADED, Burden.OFF) for one in agents)
        more = "more slots would" if full else "see why the runs of the overloaded fail"
        found.append(f"Other limits of the same total would not help: {more}.")
    else:
        found.append("No agent is overloaded: the limits can stay.")
    return tuple(found)
