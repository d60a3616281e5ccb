"""From measured work to advice: each queue's demand for capacity.py, each agent's use for balance.py."""

from collections.abc import Iterable, Sequence

from tsched.model.fleet import Fleet, Pool
from tsched.model.records import dataclass
from tsched.model.run import Run, RunResult
from tsched.schedule.balance import AgentUse
from tsched.schedule.capacity import CapacityAdvice, advise, measured
from tsched.schedule.depth import Depth
from tsched.schedule.queues import Arrivals, arrivals
from tsched.schedule.timeline import Window
from tsched.schedule.workload import FAILED, Spread, spread, took, waited

LEAST = 1.0  # seconds that a window counts as, at least: just begun is no time to divide by


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A queue's advice and what it rests on. `waits`: what tasks really waited for their first run."""

    arrivals: Arrivals
    waits: Spread | None
    advice: CapacityAdvice

    @property
    def missing(self) -> tuple[str, ...]:
        """What would have to be known for a better answer."""
        found = []
        if self.arrivals.window.asked is not None:
            found.append("Nothing is known from before that: ask again when the history is longer.")
        if self.arrivals.growth is None:
            found.append("No depth of the queue is recorded: the runner keeps it at each pass.")
        if not self.advice.demand.runs:
            found.append("No run of it has ended: durations are needed.")
        return tuple(found)


def forecast(
    queue: str, window: Window, *, fleet: Fleet | None, depth: Depth, results: Iterable[RunResult],
    live: Iterable[Run], wait: float | None = None,
) -> Forecast:  # fmt: skip
    """What a queue needs. `results`: runs that ended in the window; `wait`: the mean wait to aim at, seconds."""
    ended = [one for one in results if one.run.queue == queue]
    came = arrivals(window, depth, [*(one.run for one in ended), *(run for run in live if run.queue == queue)])
    demand = measured(
        queue,
        window=max(LEAST, came.window.seconds),
        arrivals=came.number,
        durations=[seconds for one in ended if (seconds := took(one)) is not None],
        tasks=len({one.run.task_id for one in ended if took(one) is not None}),
    )
    pool = next((one for one in fleet.pools if one.queue == queue), None) if fleet is not None else None
    cap = fleet.limits.max_running if fleet is not None else None
    return Forecast(
        arrivals=came,
        waits=spread(map(waited, ended)),
        advice=advise(demand, pool, fleet_cap=cap, wait=wait),
    )


def uses(pool: Pool, window: Window, results: Sequence[RunResult], live: Iterable[Run]) -> list[AgentUse]:
    """How each of a pool's agents used its slots in the window: by its runs in all queues, since its limit is one."""
    going = list(live)
    return [_use(agent.name, agent.limit, window, results, going) for agent in pool.agents]


def _use(agent: str, limit: int, window: Window, results: Sequence[RunResult], live: Sequence[Run]) -> AgentUse:
    own = [one for one in results if one.run.agent == agent]
    ended = [window.overlap(one.run.created_at, one.exit.ended_at) for one in own]
    going = [window.overlap(run.created_at, window.until) for run in live if run.agent == agent]
    return AgentUse(
        agent=agent,
        limit=limit,
        busy=sum(ended) + sum(going),
        runs=len(own) + len(going),
        failed=sum(one.outcome in FAILED for one in own),
    )
