"""The audit, judged by value: each thing that drifts is named, and nothing else is."""

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest

from tsched.model.finding import Finding, Standing
from tsched.model.fleet import Agent, DrainPolicy, Fleet, OnDeadline, Pool, Recipe
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.task import QueueDepth, Task
from tsched.schedule import audit
from tsched.schedule.audit import RunFacts, Tip

NOW = 1_800_000_000.0
WARN, FAIL = Standing.WARN, Standing.FAIL
RECIPE = Recipe(path="recipes/r.yaml", title="T", prompt="P")
FLEET = Fleet(
    revision="a" * 40,
    pools=(
        Pool(name="dev", queue="dev", agents=(Agent(name="ada", recipe=RECIPE.path, limit=2),)),
        Pool(name="quality", queue="qa", agents=(Agent(name="ben", recipe=RECIPE.path),)),
    ),
    recipes={RECIPE.path: RECIPE},
)
ROWS = (Lifecycle(agent="ada", queue="dev", pool="dev"), Lifecycle(agent="ben", queue="qa", pool="quality"))


def said(found: Iterable[Finding]) -> list[tuple[Standing, str]]:
    return [(one.standing, one.evidence) for one in found]


def test_all_is_well_where_nothing_is_found() -> None:
    (one,) = audit.told("tip", (), "it is applied")
    assert (one.standing, one.evidence, one.mend) == (Standing.OK, "it is applied", "")


def test_the_applied_tip_has_not_drifted() -> None:
    assert said(audit.tip("a" * 40, Tip(revision="a" * 40), held=None)) == []


def test_a_tip_that_is_not_applied_is_named_with_its_changes() -> None:
    newest = Tip(revision="b" * 40, rows=["agent.changed agent/ada: limit 1 → 2"])
    found = list(audit.tip("a" * 40, newest, held=None))
    assert said(found) == [
        (FAIL, "the newest commit bbbbbbbbbbbb is not applied, aaaaaaaaaaaa is applied"),
        (FAIL, "agent.changed agent/ada: limit 1 → 2"),
    ]
    (first, _) = audit.tip("a" * 40, newest, held="it removes all")
    assert "tsched accept" in first.mend


def test_a_tip_that_nobody_can_see_or_apply_is_drift() -> None:
    assert said(audit.tip("a" * 40, Tip(problem="no route"), held=None)) == [(FAIL, "no route")]
    (one,) = audit.tip("a" * 40, Tip(revision="b" * 40, problem="pools/x.yaml:1:1: no"), held=None)
    assert "can't be applied: pools/x.yaml" in one.evidence


VIEW = [{"agentName": "ada", "agentType": "dev"}, {"agentName": "ben", "agentType": "qa"}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps(VIEW), []),
        (json.dumps(VIEW[:1]), ["ben is applied but not shown"]),
        (json.dumps([*VIEW, {"agentName": "eve", "agentType": "qa"}]), ["eve is shown but not in the applied fleet"]),
        (json.dumps([VIEW[0], {**VIEW[1], "agentType": "dev"}]), ["ben is shown in dev but serves qa"]),
        (None, ["there is no agent-control.json"]),
    ],
)
def test_the_control_file_shows_the_applied_fleet(text: str | None, words: list[str]) -> None:
    assert said(audit.control_file(text, FLEET)) == [(FAIL, one) for one in words]


def test_the_control_file_leaves_out_who_is_drained_here() -> None:
    assert said(audit.control_file(json.dumps(VIEW[:1]), FLEET, left_out={"ben"})) == []
    ((_, words),) = said(audit.control_file(json.dumps(VIEW), FLEET, left_out={"ben"}))
    assert words == "ben is shown but not in the applied fleet"


@pytest.mark.parametrize("text", ["", "{", "[1]", "[{}]", "7", "{}"])
def test_a_control_file_that_is_none_is_drift_and_no_crash(text: str) -> None:
    assert all(one.standing is FAIL for one in audit.control_file(text, FLEET))
    assert list(audit.control_file(text, FLEET))


def of_rows(*rows: Lifecycle) -> list[tuple[Standing, str]]:
    return said(audit.lifecycles(rows, FLEET, grace=30.0, now=NOW))


