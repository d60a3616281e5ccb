"""`tsched why`: each link by value, and that they agree with what `match` does, whatever the fleet and its tasks."""

import random
from collections import Counter
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import fleets, lifecycles, tasks
from tsched.model.fleet import Agent, Fleet, Limits, Pool, Suspend
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.override import Override, OverrideKind
from tsched.model.reason import Link, Reason
from tsched.model.task import Task, TaskStatus
from tsched.schedule.breaker import Breaker
from tsched.schedule.facts import Refused
from tsched.schedule.reasons import why_queue, why_task
from tsched.schedule.scene import Scene

NOW = 100.0
DRAINING = AgentState.DRAINING
T = TypeVar("T")
Rows = dict[tuple[str, str], Lifecycle]


def task(number: int, **facts: object) -> Task:
    return Task(**{"id": str(number), "title": "t", "queue": "dev", **facts})  # type: ignore[arg-type]


def fleet(*agents: Agent, limits: Limits | None = None, **pool: object) -> Fleet:
    given = agents or (Agent(name="ada", recipe="r"),)
    dev = Pool(**{"name": "dev", "queue": "dev", "agents": given, **pool})  # type: ignore[arg-type]
    return Fleet(revision="a" * 40, pools=(dev,), limits=limits or Limits())


def scene(*waiting: Task, of: Fleet | None = None, **facts: object) -> Scene:
    return Scene(**{"fleet": of or fleet(), "now": NOW, "waiting": waiting, **facts})  # type: ignore[arg-type]


def holding(found: tuple[Reason, ...]) -> list[Link]:
    return [reason.kind for reason in found if reason.holds]


def the(kind: Link, found: tuple[Reason, ...]) -> Reason:
    (reason,) = [one for one in found if one.kind is kind]
    return reason


def stop(queue: str, reason: str = "") -> Override:
    return Override(kind=OverrideKind.STOP, subject=f"pool/{queue}", queue=queue, since=NOW, by="ann", reason=reason)


def drain(agent: str) -> Override:
    return Override(kind=OverrideKind.DRAIN, subject=f"agent/{agent}", since=NOW, by="ann")


# -- they agree with match


def some(chance: random.Random) -> Scene:
    """A small fleet in full swing, in which each link now and then is the one that holds."""

    def rarely(value: T, other: T) -> T:
        return value if chance.random() < 0.12 else other

    recipes = ("r", "s")
    pools = []
    for queue in ("dev", "qa"):
        agents = tuple(
            Agent(
                name=f"{queue}{number}",
                recipe=chance.choice(recipes),
                limit=chance.choice((0, 1, 1, 2)),
                priority_floor=rarely(1, 0),
            )
            for number in range(chance.choice((0, 1, 2, 2)))
        )
        suspend = rarely(Suspend(), None)
        pools.append(Pool(name=queue, queue=queue, agents=agents, suspend=suspend, max_running=rarely(1, None)))
    limits = Limits(max_running=rarely(2, None), spawn_per_cycle=rarely(1, None))
    whole = Fleet(revision="r", pools=tuple(pools), limits=limits)
    homes = {agent.name: pool.queue for pool, agent in whole.agents()}
    running = Counter(name for name in homes if chance.random() < 0.2)
    waiting = [
        task(
            number,
            queue=rarely("extra", chance.choice(("dev", "qa"))),
            assigned_to=chance.choice((None, None, None, *homes, rarely("eve", None))),
            priority=chance.choice((0, 1)),
            blocked_by=(blocker := rarely(str(chance.randint(1, 6)), None)),
            blocked=blocker is not None,
            not_before=rarely(NOW + 1, 0.0),
        )
        for number in range(1, chance.choice((2, 4, 7)))
    ]
    gone = [(name, queue) for name in homes for queue in ("dev", "qa") if chance.random() < 0.1]
    return Scene(
        fleet=whole,
        now=NOW,
        lifecycles={key: Lifecycle(agent=key[0], queue=key[1], pool="dev", state=DRAINING) for key in gone},
        waiting=waiting,
        running_by_agent=running,
        running_by_queue=Counter(homes[name] for name in running),
        running=running.total(),
        held=frozenset(one.id for one in waiting if rarely(True, False)),
        resting=rarely({chance.choice(recipes): chance.choice((0, 1))}, {}),
        overrides=rarely((stop(chance.choice(("dev", "qa"))),), rarely((drain("dev0"),), ())),
        blocking=rarely(False, True),
    )


SCENES = [some(random.Random(seed)) for seed in range(3000)]


