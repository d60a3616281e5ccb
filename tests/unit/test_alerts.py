"""Alerts: what each rule finds, when it fires, is repeated and resolves."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsched.model.alert import (
    Alert,
    AlertRule,
    AlertSeverity,
    AlertState,
    AlertStep,
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
from tsched.schedule.alerts import evaluate
from tsched.schedule.facts import AlertFacts, DrainSample, PassSample, Refused

NOW = 10_000.0
QUIET = AlertFacts()


def sample(queue: str, idle: int, blocked: int = 0, oldest: float | None = None) -> Sample:
    return Sample(time=NOW, queue=queue, idle=idle, blocked=blocked, working=0, oldest=oldest)


def deep(number: int, name: str = "dev") -> AlertFacts:
    return AlertFacts(queues=(sample(name, number),))


def passes(*stuck: bool, free: int = 2) -> AlertFacts:
    """Passes a minute apart, the last one now; those that are not stuck started a run."""
    last = len(stuck) - 1
    return AlertFacts(
        passes=tuple(
            PassSample(time=NOW - 60.0 * (last - index), ready=3, started=0 if one else 1, running=1, free=free)
            for index, one in enumerate(stuck)
        )
    )


def drain(runs: int, deadline: float | None) -> AlertFacts:
    return AlertFacts(drains=(DrainSample(agent="ada", queue="dev", deadline=deadline, runs=runs),))


IDLE = AlertFacts(passes=(PassSample(time=NOW, ready=0, started=0, free=1),))
HELD = Refused(revision="f" * 40, how="held", why="it removes 3 of 4 agents", since=NOW - 90)
DEV = sample("dev", 14, 2, NOW - 3.5 * 3600)

FINDS: list[tuple[AlertRule, AlertFacts, str, str, float]] = [
    (
        DepthRule(name="r", above=13), AlertFacts(queues=(DEV,)), "queue/dev",
        "14 tasks wait in queue dev (2 of them blocked, the oldest ready one for 3.5h), more than 13", NOW,
    ),
    (DepthRule(name="r", above=0, queue="dev"), deep(1), "queue/dev", "1 task waits in queue dev, more than 0", NOW),
    (
        NoAssignmentRule(name="r", passes=2), passes(False, True, True, True), "assignments",
        "nothing was started in the last 3 passes, though 3 tasks are ready and 2 slots are free", NOW - 120,
    ),
    (
        ErrorsRule(name="r", above=2, window=3600.0), AlertFacts(errors=(NOW - 3599, NOW - 1, NOW)), "errors",
        "3 errors in the last 1h, more than 2", NOW,
    ),
    (
        UnservedRule(name="r"), deep(2), "queue/dev",
        "2 tasks wait in queue dev, and no active agent serves it: `tsched why queue dev`", NOW,
    ),
    (
        DrainRule(name="r"), drain(2, NOW - 600), "agent/ada/dev",
        "the drain of ada from queue dev is 10m past its deadline, with 2 runs left", NOW - 600,
    ),
    (
        RevisionRule(name="r"), AlertFacts(refused=HELD), f"revision/{'f' * 40}",
        "revision ffffffffffff is held: it removes 3 of 4 agents", NOW - 90,
    ),
    (
        RemoteRule(name="r"), AlertFacts(remote_answered=NOW - 300), "remote",
        "the fleet repo's remote has not answered for 5m", NOW - 300,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "facts", "subject", "summary", "since"), FINDS)
def test_what_a_rule_finds(rule: AlertRule, facts: AlertFacts, subject: str, summary: str, since: float) -> None:
    (told,), (alert,) = evaluate([rule], facts, (), NOW)
    assert (told.step, told.alert, told.at) == (AlertStep.FIRED, alert, NOW)
    assert (alert.subject, alert.summary, alert.since) == (subject, summary, since)
    assert told.words == f"warning r, {subject}: {summary}"


@pytest.mark.parametrize(
    ("rule", "facts"),
    [
        (DepthRule(name="r", above=14), AlertFacts(queues=(DEV,))),
        (DepthRule(name="r", above=0, queue="qa"), deep(9)),
        (NoAssignmentRule(name="r", passes=3), passes(False, True, True)),
        (NoAssignmentRule(name="r", passes=1), passes(True, free=0)),  # every slot is busy: no fault
        (NoAssignmentRule(name="r", passes=1), IDLE),
        (ErrorsRule(name="r", above=2, window=60.0), AlertFacts(errors=(NOW - 60, NOW - 1, NOW))),
        (UnservedRule(name="r"), AlertFacts(queues=(DEV,), served=frozenset({"dev"}))),
        (UnservedRule(name="r"), deep(0)),
        (DrainRule(name="r"), drain(2, NOW)),
        (DrainRule(name="r"), drain(2, None)),
        (DrainRule(name="r"), drain(0, NOW - 9)),
        (RevisionRule(name="r"), QUIET),
        (RemoteRule(name="r"), QUIET),
    ],
)
def test_what_a_rule_lets_pass(rule: AlertRule, facts: AlertFacts) -> None:
    assert evaluate([rule], facts, (), NOW) == ((), ())


def test_no_slots_at_all_and_no_runs_is_stuck_too() -> None:
    starved = AlertFacts(passes=(PassSample(time=NOW, ready=1, started=0, running=0, free=0),))
    (told,), _ = evaluate([NoAssignmentRule(name="r", passes=1)], starved, (), NOW)
    assert "1 task is ready and 0 slots are free" in told.alert.summary


def steps(rule: AlertRule, facts: Sequence[AlertFacts], every: float = 60.0) -> list[list[AlertStep]]:
    """What is told at each of several passes."""
    found = []
    alerts: tuple[Alert, ...] = ()
    for number, one in enumerate(facts):
        told, alerts = evaluate([rule], one, alerts, NOW + number * every)
        found.append([each.step for each in told])
    return found


FIRED, REMINDED, RESOLVED = ([one] for one in AlertStep)


def test_it_fires_once_and_resolves_once() -> None:
    rule = DepthRule(name="r", above=5)
    assert steps(rule, [deep(9), deep(8), deep(5), deep(5), deep(7)]) == [FIRED, [], RESOLVED, [], FIRED]


def test_for_waits_and_begins_anew_after_a_moment_of_calm() -> None:
    rule = DepthRule(name="r", above=5, wait=120.0)
    held = [deep(9)] * 3
    assert steps(rule, [deep(9), deep(9), deep(0), *held, deep(0)]) == [[], [], [], [], [], FIRED, RESOLVED]


def test_for_counts_from_when_it_began_not_from_when_it_was_seen() -> None:
    rule = RemoteRule(name="r", wait=300.0)
    assert evaluate([rule], AlertFacts(remote_answered=NOW - 299), (), NOW)[0] == ()
    assert evaluate([rule], AlertFacts(remote_answered=NOW - 300), (), NOW)[0] != ()


def test_a_reminder_comes_each_repeat_and_not_before() -> None:
    rule = DepthRule(name="r", above=5, repeat=120.0)
    assert steps(rule, [deep(9)] * 6) == [FIRED, [], REMINDED, [], REMINDED, []]


def test_while_the_task_server_is_silent_nothing_about_queues_changes() -> None:
    silent = AlertFacts(queues=None)
    for rule in (DepthRule(name="r", above=5, repeat=60.0), UnservedRule(name="r")):
        assert steps(rule, [deep(9), silent, silent, deep(0)]) == [FIRED, [], [], RESOLVED]
    nothing = NoAssignmentRule(name="r", passes=1)
    unasked = replace(IDLE, queues=None)
    assert steps(nothing, [passes(True), unasked, passes(True), IDLE]) == [FIRED, [], [], RESOLVED]
    waiting = DepthRule(name="r", above=5, wait=120.0)
    assert steps(waiting, [deep(9), silent, deep(9)]) == [[], [], FIRED]


def test_while_the_remote_is_silent_what_it_refused_stays_refused() -> None:
    rule = RevisionRule(name="r")
    silent = AlertFacts(remote_answered=NOW - 60)
    assert steps(rule, [AlertFacts(refused=HELD), silent, AlertFacts(refused=HELD), QUIET]) == [
        FIRED, [], [], RESOLVED,
    ]  # fmt: skip


def test_each_queue_is_an_alert_of_its_own() -> None:
    rule = DepthRule(name="r", above=5)
    both = AlertFacts(queues=(sample("dev", 9), sample("qa", 9)))
    told, alerts = evaluate([rule], both, (), NOW)
    assert {one.alert.subject for one in told} == {"queue/dev", "queue/qa"}
    resolved, left = evaluate([rule], deep(9, "qa"), alerts, NOW + 60)
    assert [(one.step, one.alert.subject) for one in resolved] == [(AlertStep.RESOLVED, "queue/dev")]
    assert [one.subject for one in left] == ["queue/qa"]


def test_an_alert_whose_rule_is_gone_resolves() -> None:
    _, alerts = evaluate([DepthRule(name="r", above=5)], deep(9), (), NOW)
    told, left = evaluate([DepthRule(name="other", above=50)], deep(9), alerts, NOW)
    assert ([one.step for one in told], left) == (RESOLVED, ())
    assert told[0].words.startswith("resolved r, queue/dev: ")


def test_another_refused_revision_is_another_alert() -> None:
    rule = RevisionRule(name="r", severity=AlertSeverity.CRITICAL)
    newer = Refused(revision="e" * 40, how="rejected", why="TS304", since=NOW)
    assert steps(rule, [AlertFacts(refused=HELD), AlertFacts(refused=newer)]) == [FIRED, [*FIRED, *RESOLVED]]


def test_a_clock_that_goes_back_fires_nothing_twice() -> None:
    rule = DepthRule(name="r", above=5, wait=60.0)
    _, pending = evaluate([rule], deep(9), (), NOW)
    told, alerts = evaluate([rule], deep(9), pending, NOW - 3600)
    assert told == ()
    assert alerts[0].since == NOW - 3600


def test_fingerprints_are_stable() -> None:
    """Whoever was told of one finds the same one again, whatever version of tsched says so."""
    assert fingerprint("dev-deep", "queue/dev") == "eed019640ffe05f1"


facts_of_queues = st.builds(
    AlertFacts,
    queues=st.none()
    | st.lists(
        st.builds(sample, st.sampled_from(("dev", "qa")), st.integers(0, 9)),
        unique_by=lambda one: one.queue,
    ).map(tuple),
    served=st.sampled_from((frozenset(), frozenset({"dev"}))),
    errors=st.lists(st.floats(NOW - 100, NOW + 600), max_size=5).map(tuple),
)
all_rules: list[AlertRule] = [
    DepthRule(name="deep", above=4, wait=60.0, repeat=120.0),
    UnservedRule(name="unserved"),
    ErrorsRule(name="errors", above=1, window=100.0, wait=30.0),
]


@given(st.lists(facts_of_queues, max_size=12), st.floats(1.0, 200.0))
def test_what_is_told_is_a_story_that_makes_sense(series: list[AlertFacts], every: float) -> None:
    """Each alert is fired, perhaps reminded of, resolved, and only then fired again; the state agrees."""
    alerts: tuple[Alert, ...] = ()
    open_: set[str] = set()
    for number, facts in enumerate(series):
        told, alerts = evaluate(all_rules, facts, alerts, NOW + number * every)
        for one in told:
            assert (one.alert.fingerprint in open_) is (one.step is not AlertStep.FIRED)
            if one.step is AlertStep.RESOLVED:
                open_.discard(one.alert.fingerprint)
            else:
                open_.add(one.alert.fingerprint)
        assert {one.fingerprint for one in alerts if one.state is AlertState.FIRING} == open_
        assert len({one.fingerprint for one in alerts}) == len(alerts)
        assert all(one.since <= NOW + number * every for one in alerts)
