"""The one object that `tsched status --json` prints: made from model values, purely."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

from tsched.model.fleet import Fleet, Pool
from tsched.model.lifecycle import Key, Lifecycle
from tsched.model.override import Override
from tsched.model.run import Lease, Spent
from tsched.model.task import QueueDepth
from tsched.model.units import iso
from tsched.observe.conditions import Condition
from tsched.schedule.override import Overrides, drain_of, shown_drain, shown_state, stop_of


class RejectedStatus(TypedDict):
    """`diagnostics`: one object each with path, line, column, code, severity, message, mend."""

    revision: str
    diagnostics: list[dict[str, str | int]]


class HeldStatus(TypedDict):
    revision: str
    reason: str


class RevisionStatus(TypedDict):
    fetched: str | None
    applied: str | None
    rejected: RejectedStatus | None
    held: HeldStatus | None


class RunnerStatus(TypedDict):
    """`last_cycle`: when the last pass ended, RFC 3339. `id`: what claims name it by. `selector`: None: all pools."""

    pid: int | None
    host: str | None
    version: str | None
    last_cycle: str | None
    id: str | None
    selector: str | None


class ElsewhereStatus(TypedDict):
    """A task that carries another runner's claim."""

    task_id: str
    queue: str
    agent: str | None
    run_id: str
    runner: str


class Report(TypedDict):
    """What the last cycle saw, as the runner keeps it between two passes."""

    fetched: str | None
    rejected: RejectedStatus | None
    held: HeldStatus | None
    conditions: list[Condition]
    elsewhere: list[ElsewhereStatus]
    runner: RunnerStatus


class DrainStatus(TypedDict):
    since: str
    deadline: str
    on_deadline: str


class AgentStatus(TypedDict):
    name: str
    state: str
    limit: int
    running: int
    revision: str
    drain: DrainStatus | None


class PoolStatus(TypedDict):
    name: str
    queue: str
    suspended: bool
    running: int
    max_running: int | None
    agents: list[AgentStatus]


class RunStatus(TypedDict):
    run_id: str
    task_id: str
    agent: str
    pool: str
    state: str
    attempt: int
    revision: str
    executor: str
    started_at: str
    heartbeat: str


class QueueStatus(TypedDict):
    name: str
    idle: int
    blocked: int
    working: int


class UsageStatus(TypedDict):
    """What an agent's runs that ended in the last 24 hours say that they spent."""

    agent: str
    queue: str
    runs: int
    total_tokens: int
    cost_usd: float | None


class OverrideStatus(TypedDict):
    """What an operator decided beside git. `kind`: stop, drain, kill or requeue; `subject`: such as agent/vaela."""

    kind: str
    subject: str
    since: str
    by: str
    reason: str
    now: bool
    undo: str


class Status(TypedDict):
    revision: RevisionStatus
    generation: int
    conditions: list[Condition]
    pools: list[PoolStatus]
    not_served: list[str]
    runs: list[RunStatus]
    elsewhere: list[ElsewhereStatus]
    queues: list[QueueStatus]
    usage: list[UsageStatus]
    overrides: list[OverrideStatus]
    runner: RunnerStatus


NOTHING_SEEN: Report = {
    "fetched": None,
    "rejected": None,
    "held": None,
    "conditions": [],
    "elsewhere": [],
    "runner": {"pid": None, "host": None, "version": None, "last_cycle": None, "id": None, "selector": None},
}


def status(
    *,
    fleet: Fleet | None,
    lifecycles: Mapping[Key, Lifecycle],
    leases: Iterable[Lease],
    depths: Iterable[QueueDepth],
    spent: Iterable[Spent] = (),
    overrides: Overrides = (),
    report: Report = NOTHING_SEEN,
    generation: int = 0,
    now: float,
) -> Status:
    """The status object. `lifecycles` by (agent, queue): an agent without a row is not served here, so it is absent.

    A stopped pool is shown as suspended; an agent under a local drain as draining while it has runs, else cordoned.
    `now` is seconds since the epoch; it decides whether a suspension still holds.
    """
    known = sorted(leases, key=lambda lease: (lease.pool, lease.agent, lease.task_id))
    running = Counter((lease.agent, lease.queue) for lease in known)
    pools = _pools(fleet, lifecycles, running, overrides, now)
    return Status(
        revision=RevisionStatus(
            fetched=report["fetched"],
            applied=None if fleet is None else fleet.revision,
            rejected=report["rejected"],
            held=report["held"],
        ),
        generation=generation,
        conditions=list(report["conditions"]),
        pools=pools,
        not_served=sorted(_names(fleet) - {pool["name"] for pool in pools}),
        runs=[_run(lease) for lease in known],
        elsewhere=list(report["elsewhere"]),
        queues=[_queue(depth) for depth in sorted(depths, key=lambda depth: depth.name)],
        usage=[_usage(one) for one in spent],
        overrides=[_override(one) for one in overrides],
        runner=report["runner"],
    )