def test_a_task_is_held_exactly_where_match_passes_it_over() -> None:
    seen: Counter[Link | None] = Counter()
    for one in SCENES:
        started = {made.task.id: made.agent for made in one.started(one.ordered.ready)}
        for each in one.waiting:
            found = why_task(each, one)
            held = holding(found)
            assert (held == []) is (each.id in started), (one, found)
            assert each.id not in started or f"gives it to {started[each.id]}" in the(Link.TURN, found).words
            seen.update(held if len(held) == 1 else [])
    expected = set(Link) - {Link.REVISION, Link.HALTED, Link.STATUS, Link.SPAWN, Link.TASKS}
    assert {link for link in expected if seen[link] < 10} == set(), f"links that hardly ever hold alone: {seen}"


def test_a_task_that_only_waits_its_turn_starts_once_those_before_it_are_gone() -> None:
    for one in SCENES:
        for each in one.waiting:
            alone = one.started([other for other in one.ordered.ready if other.id == each.id])
            assert (set(holding(why_task(each, one))) <= {Link.TURN}) is bool(alone), (one, each)


def test_what_holds_has_a_mend_and_queues_say_how_many_start() -> None:
    for one in SCENES[:500]:
        for each in one.waiting:
            assert all(reason.words and (reason.mend or not reason.holds) for reason in why_task(each, one))
        for queue in ("dev", "qa", "extra"):
            total = the(Link.TASKS, why_queue(queue, one))
            here = [each for each in one.waiting if each.queue == queue]
            assert total.holds is (bool(here) and not any(each.id in one.starts for each in here))


@given(fleets(), lifecycles(), tasks(), st.booleans())
def test_any_fleet_and_any_tasks_agree_with_match(
    whole: Fleet, rows: Rows, waiting: list[Task], blocking: bool
) -> None:
    one = Scene(fleet=whole, now=NOW, lifecycles=rows, waiting=waiting, blocking=blocking)
    for each in waiting:
        assert (holding(why_task(each, one)) == []) is (each.id in one.starts)


# -- each link


ACTIVE = Agent(name="ada", recipe="r", limit=2)
LATE = Lifecycle(agent="ada", queue="dev", pool="dev", state=AgentState.DRAINING, since=1.0)


@pytest.mark.parametrize(
    ("seen", "kind", "words"),
    [
        (Scene(fleet=None, now=NOW), Link.REVISION, "no revision of a fleet repo is applied"),
        (scene(halted="`tsched stop` by ann"), Link.HALTED, "nothing is started: `tsched stop` by ann"),
        (scene(held=frozenset("1")), Link.CLAIM, "a run, a lease or a result"),
        (scene(of=fleet(name="qa", queue="qa")), Link.QUEUE, "no pool of this runner serves queue dev"),
        (
            scene(of=fleet(name="qa", queue="qa"), lifecycles={LATE.key: LATE}), Link.QUEUE,
            "no pool of this runner serves queue dev any more (ada is on the way out)",
        ),
        (scene(overrides=(stop("dev", reason="deploy"),)), Link.POOL, "pool dev is stopped here: stop of pool/dev"),
        (scene(overrides=(drain("ada"),)), Link.AGENTS, "ada is drained here"),
        (
            scene(of=fleet(suspend=Suspend(until=NOW + 1, reason="release"))), Link.POOL,
            "pool dev is suspended until 1970-01-01T00:01:41.000Z: release",
        ),
        (scene(of=replace(fleet(), pools=(Pool(name="dev", queue="dev"),))), Link.AGENTS, "pool dev has no agent"),
        (scene(lifecycles={LATE.key: LATE}), Link.AGENTS, "ada is draining"),
        (scene(of=fleet(Agent(name="ada", recipe="r", limit=0))), Link.LIMIT, "ada has limit 0"),
        (
            scene(of=fleet(ACTIVE), running_by_agent={"ada": 2}), Link.SLOTS, "ada has 2 of 2 slots in use",
        ),
        (
            scene(resting={"r": 0}, breakers={"r": Breaker(recipe="r", content="c", until=NOW + 60)}), Link.BREAKER,
            "r of ada rests until 1970-01-01T00:02:40.000Z, since its runs all failed",
        ),
        (
            scene(resting={"r": 0}, breakers={"r": Breaker(recipe="r", content="c", until=NOW - 1)}), Link.BREAKER,
            "r of ada rests, since its runs all failed; one run at a time may try, and it goes on",
        ),
        (
            scene(of=fleet(Agent(name="ada", recipe="r", priority_floor=3))), Link.FLOOR,
            "ada takes nothing below priority 3 (this has 0)",
        ),
        (
            scene(of=fleet(max_running=1), running_by_queue={"dev": 1}), Link.POOL_CAP,
            "pool dev runs 1 of at most 1 (max_running)",
        ),
        (
            scene(of=fleet(limits=Limits(max_running=2)), running=2), Link.FLEET_CAP,
            "the fleet runs 2 of at most 2 (max_running)",
        ),
    ],
)  # fmt: skip
def test_what_holds_a_task(seen: Scene, kind: Link, words: str) -> None:
    found = why_task(task(1), replace(seen, waiting=(task(1),)))
    assert holding(found) == [kind]
    assert the(kind, found).words.startswith(words)


