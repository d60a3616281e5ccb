"""Alerts of a pass: the fleet's rules against what the pass saw; what is new is stored, then told."""

from collections.abc import Callable
from typing import TypeVar

from tsched.model.alert import Alerts, AlertStep, AlertTransition
from tsched.model.errors import ConfigurationError, TransientError, TschedError
from tsched.model.fleet import Fleet
from tsched.model.history import Sample
from tsched.model.lifecycle import Lifecycles
from tsched.model.units import from_iso
from tsched.runner.chronicle import queue_samples
from tsched.runner.matching import serving
from tsched.runner.record import Pass
from tsched.runner.report import last_fetch
from tsched.runner.revise import Held, Rejected, Unchanged
from tsched.runner.tell import deliver, sinks
from tsched.schedule.alerts import evaluate
from tsched.schedule.facts import AlertFacts, DrainSample, PassSample, Refused
from tsched.schedule.match import admits
from tsched.state import alarms, passes
from tsched.state.database import Database

T = TypeVar("T")


def alarm(p: Pass) -> None:
    """Decide what fires, is repeated or resolves; then tell whoever is to be told, as far as they listen."""
    if p.applied.fleet is None:
        return
    alerts = p.applied.fleet.limits.alerts
    before = alarms.load(p.host.db)
    if alerts.rules or before:
        told, after = evaluate(alerts.rules, facts(p, alerts), before, p.now)
        with p.commit():
            alarms.put(p.host.db, before, after)
            for one in told:
                _note(p, one, log=alerts.log)
                for sink in sinks(alerts):
                    alarms.post(p.host.db, sink, one)
    deliver(p, alerts)


def _note(p: Pass, told: AlertTransition, *, log: bool) -> None:
    alert = told.alert
    p.event(f"alert.{told.step}", alert.subject, told.words, rule=alert.rule, severity=str(alert.severity))
    if log:
        say = p.log.info if told.step is AlertStep.RESOLVED else p.log.warning
        say(f"ALERT {told.words}")


def facts(p: Pass, alerts: Alerts) -> AlertFacts:
    """What the rules are held against."""
    return AlertFacts(
        queues=_queues(p, others=bool(alerts.unserved)),
        served=_served(p),
        passes=_passes(p, most=max((rule.passes for rule in alerts.no_assignment), default=0)),
        errors=_errors(p, window=max((rule.window for rule in alerts.errors), default=0.0)),
        drains=_drains(p),
        refused=_refused(p),
        remote_answered=_remote_answered(p),
    )


def _queues(p: Pass, *, others: bool) -> tuple[Sample, ...] | None:
    """The served queues as the pass saw them; `others`: all that hold tasks. None where the server did not say."""
    if p.waiting is None:
        return None
    found = {one.queue: one for one in queue_samples(p)}
    try:
        depths = p.host.tasks.depths() if others else ()
    except (TransientError, ConfigurationError) as error:  # the other rules are looked at all the same
        p.fault("task-server", "task server: {}", error)
        return None
    for depth in depths:
        if depth.name not in found:
            found[depth.name] = Sample(
                time=p.now, queue=depth.name, idle=depth.idle, blocked=depth.blocked, working=depth.working
            )
    return tuple(found.values())


def _served(p: Pass) -> frozenset[str]:
    """By this runner's pools; what the fleet's others serve is another runner's to look at (TSCHED_POOLS)."""
    fleet, mine = p.applied.fleet, serving(p)
    if fleet is None or mine is None:
        return frozenset()
    return p.host.kept(_able, fleet, mine, p.applied.lifecycles) | {
        pool.queue for pool in mine.pools if pool.suspend and pool.suspend.holds(p.now)
    }


def _able(fleet: Fleet, mine: Fleet, lifecycles: Lifecycles) -> frozenset[str]:
    here = {pool.queue for pool in mine.pools}
    others = {pool.queue for pool in fleet.pools} - here
    able = {pool.queue for pool, agent in mine.agents() if agent.limit and admits(lifecycles, agent.name, pool.queue)}
    return frozenset(others | able)


def _passes(p: Pass, *, most: int) -> tuple[PassSample, ...]:
    """The last passes, this one last."""
    stored = _kept(p, lambda db: passes.passes(db, limit=most)) if most else ()
    earlier = [
        PassSample(
            time=one.time, ready=one.ready, free=one.free, running=one.running,
            started=one.counters.get("tasks_spawned", 0),
        )
        for one in stored
    ]  # fmt: skip
    room, started = p.room, len(p.started)
    return (*earlier, PassSample(time=p.now, ready=room.ready, free=room.free, running=room.running, started=started))


def _errors(p: Pass, *, window: float) -> tuple[float, ...]:
    stored = _kept(p, lambda db: passes.errors(db, since=p.now - window)) if window else ()
    return (*(one.time for one in stored), *(one.time for one in p.troubles))


def _kept(p: Pass, ask: Callable[[Database], tuple[T, ...]]) -> tuple[T, ...]:
    """What history says; nothing where it can't be read, since it may not stop work."""
    try:
        return ask(p.host.history)
    except TschedError as error:
        p.log.warning(f"Alerts go by this pass alone: {error}")
        return ()


def _drains(p: Pass) -> tuple[DrainSample, ...]:
    return tuple(
        DrainSample(
            agent=row.agent,
            queue=row.queue,
            deadline=row.deadline,
            runs=sum((run.agent, run.queue) == row.key for run in p.runs.values()),
        )
        for row in p.applied.lifecycles.leaving
    )


def _refused(p: Pass) -> Refused | None:
    """The tip that is not in force, and since when: as the last pass says, where it was so then already."""
    match p.verdict:
        case Rejected(tip=tip, diagnostics=found):
            how, why, condition = "rejected", str(found[0]), "Valid"
        case Held(tip=tip, reason=reason):
            how, why, condition = "held", reason, "Held"
        case _:
            return None
    known = next((one for one in p.last["conditions"] if one["type"] == condition), None)
    before = p.last["rejected"] if how == "rejected" else p.last["held"]
    same = known is not None and before is not None and before["revision"] == tip
    return Refused(revision=tip, how=how, why=why, since=from_iso(known["since"]) if same and known else p.now)


def _remote_answered(p: Pass) -> float | None:
    problem = p.verdict.problem if isinstance(p.verdict, Unchanged) else None
    return None if problem is None else last_fetch(p, problem) or p.now
