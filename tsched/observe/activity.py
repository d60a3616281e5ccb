"""Agents and pools beside what they did: the tables and objects of `tsched agents` and `tsched pools`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tsched.model.run import RunResult
from tsched.model.units import about, iso
from tsched.observe import figures
from tsched.observe.status import AgentStatus, PoolStatus, Status
from tsched.observe.tables import Table
from tsched.schedule.workload import Summary, summary


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentWork:
    """An agent of a pool: how it is, its last run ever, and its runs of the last 24 hours in that queue."""

    pool: PoolStatus
    agent: AgentStatus
    last: RunResult | None
    day: Summary


def agent_work(
    status: Status, results: Iterable[RunResult], last: Iterable[RunResult], *, pool: str | None = None
) -> Sequence[AgentWork]:
    """Every agent that status lists (of one pool), in its order. `results`: oldest first."""
    newest = {(one.run.agent, one.run.queue): one for one in last}
    by_agent: dict[tuple[str, str], list[RunResult]] = {}
    for one in results:
        by_agent.setdefault((one.run.agent, one.run.queue), []).append(one)
    return [
        AgentWork(
            pool=home,
            agent=agent,
            last=newest.get((agent["name"], home["queue"])),
            day=summary(by_agent.get((agent["name"], home["queue"]), [])),
        )
        for home in status["pools"]
        if pool in (None, home["name"])
        for agent in home["agents"]
    ]


def agents_table(work: Iterable[AgentWork], *, now: float) -> Table:
    columns = ("POOL", "QUEUE", "AGENT", "SLOTS", "STATE", "LAST", "WHEN", "FAILED 24H", "AVERAGE", "TOKENS", "COST")
    return Table(columns=columns, rows=[_row(one, now) for one in work])


def _row(one: AgentWork, now: float) -> tuple[str, ...]:
    last = one.last
    return (
        one.pool["name"],
        one.pool["queue"],
        one.agent["name"],
        f"{one.agent['running']}/{one.agent['limit']}",
        one.agent["state"],
        "-" if last is None else last.outcome,
        "-" if last is None else f"{about(max(0.0, now - last.exit.ended_at))} ago",
        figures.rate(one.day.failed),
        "-" if one.day.durations is None else about(one.day.durations.mean),
        figures.tokens(one.day.usage),
        figures.cost(one.day.usage),
    )


def agent_object(one: AgentWork) -> dict[str, object]:
    last = one.last
    return {
        "pool": one.pool["name"],
        "queue": one.pool["queue"],
        **one.agent,
        "last": None
        if last is None
        else {
            "outcome": last.outcome,
            "ended_at": iso(last.exit.ended_at),
            "run_id": last.run.run_id,
            "task_id": last.run.task_id,
            "reason": last.reason,
        },
        "last_24h": figures.summary_object(one.day),
    }


def pools_table(pools: Iterable[PoolStatus], days: Mapping[str, Summary]) -> Table:
    """`days`: the runs of the last 24 hours, by queue."""
    columns = ("POOL", "QUEUE", "RUNNING", "SLOTS", "AGENTS", "SUSPENDED", "FAILED 24H", "AVERAGE", "DRAINS")
    return Table(columns=columns, rows=[_pool_row(one, days.get(one["queue"], Summary())) for one in pools])


def _pool_row(pool: PoolStatus, day: Summary) -> tuple[str, ...]:
    most = pool["max_running"]
    drains = [f"{agent['name']} until {agent['drain']['deadline']}" for agent in pool["agents"] if agent["drain"]]
    return (
        pool["name"],
        pool["queue"],
        f"{pool['running']}/{'-' if most is None else most}",
        str(slots(pool)),
        ", ".join(f"{number} {state}" for state, number in states(pool).items()) or "none",
        "yes" if pool["suspended"] else "no",
        figures.rate(day.failed),
        "-" if day.durations is None else about(day.durations.mean),
        ", ".join(drains) or "-",
    )


def slots(pool: PoolStatus) -> int:
    """What its agents may run at once, apart from the pool's own cap; agents that leave take nothing new."""
    return sum(agent["limit"] for agent in pool["agents"] if agent["state"] in ("active", "suspended"))


def states(pool: PoolStatus) -> Mapping[str, int]:
    """How many of its agents are in each state."""
    return dict(sorted(Counter(agent["state"] for agent in pool["agents"]).items()))


def pool_object(pool: PoolStatus, day: Summary) -> dict[str, object]:
    drains = [{"agent": agent["name"], **agent["drain"]} for agent in pool["agents"] if agent["drain"]]
    return {
        **{key: pool[key] for key in ("name", "queue", "running", "max_running", "suspended")},
        "slots": slots(pool),
        "agents": states(pool),
        "drains": drains,
        "last_24h": figures.summary_object(day),
    }