@pytest.mark.parametrize(
    ("one", "kind", "words"),
    [
        (task(1, status=TaskStatus.WORKING, assigned_to="ada", claim_run="1-1-x"), Link.STATUS,
         "it is being worked on by ada in run 1-1-x"),
        (task(1, status=TaskStatus.COMPLETE), Link.STATUS, "it is complete"),
        (task(1, status=TaskStatus.PARKED, attempts=3), Link.STATUS, "it was given up after 3 attempts"),
        (task(1, status=TaskStatus.CANCELLED), Link.STATUS, "it is cancelled"),
        (task(1, attempts=3, not_before=NOW + 90), Link.BACKOFF,
         "it backs off after a failed run until 1970-01-01T00:03:10.000Z, for 1.5m yet"),
        (task(1, assigned_to="eve"), Link.ASSIGNEE, "it is assigned to eve, who is no agent of this runner's fleet"),
        (task(1, assigned_to="parked"), Link.ASSIGNEE, "it is parked for a person"),
    ],
)  # fmt: skip
def test_what_a_task_itself_says(one: Task, kind: Link, words: str) -> None:
    found = why_task(one, scene())
    assert holding(found) == [kind]
    assert the(kind, found).words.startswith(words)


def test_the_whole_chain_of_a_task_that_starts() -> None:
    found = why_task(task(2), scene(task(2), task(1), of=fleet(ACTIVE, limits=Limits(spawn_per_cycle=4))))
    assert [(reason.kind, reason.words) for reason in found] == [
        (Link.REVISION, "revision aaaaaaaaaaaa is applied"),
        (Link.STATUS, "it waits in queue dev"),
        (Link.BLOCKED, "no task blocks it"),
        (Link.QUEUE, "pool dev serves queue dev"),
        (Link.AGENTS, "ada is active"),
        (Link.SLOTS, "ada has 2 of 2 slots free"),
        (Link.SPAWN, "at most 4 runs start in one pass (spawn_per_cycle)"),
        (Link.TURN, "the next pass gives it to ada, after 1 other (1)"),
    ]


def test_a_removed_agents_task_waits_for_the_handing_back() -> None:
    row = replace(LATE, agent="ben")
    found = why_task(task(1, assigned_to="ben"), scene(lifecycles={row.key: row}))
    assert the(Link.ASSIGNEE, found).words == "its agent ben was removed from the fleet and is draining"


def test_an_agent_takes_its_own_task_from_any_queue() -> None:
    found = why_task(task(1, queue="qa", assigned_to="ada"), scene())
    assert holding(found) == []
    assert the(Link.ASSIGNEE, found).words == "ada is an agent of pool dev, and takes its own tasks from queue qa too"


def test_tasks_ahead_are_counted_and_named() -> None:
    found = why_task(task(3), scene(task(3), task(1), task(2, assigned_to="ada"), of=fleet(ACTIVE)))
    assert the(Link.TURN, found).words == "2 tasks come before it for what is free: 2, 1"
    assert holding(found) == [Link.TURN]


def test_some_agents_in_the_way_do_not_hold_a_task_that_another_takes() -> None:
    agents = (Agent(name="ada", recipe="r", limit=0), Agent(name="ben", recipe="r"), Agent(name="cy", recipe="r"))
    found = why_task(task(1), scene(of=fleet(*agents), running_by_agent={"cy": 1}))
    assert holding(found) == []
    assert the(Link.LIMIT, found).words == "ada has limit 0"
    assert the(Link.SLOTS, found).words == "ben has 1 of 1 slot free; cy has 1 of 1 slot in use"


BLOCKED = {"blocked": True}


