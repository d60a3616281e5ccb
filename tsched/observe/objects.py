"""History as JSON objects, one form each for commands and the API: runs, events, passes, errors, queues."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

from tsched.model.alert import Alert
from tsched.model.event import Event
from tsched.model.history import PassRecord, Sample, Trouble
from tsched.model.run import SeenRun
from tsched.model.units import iso
from tsched.observe.status import AgentStatus, Status

MOST_SAMPLES = 500  # of one queue in one answer


class AgentObject(AgentStatus):
    """An agent with the pool and the queue that it serves."""

    pool: str
    queue: str


class SampleObject(TypedDict):
    """How a queue stood. `idle` counts blocked tasks too; `oldest`: since when its oldest ready task waits."""

    time: str
    idle: int
    blocked: int
    working: int
    oldest: str | None


class QueueObject(TypedDict):
    """A queue now, and how it stood in passes before, oldest first."""

    name: str
    idle: int
    blocked: int
    working: int
    samples: list[SampleObject]


class RunObject(TypedDict):
    """One attempt at a task. `state`: claiming, running or ended; `outcome` and what follows once it has ended."""

    run_id: str
    task_id: str
    title: str
    agent: str
    pool: str
    queue: str
    attempt: int
    revision: str
    executor: str
    state: str
    started_at: str | None
    heartbeat: str | None
    ended_at: str | None
    outcome: str | None
    exit_code: int | None
    reason: str | None
    total_tokens: int | None
    cost_usd: float | None


class PassObject(TypedDict):
    """A pass of the runner. `steps`: seconds of each; `broken`: why it was broken off."""

    id: int
    time: str
    seconds: float
    revision: str | None
    generation: int
    counters: dict[str, int]
    steps: dict[str, float]
    broken: str | None


class AlertObject(TypedDict):
    """What is wrong by one of the fleet's rules. `told`: when anybody was last told."""

    state: str
    severity: str
    rule: str
    subject: str
    summary: str
    since: str
    told: str | None
    fingerprint: str


class ErrorObject(TypedDict):
    """Something that went wrong in a pass."""

    time: str
    kind: str
    message: str


def agent_objects(status: Status) -> Iterator[AgentObject]:
    """Every agent of a status."""
    for pool in status["pools"]:
        for agent in pool["agents"]:
            yield AgentObject(**agent, pool=pool["name"], queue=pool["queue"])


def queue_objects(status: Status, samples: Iterable[Sample]) -> Iterator[QueueObject]:
    """Every queue of a status, with at most MOST_SAMPLES of its samples."""
    of: dict[str, list[Sample]] = {}
    for sample in samples:
        of.setdefault(sample.queue, []).append(sample)
    for queue in status["queues"]:
        yield QueueObject(**queue, samples=[_sample(one) for one in thinned(of.get(queue["name"], []), MOST_SAMPLES)])


def thinned(samples: Sequence[Sample], most: int) -> Sequence[Sample]:
    """At most so many samples, spread evenly: of each stretch the one with the most waiting, and the last of all."""
    if len(samples) <= most:
        return samples
    size = -(-len(samples) // (most - 1))
    stretches = (samples[start : start + size] for start in range(0, len(samples), size))
    return [*(max(stretch, key=lambda one: one.idle) for stretch in stretches), samples[-1]]


def _sample(one: Sample) -> SampleObject:
    oldest = None if one.oldest is None else iso(one.oldest)
    return SampleObject(time=iso(one.time), idle=one.idle, blocked=one.blocked, working=one.working, oldest=oldest)


def run_object(seen: SeenRun) -> RunObject | None:
    """A run; None where nothing but its id is known."""
    lease, result = seen.lease, seen.result
    run = seen.run if result is None else result.run
    who = lease or run
    if who is None:
        return None
    end = None if result is None else result.exit
    usage = None if result is None else result.usage
    started = None if lease is None else lease.started_at
    return RunObject(
        run_id=seen.run_id,
        task_id=who.task_id,
        title="" if run is None else run.title,
        agent=who.agent,
        pool=who.pool,
        queue=who.queue,
        attempt=who.attempt,
        revision=who.revision,
        executor=who.executor,
        state="ended" if lease is None else str(lease.state),
        started_at=iso(end.started_at) if end is not None and end.started_at else started,
        heartbeat=None if lease is None else lease.heartbeat,
        ended_at=iso(end.ended_at) if end is not None and end.ended_at else None,
        outcome=None if result is None else str(result.outcome),
        exit_code=None if end is None else end.exit_code,
        reason=None if result is None else result.reason,
        total_tokens=None if usage is None else usage.total_tokens,
        cost_usd=None if usage is None else usage.cost_usd,
    )


def event_object(event: Event) -> dict[str, str | int | float | None]:
    """An event: its five keys, then its further facts under their own names."""
    fixed = {
        "time": iso(event.time),
        "kind": event.kind,
        "subject": event.subject,
        "revision": event.revision,
        "message": event.message,
    }
    return {**fixed, **{name: value for name, value in event.fields.items() if name not in fixed}}


def pass_object(one: PassRecord) -> PassObject:
    """A pass."""
    return PassObject(
        id=one.id,
        time=iso(one.time),
        seconds=round(one.seconds, 6),
        revision=one.revision,
        generation=one.generation,
        counters=dict(one.counters),
        steps=dict(one.steps),
        broken=one.broken or None,
    )


def error_object(one: Trouble) -> ErrorObject:
    """An error."""
    return ErrorObject(time=iso(one.time), kind=one.kind, message=one.message)


def alert_object(one: Alert) -> AlertObject:
    """An alert."""
    return AlertObject(
        state=str(one.state),
        severity=str(one.severity),
        rule=one.rule,
        subject=one.subject,
        summary=one.summary,
        since=iso(one.since),
        told=iso(one.told) if one.told else None,
        fingerprint=one.fingerprint,
    )
