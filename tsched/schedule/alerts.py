"""Which alerts fire, are repeated or resolve: the rules and the facts of one moment against what fires already."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import assert_never

from tsched.model.alert import (
    Alert,
    AlertRule,
    AlertState,
    AlertStep,
    AlertTransition,
    DepthRule,
    DrainRule,
    ErrorsRule,
    NoAssignmentRule,
    RemoteRule,
    RevisionRule,
    UnservedRule,
    fingerprint,
)
from tsched.model.history import Sample
from tsched.model.records import dataclass
from tsched.model.units import about, count
from tsched.schedule.facts import AlertFacts

Outcome = tuple[tuple[AlertTransition, ...], tuple[Alert, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """Something that a rule finds wrong. `since`: from when on, in seconds since the epoch."""

    subject: str
    summary: str
    since: float


def evaluate(rules: Sequence[AlertRule], facts: AlertFacts, firing: Iterable[Alert], now: float) -> Outcome:
    """What to tell now, and the alerts as they stand, pending ones too: the `firing` of the next call.

    An alert fires once when it has held for its rule's `for:`, is repeated each `repeat:`, and resolves when it no
    longer holds or its rule is gone; one that was only pending goes without a word. Where the facts can't say whether
    it holds, it stays as it is. `now`: seconds since the epoch.
    """
    before = {alert.fingerprint: alert for alert in firing}
    told: list[AlertTransition] = []
    after: list[Alert] = []
    for rule in rules:
        if _unknown(rule, facts):
            after += [before.pop(alert.fingerprint) for alert in tuple(before.values()) if alert.rule == rule.name]
            continue
        for symptom in _symptoms(rule, facts, now):
            alert = _seen(before.pop(fingerprint(rule.name, symptom.subject), None), rule, symptom, now)
            step = _step(alert, rule, now)
            if step is not None:
                alert = replace(alert, state=AlertState.FIRING, told=now)
                told.append(AlertTransition(step=step, alert=alert, at=now))
            after.append(alert)
    gone = sorted(before.values(), key=_by_age)
    told += [
        AlertTransition(step=AlertStep.RESOLVED, alert=one, at=now) for one in gone if one.state is AlertState.FIRING
    ]
    return tuple(told), tuple(sorted(after, key=_by_age))


def _by_age(alert: Alert) -> tuple[float, str]:
    return (alert.since, alert.fingerprint)


def _seen(known: Alert | None, rule: AlertRule, symptom: Symptom, now: float) -> Alert:
    """The alert with its newest words. It began when it was first seen, or earlier where the symptom knows better."""
    return Alert(
        fingerprint=fingerprint(rule.name, symptom.subject),
        rule=rule.name,
        severity=rule.severity,
        subject=symptom.subject,
        summary=symptom.summary,
        since=min(now, symptom.since, known.since if known is not None else now),
        state=known.state if known is not None else AlertState.PENDING,
        told=min(now, known.told) if known is not None else 0.0,  # a clock that was put back starts the count anew
    )


def _step(alert: Alert, rule: AlertRule, now: float) -> AlertStep | None:
    if alert.state is AlertState.PENDING:
        return AlertStep.FIRED if now - alert.since >= rule.wait else None
    due = rule.repeat is not None and now - alert.told >= rule.repeat
    return AlertStep.REMINDED if due else None


def _unknown(rule: AlertRule, facts: AlertFacts) -> bool:
    """Whether the task server or the remote, who alone could say, did not answer."""
    if isinstance(rule, DepthRule | UnservedRule | NoAssignmentRule):
        return facts.queues is None
    return isinstance(rule, RevisionRule) and facts.remote_answered is not None


def _symptoms(rule: AlertRule, facts: AlertFacts, now: float) -> Iterator[Symptom]:
    """What the rule finds wrong, each subject once."""
    match rule:
        case DepthRule():
            yield from _depth(rule, facts, now)
        case NoAssignmentRule():
            yield from _no_assignment(rule, facts)
        case ErrorsRule():
            yield from _errors(rule, facts, now)
        case UnservedRule():
            yield from _unserved(rule, facts, now)
        case DrainRule():
            yield from _drains(facts, now)
        case RevisionRule():
            yield from _revision(facts)
        case RemoteRule():
            yield from _remote(facts, now)
        case _:
            assert_never(rule)


def _wanted(rule: DepthRule | UnservedRule, facts: AlertFacts) -> Iterator[Sample]:
    yield from (one for one in facts.queues or () if rule.queue in (None, one.queue))


def _depth(rule: DepthRule, facts: AlertFacts, now: float) -> Iterator[Symptom]:
    for queue in _wanted(rule, facts):
        if queue.idle > rule.above:
            yield Symptom(
                subject=f"queue/{queue.queue}",
                summary=f"{_waiting(queue, now)}, more than {rule.above}",
                since=now,
            )


def _unserved(rule: UnservedRule, facts: AlertFacts, now: float) -> Iterator[Symptom]:
    for queue in _wanted(rule, facts):
        if queue.idle and queue.queue not in facts.served:
            summary = f"{_waiting(queue, now)}, and no active agent serves it: `tsched why queue {queue.queue}`"
            yield Symptom(subject=f"queue/{queue.queue}", summary=summary, since=now)


def _waiting(queue: Sample, now: float) -> str:
    """`14 tasks wait in queue dev (2 of them blocked, the oldest ready one for 3.5h)`"""
    more = [f"{queue.blocked} of them blocked"] if queue.blocked else []
    more += [f"the oldest ready one for {about(now - queue.oldest)}"] if queue.oldest is not None else []
    words = f"{count(queue.idle, 'task waits', 'tasks wait')} in queue {queue.queue}"
    return words + (f" ({', '.join(more)})" if more else "")


def _no_assignment(rule: NoAssignmentRule, facts: AlertFacts) -> Iterator[Symptom]:
    stuck = 0
    for one in reversed(facts.passes):
        if not one.stuck:
            break
        stuck += 1
    if stuck >= max(1, rule.passes):
        last = facts.passes[-1]
        summary = (
            f"nothing was started in the last {count(stuck, 'pass', 'passes')}, though "
            f"{count(last.ready, 'task is', 'tasks are')} ready and {count(last.free, 'slot is', 'slots are')} free"
        )
        yield Symptom(subject="assignments", summary=summary, since=facts.passes[-stuck].time)


def _errors(rule: ErrorsRule, facts: AlertFacts, now: float) -> Iterator[Symptom]:
    recent = sum(1 for time in facts.errors if now - rule.window < time <= now)
    if recent > rule.above:
        summary = f"{count(recent, 'error')} in the last {about(rule.window)}, more than {rule.above}"
        yield Symptom(subject="errors", summary=summary, since=now)


def _drains(facts: AlertFacts, now: float) -> Iterator[Symptom]:
    for drain in facts.drains:
        if drain.runs and drain.deadline is not None and now > drain.deadline:
            late = about(now - drain.deadline)
            summary = (
                f"the drain of {drain.agent} from queue {drain.queue} is {late} past its deadline, "
                f"with {count(drain.runs, 'run')} left"
            )
            yield Symptom(subject=f"agent/{drain.agent}/{drain.queue}", summary=summary, since=drain.deadline)


def _revision(facts: AlertFacts) -> Iterator[Symptom]:
    if (refused := facts.refused) is not None:
        summary = f"revision {refused.revision[:12]} is {refused.how}: {refused.why}"
        yield Symptom(subject=f"revision/{refused.revision}", summary=summary, since=refused.since)


def _remote(facts: AlertFacts, now: float) -> Iterator[Symptom]:
    if (answered := facts.remote_answered) is not None and now > answered:
        summary = f"the fleet repo's remote has not answered for {about(now - answered)}"
        yield Symptom(subject="remote", summary=summary, since=answered)
