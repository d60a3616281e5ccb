"""Advice on limits in words: `tsched capacity` and `tsched report --balance`."""

from collections.abc import Iterator, Sequence

from tsched.model.units import about, count
from tsched.observe import figures
from tsched.observe.tables import Table
from tsched.schedule.balance import Balance
from tsched.schedule.forecast import Forecast
from tsched.schedule.timeline import Window


def capacity_table(window: Window, found: Sequence[Forecast]) -> Table:
    columns = (
        *("QUEUE", "POOL", "CAME", "AVERAGE RUN", "NEEDED", "SLOTS", "IN USE", "WAIT EXPECTED", "WAIT MEASURED"),
        *("RECOMMENDED", "WAIT THEN"),
    )
    return Table(
        title=f"Capacity by {figures.span(window)}", columns=columns, rows=[_capacity_row(one) for one in found]
    )


def _capacity_row(one: Forecast) -> tuple[str, ...]:
    advice, demand = one.advice, one.advice.demand
    wait = "grows" if advice.grows else figures.seconds(advice.wait if advice.load > 0 else None)
    return (
        advice.queue,
        advice.pool or "-",
        str(demand.arrivals),
        figures.seconds(demand.duration if demand.runs else None),
        f"{advice.load:.2f}" if advice.load else "-",
        str(advice.slots),
        "-" if advice.utilisation is None or not advice.load else f"{advice.utilisation:.0%}",
        wait,
        figures.seconds(one.waits.mean if one.waits is not None else None),
        "-" if advice.recommended is None else str(advice.recommended),
        figures.seconds(advice.wait_then),
    )


def capacity_words(one: Forecast) -> Iterator[str]:
    """The reasoning, a sentence or two each: how tasks were counted, then what follows, then what is missing."""
    yield f"{one.arrivals.words[:1].upper()}{one.arrivals.words[1:]}"
    yield from one.advice.reasoning
    if one.waits is not None:
        yield (
            f"Measured, {count(one.waits.number, 'task')} waited {about(one.waits.mean)} on average. What is above "
            "the expected is time until the next pass, or of tasks that were blocked, suspended or held back."
        )
    yield from one.missing


def capacity_object(window: Window, found: Sequence[Forecast]) -> dict[str, object]:
    return {**figures.window_object(window), "queues": [_capacity_object(one) for one in found]}


def _capacity_object(one: Forecast) -> dict[str, object]:
    advice, demand = one.advice, one.advice.demand
    return {
        "queue": advice.queue,
        "pool": advice.pool,
        "arrivals": demand.arrivals,
        "first_runs": one.arrivals.started,
        "depth_growth": one.arrivals.growth,
        "measured_seconds": round(demand.window, 3),
        "arrivals_per_hour": round(demand.arrivals / demand.window * 3600, 3),
        "runs": demand.runs,
        "runs_per_task": round(demand.runs_per_task, 3),
        "duration_seconds": round(demand.duration, 3) if demand.runs else None,
        "variation": round(demand.variation, 3),
        "needed": round(advice.load, 3),
        "slots": advice.slots,
        "utilisation": None if advice.utilisation is None else round(advice.utilisation, 4),
        "grows": advice.grows,
        "wait_seconds": None if advice.wait is None else round(advice.wait, 3),
        "measured_wait_seconds": figures.spread_object(one.waits),
        "recommended": advice.recommended,
        "wait_then_seconds": None if advice.wait_then is None else round(advice.wait_then, 3),
        "limits": dict(advice.limits),
        "max_running": advice.max_running,
        "reasoning": list(capacity_words(one)),
    }


def balance_tables(window: Window, pools: Sequence[Balance]) -> Iterator[Table]:
    """A table a pool."""
    for pool in pools:
        yield Table(
            title=f"Pool {pool.pool}, {figures.span(window)}",
            columns=("AGENT", "LIMIT", "IN USE", "RUNS", "FAILED", "SUGGESTED", "WHY"),
            rows=[
                (one.agent, str(one.limit), f"{one.used:.0%}", str(one.runs),
                 "-" if one.failure_rate is None else f"{one.failure_rate:.0%}", str(one.suggested), one.reason)
                for one in pool.agents
            ],
        )  # fmt: skip


def balance_words(pools: Sequence[Balance]) -> Iterator[str]:
    """What is to be said of all pools, and what the patch that follows does."""
    for pool in pools:
        yield from (f"{pool.pool}: {sentence}" for sentence in pool.reasoning)
    changed = sum(len(pool.suggested) for pool in pools)
    if changed:
        yield f"The patch changes {count(changed, 'limit')}: `git apply` in the fleet repo takes all of this output."


def balance_object(window: Window, revision: str, pools: Sequence[Balance], patch: str) -> dict[str, object]:
    return {
        **figures.window_object(window),
        "revision": revision,
        "pools": [_balance_object(one) for one in pools],
        "patch": patch,
    }


def _balance_object(pool: Balance) -> dict[str, object]:
    agents = [
        {"name": one.agent, "limit": one.limit, "used": round(one.used, 4), "runs": one.runs,
         "failure_rate": one.failure_rate, "burden": one.burden, "suggested": one.suggested, "reason": one.reason}
        for one in pool.agents
    ]  # fmt: skip
    return {
        "name": pool.pool,
        "spread": round(pool.spread, 4),
        "balanced": pool.balanced,
        "agents": agents,
        "reasoning": list(pool.reasoning),
    }