def test_a_chain_of_blockers_is_followed_to_its_end() -> None:
    three, seven = task(3, blocked_by="7", **BLOCKED), task(7, blocked_by="9", **BLOCKED)
    nine = task(9, status=TaskStatus.PARKED)
    found = the(Link.BLOCKED, why_task(three, scene(three, seven, known={"9": nine})))
    assert found.words == "it is blocked: 3 (idle) ← 7 (idle) ← 9 (parked)"
    assert found.mend == "Task 9 was given up: `tsched task show 9`, then reopen or cancel it."
    working = replace(nine, status=TaskStatus.WORKING, assigned_to="ben")
    found = the(Link.BLOCKED, why_task(three, scene(three, seven, known={"9": working})))
    assert found.words.endswith("9 (working, ben)")
    unknown = the(Link.BLOCKED, why_task(three, scene(three, seven)))
    assert unknown.words.endswith("9 (not known)")


def test_a_circle_of_blockers_is_found_and_named() -> None:
    circle = [task(n, blocked_by=blocker, **BLOCKED) for n, blocker in ((1, "2"), (2, "3"), (3, "2"))]
    found = the(Link.BLOCKED, why_task(circle[0], scene(*circle)))
    assert found.words == "it is blocked: 1 (idle) ← 2 (idle) ← 3 (idle) ← 2 (idle)"
    assert "for ever" in found.mend
    said = [reason.words for reason in why_queue("dev", scene(*circle)) if reason.holds]
    assert said == [
        "3 tasks wait, 0 of them start in the next pass",
        "3 blocked by other tasks: 1, 2, 3",
        "tasks block each other in a circle: 2 ← 3 ← 2",
    ]


def test_blocking_that_is_switched_off_holds_nothing_but_is_said() -> None:
    one = task(1, blocked_by="2", **BLOCKED)
    found = why_task(one, scene(one, blocking=False))
    assert holding(found) == []
    assert the(Link.BLOCKED, found).words.endswith("but blocking is switched off")


def test_a_refused_revision_is_said_beside_the_one_in_force() -> None:
    held = Refused(revision="b" * 40, how="held", why="it removes 3 of 4 agents", since=NOW)
    found = the(Link.REVISION, why_task(task(1), scene(refused=held)))
    assert not found.holds
    assert found.words == (
        "revision aaaaaaaaaaaa stays applied, since revision bbbbbbbbbbbb is held: it removes 3 of 4 agents"
    )
    assert "tsched accept" in found.mend
    none = the(Link.REVISION, why_task(task(1), Scene(fleet=None, now=NOW, refused=replace(held, how="rejected"))))
    assert none.holds
    assert none.words.endswith("; revision bbbbbbbbbbbb is rejected: it removes 3 of 4 agents")


def test_a_queue_in_all_its_parts() -> None:
    waiting = [task(1), task(2), task(3, not_before=NOW + 9), task(4, assigned_to="eve"), task(5, queue="qa")]
    said = [(reason.kind, reason.words) for reason in why_queue("dev", scene(*waiting))]
    assert said == [
        (Link.REVISION, "revision aaaaaaaaaaaa is applied"),
        (Link.QUEUE, "pool dev serves queue dev"),
        (Link.AGENTS, "ada is active"),
        (Link.SLOTS, "ada has 1 of 1 slot free"),
        (Link.TASKS, "4 tasks wait, 1 of them starts in the next pass"),
        (Link.TURN, "1 waiting for those before it: 2"),
        (Link.BACKOFF, "1 backing off after a failed run: 3"),
        (Link.ASSIGNEE, "1 assigned to somebody who is no agent here: 4"),
    ]


def test_an_empty_queue_and_a_strange_one() -> None:
    assert the(Link.TASKS, why_queue("dev", scene())).words == "no task waits in queue dev"
    assert holding(why_queue("extra", scene())) == [Link.QUEUE]
    assert holding(why_queue("dev", Scene(fleet=None, now=NOW, waiting=(task(1),)))) == [
        Link.REVISION, Link.TASKS, Link.REVISION,
    ]  # fmt: skip


def test_many_tasks_are_asked_about_in_no_time() -> None:
    """Each task costs what its agents cost: a match for each of 5,000 would take minutes."""
    many = [task(number) for number in range(5000)]
    found = why_queue("dev", scene(*many))
    assert any(reason.words.startswith("4999 waiting for those before it") for reason in found)


def test_suspends_that_ended_hold_nothing() -> None:
    assert holding(why_task(task(1), scene(of=fleet(suspend=Suspend(until=NOW))))) == []
