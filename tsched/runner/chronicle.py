"""Keeps what a pass did: its duration by step, its counters, the depth of queues, its errors, and running totals."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tsched.model.history import PassRecord, Sample, Total, Trouble
from tsched.model.kept import words_of
from tsched.model.run import RunResult
from tsched.model.units import about
from tsched.runner.backlog import Depth, by_queue, depths, depths_at
from tsched.runner.record import Pass
from tsched.runner.roster import queues
from tsched.state import passes

NONE = Depth()
Stand = Mapping[str, tuple[Depth, int]]  # by queue: its idle tasks, and how many runs work on its tasks
SAMPLED = 60.0  # seconds after which a queue's depth is kept again though it is the same
RUN_BUCKETS = (10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0)  # seconds of a run


@contextmanager
def chronicled(p: Pass) -> Iterator[None]:
    """Whatever becomes of the pass inside, it is kept; that it can't be kept is a warning and no more."""
    began = time.monotonic()
    broken = ""
    try:
        yield
    except Exception as error:
        broken = str(error) or type(error).__name__
        raise
    finally:
        _keep(p, time.monotonic() - began, broken)


def _keep(p: Pass, seconds: float, broken: str) -> None:
    diary, began = p.host.diary, p.host.diary.now()
    trouble = _renew(p)
    try:
        _append(p, seconds, broken)
    except Exception as error:  # whatever it is, work goes on
        trouble = f"This pass is not in the history: {error}"
        if diary.outage is None or diary.outage.words != trouble:  # all of it is read: not in each pass
            _renew(p, doubted=True)
    if trouble and diary.failed(trouble, began=began):
        p.log.warning(trouble)
    elif not trouble:
        diary.answered()
        away = diary.returned()
        if away is not None:
            p.log.info(f"Passes are kept in the history again, after {about(away)}")


def _renew(p: Pass, *, doubted: bool = False) -> str:
    """Have a file again where there was none. Returns why there is none still; what is said once is said here."""
    before = p.host.history
    p.host.history, note = passes.renewed(before, p.host.folder.history_db, doubted=doubted)
    if p.host.history is not before:
        p.host.sampled.clear()
        p.host.stood = (None, 0.0)
    if p.host.history.lost:
        return note
    if note:
        p.log.warning(note)
    return ""


def _append(p: Pass, seconds: float, broken: str) -> None:
    fleet = p.applied.fleet
    record = PassRecord(
        time=p.now,
        seconds=seconds,
        revision=None if fleet is None else fleet.revision,
        generation=p.applied.generation,
        ready=p.room.ready,
        free=p.room.free,
        running=p.room.running,
        counters=p.log.counters,
        steps=p.steps,
        broken=broken,
    )
    troubles = [*p.troubles]
    if broken:
        troubles.append(Trouble(time=p.now, kind="internal", message=f"the pass was broken off: {broken}"))
    fresh, stands = _news(p)
    number = passes.append(p.host.history, record, samples=fresh, troubles=troubles, totals=pass_totals(p, troubles))
    p.host.sampled.update({one.queue: one for one in fresh})
    p.host.stood = stands
    if number % passes.EVERY == 1:
        passes.prune(p.host.history, before=p.now - p.host.settings.keep_days * 86_400.0)


def _news(p: Pass) -> tuple[Sequence[Sample], tuple[object, float]]:
    """What the history is to be told of the queues, and what it then knows: since the time of its oldest sample.

    Where they stand as they did, no queue is looked at until one is due again.
    """
    stand, known = _stand(p), p.host.stood
    if stand is None or (stand is known[0] and 0.0 <= p.now - known[1] < SAMPLED):
        return (), known
    found = _samples(stand, p.now)
    fresh = fresh_samples(p.host.sampled, found)
    known_by_then = {**p.host.sampled, **{one.queue: one for one in fresh}}
    return fresh, (stand, min((known_by_then[queue].time for queue in stand), default=p.now))


def queue_samples(p: Pass) -> Sequence[Sample]:
    """How the served queues stand; none where the task server did not say."""
    stand = _stand(p)
    return () if stand is None else _samples(stand, p.now)


def _stand(p: Pass) -> Stand | None:
    """The same object for as long as no queue is, or is being served, in another way."""
    fleet = p.applied.fleet
    if p.waiting is None or fleet is None:
        return None
    working = p.host.kept(by_queue, p.every_run())
    if p.started:
        found = depths_at([task for task in p.waiting if task.id not in p.started], p.now)
    else:
        found = depths(p.host.kept, p.waiting, p.now, fleet.limits.retry)
    return p.host.kept(_standing, p.host.kept(queues, fleet), found, working)


def _standing(served: str, found: Mapping[str, Depth], working: Mapping[str, int]) -> Stand:
    every = dict.fromkeys((*words_of(served), *found))
    return {queue: (found.get(queue, NONE), working.get(queue, 0)) for queue in every}


def _samples(stand: Stand, now: float) -> Sequence[Sample]:
    return [_sample(queue, depth, working, now) for queue, (depth, working) in stand.items()]


def _sample(queue: str, depth: Depth, working: int, now: float) -> Sample:
    return Sample(time=now, queue=queue, idle=depth.idle, blocked=depth.blocked, working=working, oldest=depth.oldest)


def fresh_samples(known: Mapping[str, Sample], found: Sequence[Sample]) -> list[Sample]:
    """Those that say something new: changed, or older than SAMPLED."""
    return [
        one
        for one in found
        if (old := known.get(one.queue)) is None or not old.same(one) or one.time - old.time >= SAMPLED
    ]


def pass_totals(p: Pass, troubles: Sequence[Trouble]) -> Iterator[Total]:
    """What happened in the pass, for the running totals. Names are those of metrics, without their prefix."""
    for kind, number in Counter(one.kind for one in troubles).items():
        yield Total(name="errors_total", value=number, labels={"kind": kind})
    for run in p.started.values():
        yield Total(name="runs_started_total", value=1, labels={"queue": run.queue, "agent": run.agent})
    for result in p.ended:
        yield from _ended(result)
    if p.adopted:
        yield Total(name="revisions_applied_total", value=1)


def _ended(result: RunResult) -> Iterator[Total]:
    run, end = result.run, result.exit
    who = {"queue": run.queue, "agent": run.agent}
    yield Total(name="runs_ended_total", value=1, labels={**who, "outcome": str(result.outcome)})
    if end.started_at and end.ended_at >= end.started_at:
        yield from histogram("run_seconds", end.ended_at - end.started_at, RUN_BUCKETS, {"queue": run.queue})
    if result.usage is not None:
        yield Total(name="tokens_total", value=result.usage.total_tokens, labels=who)
        if result.usage.cost_usd:
            yield Total(name="cost_usd_total", value=result.usage.cost_usd, labels=who)


def histogram(name: str, value: float, buckets: Sequence[float], labels: Mapping[str, str]) -> Iterator[Total]:
    """One observation, as the sums of a Prometheus histogram: cumulative buckets, sum and count."""
    for bound in buckets:
        yield Total(name=f"{name}_bucket", value=float(value <= bound), labels={**labels, "le": f"{bound:g}"})
    yield Total(name=f"{name}_sum", value=value, labels=dict(labels))
    yield Total(name=f"{name}_count", value=1, labels=dict(labels))