def _names(fleet: Fleet | None) -> set[str]:
    return {pool.name for pool in fleet.pools} if fleet is not None else set()


def _pools(
    fleet: Fleet | None, lifecycles: Mapping[Key, Lifecycle], running: Counter[Key], overrides: Overrides, now: float
) -> list[PoolStatus]:
    """The fleet's pools that are served here, and removed ones for as long as a row of theirs is left."""
    rows: dict[str, list[Lifecycle]] = {}
    for row in sorted(lifecycles.values(), key=lambda row: row.agent):
        rows.setdefault(row.queue, []).append(row)
    per_queue: Counter[str] = Counter()
    for (_, queue), number in running.items():
        per_queue[queue] += number
    pools = {pool.queue: pool for pool in (fleet.pools if fleet is not None else ())}
    served = [queue for queue, pool in pools.items() if queue in rows or not pool.agents]
    shown = []
    for queue in [*served, *(rows.keys() - pools.keys())]:
        pool, own = pools.get(queue), rows.get(queue, [])
        suspend = None if pool is None else pool.suspend
        suspended = stop_of(overrides, queue) is not None or (suspend is not None and suspend.holds(now))
        shown.append(
            PoolStatus(
                name=own[0].pool if pool is None else pool.name,
                queue=queue,
                suspended=suspended,
                running=per_queue[queue],
                max_running=None if pool is None else pool.max_running,
                agents=_agents(fleet, pool, own, running, overrides, suspended=suspended),
            )
        )
    return sorted(shown, key=lambda pool: (pool["name"], pool["queue"]))


def _agents(
    fleet: Fleet | None, pool: Pool | None, rows: Sequence[Lifecycle], running: Counter[Key], overrides: Overrides,
    *, suspended: bool,
) -> list[AgentStatus]:  # fmt: skip
    limits = {agent.name: agent.limit for agent in (pool.agents if pool is not None else ())}
    applied = "" if fleet is None else fleet.revision
    return [
        AgentStatus(
            name=row.agent,
            state=shown_state(row, drain_of(overrides, row.agent), running[row.key], suspended=suspended),
            limit=limits.get(row.agent, row.limit),
            running=running[row.key],
            revision=row.revision or applied,
            drain=_drain(row, drain_of(overrides, row.agent)),
        )
        for row in rows
    ]


def _drain(row: Lifecycle, local: Override | None) -> DrainStatus | None:
    drain = shown_drain(row, local)
    if drain is None:
        return None
    since, until, then = drain
    return DrainStatus(since=iso(since), deadline=iso(until), on_deadline=then)


def _run(lease: Lease) -> RunStatus:
    return RunStatus(
        run_id=lease.run_id,
        task_id=lease.task_id,
        agent=lease.agent,
        pool=lease.pool,
        state=lease.state,
        attempt=lease.attempt,
        revision=lease.revision,
        executor=lease.executor,
        started_at=lease.started_at,
        heartbeat=lease.heartbeat,
    )


def _queue(depth: QueueDepth) -> QueueStatus:
    return QueueStatus(name=depth.name, idle=depth.idle, blocked=depth.blocked, working=depth.working)


def _usage(one: Spent) -> UsageStatus:
    return UsageStatus(
        agent=one.agent, queue=one.queue, runs=one.runs, total_tokens=one.total_tokens, cost_usd=one.cost_usd
    )


def _override(override: Override) -> OverrideStatus:
    return OverrideStatus(
        kind=override.kind,
        subject=override.subject,
        since=iso(override.since),
        by=override.by,
        reason=override.reason,
        now=override.now,
        undo=override.undo,
    )
