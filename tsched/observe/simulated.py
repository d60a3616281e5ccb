"""What a simulation says, as tables and as one object. It is always called an estimate."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tsched.model.units import about, count, iso
from tsched.observe import figures
from tsched.observe.tables import Table
from tsched.schedule.load import Load
from tsched.schedule.tally import PoolFared, QueueFared, Simulated

T = TypeVar("T")
BARS = 24  # of depth over time on a terminal


def simulated_tables(load: Load, before: Simulated, after: Simulated | None) -> Iterator[Table]:
    """Both fleets beside each other, `before → after` where they differ."""
    played = [before] if after is None else [before, after]
    ways = " → ".join(one.revision[:12] for one in played)
    tasks = f"{len(load.arrivals):,} {'task' if len(load.arrivals) == 1 else 'tasks'}"
    title = f"Estimate: {ways}, {tasks} in {about(load.window.seconds)} ({load.source})"
    queues = [{row.queue: row for row in one.queues} for one in played]
    pools = [{row.pool: row for row in one.pools} for one in played]
    yield Table(
        title=title,
        columns=("QUEUE", "TASKS", "WAIT P50", "WAIT P95", "MOST WAITING", "NEVER STARTED", "WAITING OVER TIME"),
        rows=[_queue([one.get(name) for one in queues]) for name in sorted({*queues[0], *queues[-1]})],
    )
    yield Table(
        title="Pools",
        columns=("POOL", "SLOTS", "IN USE", "RUNS", "FAILED", "PARKED"),
        rows=[(name, *_pool([one.get(name) for one in pools])) for name in sorted({*pools[0], *pools[-1]})],
    )
    yield Table(
        title="The work",
        columns=("RUNS", "LAST ONE ENDS"),
        rows=[(_both(played, lambda one: str(one.runs)), _both(played, lambda one: _late(one, load)))],
    )


def _late(one: Simulated, load: Load) -> str:
    late = one.ended - load.window.until
    return f"{about(late)} after the last task could come" if late > 0 else "before that"


def _queue(rows: Sequence[QueueFared | None]) -> tuple[str, ...]:
    known = [row for row in rows if row is not None]
    return (
        known[0].queue,
        str(known[0].tasks),
        _both(rows, lambda row: "-" if row.waits is None else about(row.waits.p50)),
        _both(rows, lambda row: "-" if row.waits is None else about(row.waits.p95)),
        _both(rows, lambda row: str(row.most)),
        _both(rows, lambda row: str(row.left)),
        _both(rows, lambda row: figures.sparkline(_thinned(row.depth))),
    )


def _thinned(depth: Sequence[int]) -> list[float]:
    size = max(1, len(depth) // BARS)
    return [float(max(depth[first : first + size])) for first in range(0, len(depth), size)]


def _pool(rows: Sequence[PoolFared | None]) -> tuple[str, ...]:
    return (
        _both(rows, lambda row: str(row.slots)),
        _both(rows, lambda row: "-" if row.utilisation is None else f"{row.utilisation:.0%}"),
        _both(rows, lambda row: str(row.runs)),
        _both(rows, lambda row: str(row.failed)),
        _both(rows, lambda row: str(row.parked)),
    )


def _both(rows: Sequence[T | None], shown: Callable[[T], str]) -> str:
    """One figure where both are the same; `-` for a pool that is not there."""
    words = ["-" if row is None else shown(row) for row in rows]
    return words[0] if len(set(words)) == 1 else " → ".join(words)


def simulated_words(load: Load, before: Simulated, after: Simulated | None) -> Iterator[str]:
    """What a reader must know of the figures."""
    yield (
        "An estimate: runs take the time that the load says, whatever the agent; a pass, a start and the task server "
        "take none."
    )
    last = before if after is None else after
    for row in last.queues:
        if row.left:
            who = f"in pool {row.pool}" if row.pool is not None else "since no pool serves it"
            yield f"{count(row.left, 'task', 'tasks')} of queue {row.queue} never start, {who}."


def simulated_object(load: Load, seed: int, before: Simulated, after: Simulated | None) -> dict[str, object]:
    return {
        "estimate": True,
        "load": {
            "source": load.source,
            "tasks": len(load.arrivals),
            "seed": seed,
            "since": iso(load.window.since),
            "until": iso(load.window.until),
        },
        "before": _object(before),
        "after": None if after is None else _object(after),
    }


def _object(one: Simulated) -> dict[str, object]:
    return {
        "revision": one.revision,
        "runs": one.runs,
        "passes": one.passes,
        "ended": iso(one.ended),
        "queues": [
            {"name": row.queue, "pool": row.pool, "tasks": row.tasks, "never_started": row.left,
             "wait_seconds": figures.spread_object(row.waits), "most_waiting": row.most, "depth": list(row.depth)}
            for row in one.queues
        ],
        "pools": [
            {"name": row.pool, "queue": row.queue, "slots": row.slots, "busy_seconds": round(row.busy, 3),
             "utilisation": None if row.utilisation is None else round(row.utilisation, 4), "runs": row.runs,
             "failed": row.failed, "parked": row.parked}
            for row in one.pools
        ],
    }  # fmt: skip
