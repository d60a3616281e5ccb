"""The status object, the conditions and the tables made from them."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tsched.model.event import Event
from tsched.model.fleet import Agent, DrainPolicy, Fleet, OnDeadline, Pool, Suspend
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.override import Override, OverrideKind
from tsched.model.run import Lease, LeaseState
from tsched.model.task import QueueDepth, Task
from tsched.observe.conditions import Condition, Facts, conditions
from tsched.observe.status import NOTHING_SEEN, AgentStatus, PoolStatus, Status, status
from tsched.observe.tables import Table, event_line, plain, show, status_tables, task_table

NOW = 1_768_903_200.0  # 2026-01-20T10:00:00Z
REVISION = "a" * 40


def pool(name: str, *agents: str, queue: str | None = None, suspend: Suspend | None = None) -> Pool:
    made = tuple(Agent(name=agent, limit=2, recipe=f"recipes/{agent}.yaml") for agent in agents)
    return Pool(name=name, queue=queue or name, max_running=5, suspend=suspend, agents=made)


def row(agent: str, queue: str, state: AgentState = AgentState.ACTIVE, *, was: str | None = None) -> Lifecycle:
    if state is AgentState.ACTIVE:
        return Lifecycle(agent=agent, queue=queue, pool=was or queue, limit=2, revision=REVISION)
    policy = DrainPolicy(deadline=3600.0, on_deadline=OnDeadline.FAIL)
    return Lifecycle(
        agent=agent, queue=queue, pool=was or queue, state=state, since=NOW, policy=policy, limit=7, revision=REVISION
    )


def lease(task: str, agent: str, queue: str) -> Lease:
    return Lease(
        task_id=task, agent=agent, pid=1, recipe="r", started_at="2026-01-20T09:00:00.000Z",
        heartbeat="2026-01-20T09:59:00.000Z", host="h", state=LeaseState.RUNNING, run_id=f"run-{task}", attempt=1,
        revision=REVISION, pool=queue, queue=queue, executor="local",
    )  # fmt: skip


def made(
    pools: tuple[Pool, ...], rows: tuple[Lifecycle, ...], leases: tuple[Lease, ...] = (), fleet: bool = True
) -> Status:
    return status(
        fleet=Fleet(revision=REVISION, pools=pools) if fleet else None,
        lifecycles={row.key: row for row in rows},
        leases=leases,
        depths=[QueueDepth(name="qa", idle=1), QueueDepth(name="dev", idle=3, blocked=1, working=2)],
        generation=4,
        now=NOW,
    )


def pool_of(found: Status, queue: str) -> PoolStatus:
    (one,) = [pool for pool in found["pools"] if pool["queue"] == queue]
    return one


def agent_of(found: Status, queue: str, name: str) -> AgentStatus:
    (one,) = [agent for agent in pool_of(found, queue)["agents"] if agent["name"] == name]
    return one


def test_before_anything_is_applied() -> None:
    found = status(fleet=None, lifecycles={}, leases=[], depths=[], now=NOW)
    assert found["revision"] == {"fetched": None, "applied": None, "rejected": None, "held": None}
    assert (found["pools"], found["runs"], found["queues"], found["generation"]) == ([], [], [], 0)
    assert (found["not_served"], found["elsewhere"]) == ([], [])
    assert set(found["runner"].values()) == {None}


def test_the_object_has_exactly_the_documented_keys() -> None:
    found = made((pool("dev", "vaela"),), (row("vaela", "dev"),), (lease("7", "vaela", "dev"),))
    assert list(found) == [
        "revision",
        "generation",
        "conditions",
        "pools",
        "not_served",
        "runs",
        "elsewhere",
        "queues",
        "usage",
        "overrides",
        "runner",
    ]
    assert list(found["pools"][0]) == ["name", "queue", "suspended", "running", "max_running", "agents"]
    assert list(found["pools"][0]["agents"][0]) == ["name", "state", "limit", "running", "revision", "drain"]
    assert " ".join(found["runs"][0]) == (
        "run_id task_id agent pool state attempt revision executor started_at heartbeat"
    )
    assert found["queues"][0] == {"name": "dev", "idle": 3, "blocked": 1, "working": 2}
    assert json.loads(json.dumps(found)) == found


def test_the_object_keeps_its_schema() -> None:
    schema = json.loads((Path(__file__).parents[2] / "schemas" / "status.schema.json").read_text())
    rows = (row("damien", "dev"), row("vaela", "dev", AgentState.STOPPING))
    found = made((pool("dev", "damien"),), rows, (lease("7", "vaela", "dev"),))
    found["conditions"] = list(conditions((), GOOD, generation=4, now=NOW))
    found["revision"]["held"] = {"revision": "b" * 40, "reason": "removes too many"}
    found["overrides"] = overridden(STOPPED)["overrides"]
    Draft202012Validator(schema).validate(found)
    Draft202012Validator(schema).validate(status(fleet=None, lifecycles={}, leases=[], depths=[], now=NOW))


STOPPED = Override(kind=OverrideKind.STOP, subject="pool/dev", queue="dev", since=NOW, by="op", reason="smoke")
DRAINED = Override(kind=OverrideKind.DRAIN, subject="agent/vaela", since=NOW, by="op", policy=DrainPolicy())


def overridden(*overrides: Override, leases: tuple[Lease, ...] = ()) -> Status:
    return status(
        fleet=Fleet(revision=REVISION, pools=(pool("dev", "vaela"), pool("qa", "oscar"))),
        lifecycles={one.key: one for one in (row("vaela", "dev"), row("oscar", "qa"))},
        leases=leases, depths=[], overrides=overrides, now=NOW,
    )  # fmt: skip


def test_a_stopped_pool_is_shown_as_suspended_and_who_did_it() -> None:
    found = overridden(STOPPED)
    assert (pool_of(found, "dev")["suspended"], agent_of(found, "dev", "vaela")["state"]) == (True, "suspended")
    assert (pool_of(found, "qa")["suspended"], agent_of(found, "qa", "oscar")["state"]) == (False, "active")
    assert found["overrides"] == [
        {
            "kind": "stop", "subject": "pool/dev", "since": "2026-01-20T10:00:00.000Z", "by": "op", "reason": "smoke",
            "now": False, "undo": "tsched resume --pool dev",
        }
    ]  # fmt: skip
    text = "".join(plain(table) for table in status_tables(found))
    assert "smoke   tsched resume --pool dev" in text


def test_an_agent_under_a_local_drain_drains_then_is_cordoned() -> None:
    busy = agent_of(overridden(DRAINED, leases=(lease("7", "vaela", "dev"),)), "dev", "vaela")
    idle = agent_of(overridden(DRAINED), "dev", "vaela")
    assert (busy["state"], idle["state"]) == ("draining", "cordoned")
    drain = {"since": "2026-01-20T10:00:00.000Z", "deadline": "2026-01-20T11:00:00.000Z", "on_deadline": "requeue"}
    assert busy["drain"] == idle["drain"] == drain


def test_conditions_say_what_is_overridden() -> None:
    facts = replace(GOOD, stopped=["stop of fleet (by op)"], suspended=["docs"], drained_here=["vaela"])
    found = {one["type"]: one for one in conditions((), facts, generation=4, now=NOW)}
    assert (found["Ready"]["status"], "overridden" in found["Ready"]["message"]) == ("True", True)
    assert found["Suspended"]["reason"] == "Stopped"
    assert found["Suspended"]["message"] == "stop of fleet (by op); 1 pool suspended: docs"
    assert (found["Draining"]["status"], found["Reconciling"]["status"]) == ("True", "False")


def test_running_counts_leases_by_agent_and_queue() -> None:
    moved = (row("vaela", "qa"), row("vaela", "dev", AgentState.DRAINING), row("damien", "dev"))
    leases = (lease("1", "vaela", "dev"), lease("2", "vaela", "dev"), lease("3", "vaela", "qa"))
    found = made((pool("dev", "damien"), pool("qa", "vaela")), moved, leases)
    assert agent_of(found, "dev", "vaela")["running"] == 2
    assert agent_of(found, "qa", "vaela")["running"] == 1
    assert agent_of(found, "dev", "damien")["running"] == 0
    assert pool_of(found, "dev")["running"] == 2


def test_a_removed_agent_is_shown_with_its_drain_until_its_row_is_gone() -> None:
    rows = (row("damien", "dev"), row("vaela", "dev", AgentState.DRAINING))
    found = made((pool("dev", "damien"),), rows)
    assert agent_of(found, "dev", "vaela") == {
        "name": "vaela",
        "state": "draining",
        "limit": 7,
        "running": 0,
        "revision": REVISION,
        "drain": {"since": "2026-01-20T10:00:00.000Z", "deadline": "2026-01-20T11:00:00.000Z", "on_deadline": "fail"},
    }
    assert agent_of(found, "dev", "damien")["drain"] is None


def test_a_removed_pool_stays_listed_until_it_is_empty() -> None:
    left = row("sage", "product", AgentState.DRAINED, was="old-name")
    assert pool_of(made((), (left,)), "product")["name"] == "old-name"
    assert pool_of(made((), (left,)), "product")["max_running"] is None
    busy = made((), (left,), (lease("7", "sage", "product"),))
    assert (pool_of(busy, "product")["running"], agent_of(busy, "product", "sage")["running"]) == (1, 1)
    assert made((), ())["pools"] == []


def test_a_renamed_pool_takes_its_draining_agents_along() -> None:
    left = row("sage", "product", AgentState.DRAINING, was="product")
    found = made((pool("goods", "atlas", queue="product"),), (row("atlas", "product"), left))
    assert [(p["name"], [a["name"] for a in p["agents"]]) for p in found["pools"]] == [("goods", ["atlas", "sage"])]


def test_pools_not_served_here_are_absent_and_empty_ones_are_listed() -> None:
    found = made((pool("dev", "vaela"), pool("elsewhere", "zed"), pool("empty")), (row("vaela", "dev"),))
    assert [p["name"] for p in found["pools"]] == ["dev", "empty"]


@pytest.mark.parametrize(
    ("suspend", "state", "shown"),
    [
        (Suspend(), AgentState.ACTIVE, "suspended"),
        (Suspend(), AgentState.DRAINING, "draining"),
        (Suspend(until=NOW + 1), AgentState.ACTIVE, "suspended"),
        (Suspend(until=NOW), AgentState.ACTIVE, "active"),
        (None, AgentState.ACTIVE, "active"),
    ],
)
def test_suspended_shows_only_where_the_agent_is_otherwise_active(
    suspend: Suspend | None, state: AgentState, shown: str
) -> None:
    found = made((pool("dev", "vaela", suspend=suspend),), (row("vaela", "dev", state),))
    assert agent_of(found, "dev", "vaela")["state"] == shown


# --- conditions ---


def by_type(found: tuple[Condition, ...]) -> dict[str, Condition]:
    return {condition["type"]: condition for condition in found}


GOOD = Facts(applied=REVISION, fetched=REVISION, last_fetch=NOW)


def test_all_is_well() -> None:
    found = by_type(conditions((), GOOD, generation=3, now=NOW))
    order = "Ready Reconciling FetchFailed Verified Valid Held Draining Suspended Stale OverLimit"
    assert " ".join(found) == order
    standing = {name: condition["status"] for name, condition in found.items()}
    assert standing == dict.fromkeys(found, "False") | {"Ready": "True", "Valid": "True", "Verified": "Unknown"}
    assert all(condition["observed_generation"] == 3 for condition in found.values())


@pytest.mark.parametrize(
    ("facts", "kind", "status", "words"),
    [
        (Facts(applied=None, fetched=None), "Ready", "False", "no revision"),
        (Facts(applied=REVISION, fetched="b", rejected="pools/dev.yaml:1:1"), "Valid", "False", "pools/dev.yaml"),
        (Facts(applied=REVISION, fetched="b", rejected="pools/dev.yaml:1:1"), "Ready", "False", "keeps running"),
        (Facts(applied=REVISION, fetched="b", held="removes 9"), "Held", "True", "removes 9"),
        (Facts(applied=REVISION, fetched="b", fetch_error="gone"), "FetchFailed", "True", "gone"),
        (Facts(applied=REVISION, fetched="b", verified=False), "Verified", "False", "not signed"),
        (Facts(applied=REVISION, fetched="b", verified=True), "Verified", "True", "signed"),
        (Facts(applied=REVISION, fetched="b", draining=("vaela",)), "Draining", "True", "1 agent draining: vaela"),
        (Facts(applied=REVISION, fetched="b", draining=("vaela",)), "Reconciling", "True", "vaela"),
        (Facts(applied=REVISION, fetched="b", suspended=("dev", "qa")), "Suspended", "True", "2 pools suspended"),
        (Facts(applied=REVISION, fetched="b", over_limit=("vaela",)), "OverLimit", "True", "vaela"),
        (Facts(applied=REVISION, fetched="b", last_fetch=NOW - 901), "Stale", "True", "901s"),
        (Facts(applied=REVISION, fetched="b", last_fetch=NOW - 900), "Stale", "False", ""),
        (Facts(applied=REVISION, fetched="b", errors=("task server: down",)), "Ready", "False", "down"),
    ],
)
def test_each_condition_says_what_is_the_matter(facts: Facts, kind: str, status: str, words: str) -> None:
    condition = by_type(conditions((), facts, generation=1, now=NOW))[kind]
    assert condition["status"] == status
    assert words in condition["message"]


def test_since_moves_only_when_the_status_does() -> None:
    first = conditions((), GOOD, generation=1, now=NOW)
    held = Facts(applied=REVISION, fetched="b", held="removes 9", last_fetch=NOW)
    second = conditions(first, held, generation=1, now=NOW + 60)
    other = Facts(applied=REVISION, fetched="c", held="removes 10", last_fetch=NOW)
    third = conditions(second, other, generation=1, now=NOW + 120)
    assert by_type(first)["Held"]["since"] == "2026-01-20T10:00:00.000Z"
    assert by_type(second)["Held"]["since"] == "2026-01-20T10:01:00.000Z"
    assert by_type(third)["Held"]["since"] == "2026-01-20T10:01:00.000Z"
    assert by_type(third)["Held"]["message"] == "removes 10"
    assert by_type(third)["Stale"]["since"] == "2026-01-20T10:00:00.000Z"


# --- tables ---


def test_plain_tables_are_aligned_whole_and_safe() -> None:
    text = plain(Table(title="T", columns=("A", "LONG"), rows=[("x" * 300, "1"), ("[bold]y\n\x1b[31m", "2")]))
    lines = text.splitlines()
    assert lines[0] == "T"
    assert len(lines) == 4
    assert lines[2].startswith("x" * 300 + "  1")
    assert "[bold]y\\n\\x1b[31m" in lines[3]


def test_a_pipe_gets_plain_text_and_empty_tables_are_left_out() -> None:
    out = io.StringIO()
    show([Table(title="none", columns=("A",), rows=[]), Table(columns=("A",), rows=[("v",)])], out)
    assert out.getvalue() == "A\nv\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_data_literally() -> None:
    out = Terminal()
    show([task_table([Task(id="1", title="[red]x[/red] \x1b[31m", queue="dev")])], out)
    assert "[red]x[/red] \\x1b[31m" in out.getvalue()


def test_status_tables_name_what_a_person_needs() -> None:
    rows = (row("damien", "dev"), row("vaela", "dev", AgentState.DRAINING))
    found = made((pool("dev", "damien"),), rows, (lease("7", "vaela", "dev"),))
    found["revision"]["rejected"] = {
        "revision": "b" * 40,
        "diagnostics": [
            {"path": "pools/dev.yaml", "line": 3, "column": 1, "code": "TS201", "message": "Unknown key.", "mend": ""}
        ],
    }
    found["conditions"] = list(conditions((), GOOD, generation=4, now=NOW))
    text = "".join(plain(table) for table in status_tables(found))
    for words in ("1/7", "draining", "then fail", "pools/dev.yaml:3:1: TS201", "Ready", "run-7", "generation 4"):
        assert words in text
    assert "Stale" not in text  # nothing to look at


def test_an_event_is_one_line() -> None:
    event = Event(time=NOW, kind="agent.draining", subject="agent/vaela", message="a\nb", revision=REVISION)
    assert event_line(event) == "2026-01-20T10:00:00.000Z  aaaaaaaaaaaa  agent.draining      agent/vaela  a\\nb"


def test_nothing_seen_is_a_report_of_its_own() -> None:
    assert NOTHING_SEEN["conditions"] == []