def draining(state: AgentState, *, deadline: float, then: OnDeadline = OnDeadline.REQUEUE) -> Lifecycle:
    """An agent of no fleet that was cordoned 2 hours ago, with a deadline so many seconds ago."""
    policy = DrainPolicy(deadline=7200.0 - deadline, on_deadline=then)
    return Lifecycle(agent="cy", queue="dev", pool="dev", state=state, since=NOW - 7200.0, policy=policy)


def test_agents_stand_where_the_fleet_wants_them() -> None:
    assert of_rows(*ROWS) == []
    assert of_rows(ROWS[0]) == [(FAIL, "ben is in the fleet but has no state in queue qa")]
    ((standing, words),) = of_rows(*ROWS, Lifecycle(agent="cy", queue="dev", pool="dev"))
    assert (standing, words.startswith("cy is active")) == (FAIL, True)


@pytest.mark.parametrize(
    ("row", "standing"),
    [
        (draining(AgentState.DRAINING, deadline=-60.0), WARN),
        (draining(AgentState.STOPPING, deadline=150.0), WARN),  # stop_grace, and some time for a pass
        (draining(AgentState.STOPPING, deadline=151.0), FAIL),
        (draining(AgentState.DRAINING, deadline=7000.0, then=OnDeadline.WAIT), WARN),
        (draining(AgentState.DRAINED, deadline=3600.0), WARN),
        (draining(AgentState.DRAINED, deadline=3601.0), FAIL),
    ],
)
def test_an_agent_that_should_be_a_step_further_is_stuck(row: Lifecycle, standing: Standing) -> None:
    ((found, words),) = of_rows(*ROWS, row)
    assert (found, f"cy in queue dev is {row.state}" in words) == (standing, True)


def test_runs_belong_to_agents_and_to_history() -> None:
    def run(agent: str, *, descends: bool | None = True) -> RunFacts:
        return RunFacts(task_id="7", agent=agent, queue="dev", revision="c" * 40, descends=descends)

    assert said(audit.runs([run("ada"), run("ada", descends=None)], FLEET, ())) == []
    assert said(audit.runs([run("cy")], FLEET, [("cy", "dev")])) == []  # it drains
    assert [one for one, _ in said(audit.runs([run("cy"), run("ada", descends=False)], FLEET, ()))] == [FAIL, WARN]


def test_what_a_host_says_beside_git_is_named() -> None:
    found = said(audit.host(["X is not used"], {"ada": 2, "ben": 5, "bne": 1}, FLEET))
    assert found == [
        (WARN, "X is not used"),
        (WARN, "this host gives ben 5 slots, git 1"),
        (FAIL, "this host limits bne, which is no agent: is 'ben' meant?"),
    ]


def test_a_fleet_that_can_do_no_work_is_named() -> None:
    assert said(audit.fleet_itself(FLEET)) == []
    assert [one for one, _ in said(audit.fleet_itself(None))] == [FAIL]
    idle = replace(FLEET.pools[0], agents=(Agent(name="ada", recipe="recipes/none.yaml", limit=0),))
    odd = replace(FLEET, pools=(idle, Pool(name="empty", queue="empty")))
    assert said(audit.fleet_itself(odd)) == [
        (FAIL, "ada names recipes/none.yaml, which is absent"),
        (WARN, "ada has limit 0: it gets no task"),
        (WARN, "pool empty has no agent"),
    ]


def test_queues_that_nobody_serves_are_named_with_the_nearest() -> None:
    depths = [QueueDepth(name="dev", idle=3), QueueDepth(name="dve", idle=2), QueueDepth(name="zzz", working=1)]
    assert said(audit.queues(depths, FLEET)) == [
        (FAIL, "2 tasks in queue 'dve', which nobody serves: is 'dev' meant?")
    ]


def test_tasks_of_agents_that_do_not_exist_are_named_together() -> None:
    owners = ["ada", None, "adda", "adda", "cy"]
    tasks = [Task(id=str(n), title="t", queue="dev", assigned_to=to) for n, to in enumerate(owners)]
    assert said(audit.assigned(tasks, FLEET, [("cy", "dev")])) == [
        (FAIL, "2 tasks assigned to 'adda', which is no agent: is 'ada' meant?: 2, 3")
    ]


def test_leftovers_are_for_a_person_and_no_drift() -> None:
    assert [one for one, _ in said(audit.leftovers(["w"], ["refs/tsched/salvage/1/1"]))] == [WARN, WARN]
    assert said(audit.leftovers((), ())) == []
