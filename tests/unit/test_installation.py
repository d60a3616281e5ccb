"""A TinyScheduler installation as a fleet: what it comes to, what legacy mode leaves alone, what can't break it."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsched.gitops.imported import convert
from tsched.model.change import diff
from tsched.model.diagnostic import Severity
from tsched.model.files import RepoFile, RepoFiles
from tsched.model.fleet import LEGACY, Agent, Fleet, Limits, OnDeadline, Pool
from tsched.schedule.drain import adopt
from tsched.schedule.match import AgentSlots, Capacity, match
from tsched.schedule.plan import plan
from tsched.validate.control import parse_control
from tsched.validate.fleet import FleetCache, load_fleet
from tsched.validate.installation import Installation, Sources, build

from .test_schedule import pairs, task

RECIPE = "title: T\ndescription: D\nprompt: Do it.\n"
NAMES = ("vaela", "damien", "oscar", "Kalis_2", "sage")
QUEUES = ("dev", "qa", "legacy")

agents = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(QUEUES))
slots = st.none() | st.dictionaries(st.sampled_from(NAMES), st.integers(0, 5))


def files(texts: Mapping[str, str]) -> RepoFiles:
    entries = {path: RepoFile(path=path, blob=f"blob of {text}", size=len(text)) for path, text in texts.items()}
    return RepoFiles(revision="", entries=entries, read=lambda file: texts[file.path].encode())


ALL = files({f"recipes/{name}.yaml": RECIPE for name in NAMES})


def control(queues: Mapping[str, str]) -> str:
    return json.dumps([{"agentName": agent, "agentType": queue} for agent, queue in queues.items()])


def built(
    text: str | None, limits: Mapping[str, int] | None, before: Fleet | None = None, recipes: RepoFiles = ALL
) -> Installation:
    given = Sources(
        control_file="control.json", control=text, limits=limits, figures=Limits(max_runtime=60.0),
        recipes_dir="/r", files=recipes,
    )  # fmt: skip
    return build(given, before, FleetCache())


def homes(fleet: Fleet) -> dict[str, tuple[str, int]]:
    return {agent.name: (pool.queue, agent.limit) for pool, agent in fleet.agents()}


def test_control_file_limits_and_recipes_make_a_fleet() -> None:
    found = built(control({"vaela": "dev", "oscar": "qa", "damien": "dev"}), {"vaela": 3, "oscar": 1, "sage": 9})
    assert homes(found.fleet) == {"vaela": ("dev", 3), "oscar": ("qa", 1), "damien": ("dev", 0)}
    assert found.agents == {"vaela": "dev", "oscar": "qa", "damien": "dev"}  # as written: the log names them so
    assert {agent.max_runtime for _, agent in found.fleet.agents()} == {60.0}
    assert set(found.fleet.recipes) == {f"recipes/{name}.yaml" for name in ("vaela", "oscar", "damien")}
    assert not any(pool.own_only for pool in found.fleet.pools)
    assert found.found == ()


@given(queues=agents, limits=slots)
def test_it_is_the_fleet_that_the_import_makes_of_the_same_files(
    queues: dict[str, str], limits: dict[str, int] | None
) -> None:
    legal = {agent: queue for agent, queue in queues.items() if agent.islower()}
    env = {} if limits is None else {"TINYSCHEDULER_AGENT_LIMITS": json.dumps(limits)}
    recipes = {f"{name}.yaml": RECIPE.encode() for name in NAMES}
    made = convert(control(legal), env, recipes).files
    loaded = load_fleet(files({path: data.decode() for path, data in made.items()})).fleet
    assert loaded is not None
    served = {name: home for name, home in homes(loaded).items() if name in legal}
    assert homes(built(control(legal), limits).fleet) == served


@given(queues=agents, limits=slots)
def test_legacy_mode_and_back_moves_nobody_and_changes_nothing(
    queues: dict[str, str], limits: dict[str, int] | None
) -> None:
    first = built(control(queues), limits).fleet
    legacy = built(None, limits, first).fleet
    assert {agent: queue for agent, (queue, _) in homes(legacy).items() if agent in queues} == queues
    assert all(pool.own_only for pool in legacy.pools)
    rows = adopt({}, None, first, now=0.0)
    after = adopt(rows, first, legacy, now=1.0)
    assert {key: after[key].state for key in rows} == {key: row.state for key, row in rows.items()}
    assert plan(first, legacy).held is None
    again = built(control(queues), limits, legacy)
    assert diff(first, again.fleet) == ()
    assert again.fleet.revision == first.revision
    assert plan(legacy, again.fleet).held is None  # who was there by a limit alone goes uncounted
    assert built(None, limits, legacy).fleet == legacy  # it stays as it is


def test_agents_by_a_limit_alone_are_never_stopped_by_a_drain() -> None:
    (pool,) = built(None, {"vaela": 2, "oscar": 1}).fleet.pools
    assert (pool.name, pool.queue, pool.drain.on_deadline) == (LEGACY, "legacy", OnDeadline.WAIT)
    assert [agent.name for agent in pool.agents] == ["oscar", "vaela"]


def test_the_guard_still_counts_agents_with_a_queue() -> None:
    legacy = built(None, {"sage": 1}, built(control({"vaela": "dev", "oscar": "qa"}), {}).fleet).fleet
    assert plan(legacy, built(control({"vaela": "dev"}), {}).fleet).held is None  # one of two is exactly half
    assert "it removes 2 of 2 agents" in str(plan(legacy, built("[]", {}).fleet).held)


def test_without_any_limits_dispatcher_has_one_as_in_tinyscheduler() -> None:
    assert homes(built(None, None).fleet) == {"dispatcher": ("legacy", 1)}
    assert homes(built(control({"dispatcher": "x", "vaela": "dev"}), None).fleet)["dispatcher"] == ("x", 1)
    assert homes(built(control({"vaela": "dev"}), None).fleet) == {"vaela": ("dev", 0)}
    assert homes(built(None, {}).fleet) == {}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "control.json:1:1: TS101 It is no JSON: Expecting value."),
        ('[{"agentName": "a"; }]', "control.json:1:19: TS101"),
        ("[" * 100_000, "TS105"),
        ("{}", "TS203 It is no list of agents."),
        ('["vaela"]', "TS202 Entry 1 lacks agentName or agentType"),
        ('[{"agentName": "vaela", "agentType": ""}]', "TS202 Entry 1"),
        (control({"a b": "dev"}), "TS204 'a b' can't be an agent's name."),
        (control({"parked": "dev"}), "TS204 'parked'"),
    ],
)
def test_a_control_file_that_can_not_be_used_is_legacy_mode_with_its_reason(text: str, place: str) -> None:
    found = built(text, {"vaela": 1})
    assert found.agents is None
    assert place in str(found.fault)
    assert homes(found.fleet) == {"vaela": ("legacy", 1)}


def test_what_is_only_strange_is_a_warning_and_the_last_entry_counts() -> None:
    rows = [{"agentName": "vaela", "agentType": "qa", "team": 1}, {"agentName": "vaela", "agentType": "dev"}]
    found = built(json.dumps(rows), {"vaela": 1})
    assert homes(found.fleet) == {"vaela": ("dev", 1)}
    assert [(one.code, one.severity) for one in found.found] == [
        ("TS201", Severity.WARNING),
        ("TS301", Severity.WARNING),
    ]


def test_a_recipe_that_is_missing_or_broken_is_its_agents_matter_alone() -> None:
    recipes = files(
        {
            "recipes/vaela.yaml": RECIPE,
            "recipes/oscar.yaml": "title: [\n",
            "recipes/sage.yaml": f"{RECIPE}sub_recipes: [{{name: x, path: gone.yaml}}]\n",
        }
    )
    queues = dict.fromkeys(("vaela", "oscar", "sage", "damien"), "dev")
    found = built(control(queues), dict.fromkeys(queues, 1), recipes=recipes)
    assert set(found.fleet.recipes) == {"recipes/vaela.yaml"}
    assert found.missing == ("recipes/damien.yaml",)
    assert [one.message for one in found.found if one.code == "TS304"] == ["Recipe not found: /r/damien.yaml"]
    assert {one.path for one in found.found} == {f"recipes/{name}.yaml" for name in ("oscar", "sage", "damien")}


@given(queues=agents, limits=slots, others=agents)
def test_a_revision_is_its_content(
    queues: dict[str, str], limits: dict[str, int] | None, others: dict[str, str]
) -> None:
    one, other = built(control(queues), limits).fleet, built(control(others), limits).fleet
    assert (one == other) is (one.revision == other.revision)
    shuffled = dict(reversed(queues.items()))
    assert built(control(shuffled), limits).fleet.revision == one.revision


def test_a_recipes_new_text_is_a_new_revision() -> None:
    text = control({"vaela": "dev"})
    changed = files({"recipes/vaela.yaml": RECIPE.replace("Do it", "Do it well")})
    assert built(text, {}).fleet.revision != built(text, {}, recipes=changed).fleet.revision


@given(text=st.text() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_no_text_breaks_it(text: str) -> None:
    found = parse_control(text, "c")
    assert found.fault is not None or found.agents is not None
    built(text, {"vaela": 1})


def test_a_pool_that_works_its_own_tasks_only_takes_nothing_from_its_queue() -> None:
    waiting = [task(1), task(2, assigned_to="ada")]
    slots = (AgentSlots(name="ada", free=2),)
    for own_only, expected in ((False, [("2", "ada"), ("1", "ada")]), (True, [("2", "ada")])):
        capacity = Capacity(pool="dev", queue="dev", agents=slots, own_only=own_only)
        assert pairs(match(waiting, [capacity], lifecycles={})) == expected


def test_going_from_a_fleet_repo_to_legacy_mode_keeps_its_pools_and_queues() -> None:
    agent = Agent(name="vaela", limit=4, recipe="recipes/team/x.yaml")
    before = Fleet(revision="a" * 40, pools=(Pool(name="developers", queue="dev", agents=(agent,)),))
    (pool,) = built(None, {"vaela": 2}, before).fleet.pools
    assert (pool.name, pool.queue, pool.own_only, pool.agents[0].limit) == ("developers", "dev", True, 2)
