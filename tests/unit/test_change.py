"""The difference of two fleets: its laws, and the name of each kind of change."""

from dataclasses import replace

from hypothesis import given

from tests.unit.strategies import fleets
from tsched.model.change import AgentChange, PoolChange, apply, diff, inverse
from tsched.model.fleet import Agent, Fleet, Limits, Pool, Recipe, RecipeFile, Resources
from tsched.model.placement import Engine, Slurm
from tsched.model.words import describe


def agent(name: str, limit: int = 1, recipe: str = "recipes/a.yaml") -> Agent:
    return Agent(name=name, limit=limit, recipe=recipe)


def fleet(*pools: Pool, recipes: dict[str, Recipe] | None = None, limits: Limits | None = None) -> Fleet:
    return Fleet(revision="r", pools=pools, recipes=recipes or {}, limits=limits or Limits())


@given(fleets())
def test_equal_fleets_have_no_difference(one: Fleet) -> None:
    assert diff(one, replace(one, revision="another")) == ()


@given(fleets(), fleets())
def test_applying_a_difference_gives_the_other_fleet(one: Fleet, other: Fleet) -> None:
    assert apply(one, diff(one, other)) == other


@given(fleets(), fleets())
def test_the_inverse_leads_back(one: Fleet, other: Fleet) -> None:
    assert apply(other, inverse(diff(one, other))) == one


@given(fleets(), fleets())
def test_every_change_has_words(one: Fleet, other: Fleet) -> None:
    for change in diff(one, other):
        assert describe(change)


def test_a_new_name_on_the_same_queue_is_a_rename_and_moves_no_agent() -> None:
    old = fleet(Pool(name="dev", queue="work", agents=(agent("ada"),)))
    new = fleet(Pool(name="build", queue="work", agents=(agent("ada"),)))
    (change,) = diff(old, new)
    assert change.kind == "pool.renamed"


def test_a_new_queue_of_a_pool_is_told_as_such() -> None:
    old = fleet(Pool(name="dev", queue="a", agents=(agent("ada"),)))
    new = fleet(Pool(name="dev", queue="b", agents=(agent("ada"),)))
    (change,) = diff(old, new)
    assert (change.kind, describe(change)) == ("pool.queue", "queue a → b")


def test_labels_are_told_as_they_are_written_in_a_selector() -> None:
    old = fleet(Pool(name="dev", queue="dev", labels={"tier": "gpu", "zone": "eu"}))
    new = fleet(Pool(name="dev", queue="dev", labels={"zone": "us"}))
    (change,) = diff(old, new)
    assert (change.kind, describe(change)) == ("pool.changed", "labels tier=gpu,zone=eu → zone=us")


def test_an_agent_in_another_pool_has_moved() -> None:
    old = fleet(Pool(name="a", queue="a", agents=(agent("ada"),)), Pool(name="b", queue="b"))
    new = fleet(Pool(name="a", queue="a"), Pool(name="b", queue="b", agents=(agent("ada", 3),)))
    (change,) = diff(old, new)
    assert isinstance(change, AgentChange)
    assert (change.kind, change.old_queue, change.new_queue) == ("agent.moved", "a", "b")
    assert describe(change) == "pool a → b, limit 1 → 3"


def test_a_pool_that_takes_anothers_name_is_not_that_pool() -> None:
    old = fleet(Pool(name="x", queue="1", agents=(agent("ada"),)), Pool(name="y", queue="2", agents=(agent("ben"),)))
    new = fleet(Pool(name="y", queue="1", agents=(agent("ada"), agent("ben"))))
    kinds = {change.subject: change.kind for change in diff(old, new) if isinstance(change, AgentChange)}
    assert kinds == {"agent/ben": "agent.moved"}
    assert [c.kind for c in diff(old, new) if isinstance(c, PoolChange)] == ["pool.renamed", "pool.removed"]


def test_a_recipes_content_is_a_change_of_its_own() -> None:
    def recipe(blob: str) -> Recipe:
        file = RecipeFile(path="recipes/a.yaml", blob=blob, text="")
        return Recipe(path="recipes/a.yaml", title="", prompt="", files=(file,))

    pool = Pool(name="dev", queue="dev", agents=(agent("ada"),))
    old = fleet(pool, recipes={"recipes/a.yaml": recipe("1")})
    new = fleet(pool, recipes={"recipes/a.yaml": recipe("2")})
    assert [(c.kind, c.subject) for c in diff(old, new)] == [("recipe.changed", "recipe/a.yaml")]


def test_each_fleet_wide_setting_is_a_change_of_its_own() -> None:
    old, new = fleet(limits=Limits(max_running=1)), fleet(limits=Limits(max_running=None, heartbeat=30.0))
    assert [describe(c) for c in diff(old, new)] == ["max_running 1 → none", "heartbeat 15s → 30s"]


def test_where_an_agent_runs_is_a_change_in_words() -> None:
    before = Agent(name="ada", recipe="recipes/a.yaml")
    after = replace(before, executor=Engine.SLURM, slurm=Slurm(partition="agents", time=7200.0))
    old, new = (fleet(Pool(name="dev", queue="dev", agents=(one,))) for one in (before, after))
    assert [describe(change) for change in diff(old, new)] == [
        "executor local → slurm, slurm none → partition=agents time=2h"
    ]


def test_resources_are_a_change_in_words() -> None:
    before = Agent(name="ada", recipe="recipes/a.yaml")
    after = replace(before, resources=Resources(memory=4 << 30, cpus=2))
    old, new = (fleet(Pool(name="dev", queue="dev", agents=(one,))) for one in (before, after))
    assert [describe(change) for change in diff(old, new)] == ["resources none → cpus=2 memory=4Gi"]
