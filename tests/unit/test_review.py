"""What a reviewer is shown of a change: drains, capacity, starvation, widening, and a digest that binds."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import fleets
from tsched.model.fleet import Agent, Fleet, Limits, Pool, Power, Recipe, Runtime, Suspend
from tsched.model.run import Run
from tsched.observe.markdown import plan_comment
from tsched.schedule.plan import plan
from tsched.schedule.review import Capacity, Drained, Starved, digest, drains, grown, review

DEVELOPER = Power(kind="extension", what="developer (builtin)")
SHELL = Power(kind="command", what="sh -c x")


def recipe(path: str, *powers: Power) -> Recipe:
    return Recipe(path=path, title="t", prompt="p", powers=powers)


def fleet(*pools: Pool, limits: Limits | None = None, **recipes: Recipe) -> Fleet:
    return Fleet(revision="r", pools=pools, limits=limits or Limits(), recipes={r.path: r for r in recipes.values()})


def agent(name: str, limit: int = 1, recipe: str = "recipes/a.yaml", runtime: str = "goose") -> Agent:
    return Agent(name=name, limit=limit, recipe=recipe, runtime=runtime)


def run(agent: str, queue: str, task: str) -> Run:
    return Run(
        run_id=f"{task}-1", task_id=task, agent=agent, pool=queue, queue=queue, attempt=1, revision="r",
        executor="local", recipe="", runtime="", evidence="", created_at=0.0,
    )  # fmt: skip


DEV = Pool(name="dev", queue="dev", agents=(agent("ada", 3), agent("ben", 2)))
QA = Pool(name="qa", queue="qa", agents=(agent("cy"),))
ONLY_ADA = replace(DEV, agents=DEV.agents[:1])


def test_who_drains_and_what_they_hold() -> None:
    runs = [run("ben", "dev", "7"), run("ben", "dev", "3"), run("ada", "dev", "1"), run("ben", "qa", "9")]
    assert review(fleet(DEV, QA), fleet(ONLY_ADA, QA), runs=runs).drained == (
        Drained(agent="ben", queue="dev", tasks=("3", "7")),
    )


def test_capacity_is_the_least_of_limits_and_caps() -> None:
    capped = replace(DEV, max_running=4)
    small = fleet(capped, QA, limits=Limits(max_running=3))
    assert review(fleet(DEV), small).capacity == (
        Capacity(queue="dev", before=5, after=3), Capacity(queue="qa", before=None, after=1),
    )  # fmt: skip
    suspended = fleet(replace(DEV, suspend=Suspend()))
    assert review(fleet(DEV), suspended).capacity == (Capacity(queue="dev", before=5, after=0),)
    assert review(fleet(DEV), fleet(DEV)).capacity == ()


def why(new: Fleet, *waiting: str) -> dict[str, str]:
    return {one.queue: one.witness for one in review(fleet(DEV, QA), new, waiting=waiting).starved}


def test_each_way_to_starve_a_queue_has_its_witness() -> None:
    assert why(fleet(DEV)) == {"qa": "pool qa is removed"}
    assert why(fleet(DEV, replace(QA, queue="tests"))) == {"qa": "pool qa now serves tests"}
    assert why(fleet(DEV, replace(QA, suspend=Suspend()))) == {"qa": "pool qa is suspended"}
    assert why(fleet(DEV, replace(QA, max_running=0))) == {"qa": "max_running of pool qa is 0"}
    assert why(fleet(DEV, replace(QA, agents=()))) == {"qa": "pool qa has no agent left (cy gone)"}
    assert why(fleet(DEV, replace(QA, agents=(agent("cy", 0),)))) == {"qa": "every agent of pool qa has limit 0 (cy)"}
    assert why(fleet(DEV, QA, limits=Limits(max_running=0))) == dict.fromkeys(
        ("dev", "qa"), "max_running of the fleet is 0"
    )
    assert why(fleet(DEV, QA)) == {}
    assert why(fleet(DEV, QA), "dev", "docs") == {"docs": "no pool serves it"}


def gains(old: Fleet, new: Fleet) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(one.power.what, one.source, one.agents) for one in review(old, new).widened]


def test_powers_that_agents_gain() -> None:
    plain, strong = recipe("recipes/a.yaml"), recipe("recipes/a.yaml", DEVELOPER)
    before = fleet(DEV, a=plain)
    assert gains(before, fleet(DEV, a=strong)) == [("developer (builtin)", "recipes/a.yaml", ("ada", "ben"))]
    assert gains(fleet(DEV, a=strong), before) == []
    other = recipe("recipes/b.yaml", SHELL)
    switched = replace(DEV, agents=(agent("ada", 3, recipe="recipes/b.yaml"), DEV.agents[1]))
    assert gains(before, fleet(switched, a=plain, b=other)) == [("sh -c x", "recipes/b.yaml", ("ada",))]
    assert review(None, fleet(DEV, a=strong)).widened == ()


def test_a_new_agent_widens_only_by_what_nobody_had() -> None:
    strong = recipe("recipes/a.yaml", DEVELOPER)
    before = fleet(DEV, a=strong)
    assert gains(before, fleet(DEV, QA, a=strong)) == []
    cy = replace(QA, agents=(agent("cy", recipe="recipes/b.yaml"),))
    assert gains(before, fleet(DEV, cy, a=strong, b=recipe("recipes/b.yaml", DEVELOPER, SHELL))) == [
        ("sh -c x", "recipes/b.yaml", ("cy",))
    ]


def test_a_runtime_is_a_command_and_its_variables() -> None:
    own = Limits(runtimes={"make": Runtime(name="make", argv=("make", "all"), env=("CI",))})
    made = replace(QA, agents=(agent("cy", runtime="make"),))
    assert gains(fleet(QA), fleet(made, limits=own)) == [
        ("make all", "runtime make", ("cy",)), ("CI", "runtime make", ("cy",)),
    ]  # fmt: skip


def test_a_digest_holds_what_grew_past_it_and_nothing_less() -> None:
    one = (Drained(agent="ada", queue="dev", tasks=("1",)),)
    two = (*one, Drained(agent="ben", queue="dev", tasks=()))
    busier = (Drained(agent="ada", queue="dev", tasks=("1", "2")),)
    another = (Drained(agent="cy", queue="qa", tasks=("1",)),)
    assert grown(digest(one), one) is None
    assert grown(digest(two), one) is None
    assert grown(digest(busier), one) is None
    assert grown(digest(one), ()) is None
    assert grown(digest(one), two) == "the review saw 1 agent drain with 1 run, now it is 2 with 1"
    assert grown(digest(one), busier) == "the review saw 1 agent drain with 1 run, now it is 1 with 2"
    assert "other ones" in (grown(digest(one), another) or "")
    assert "can't be read" in (grown("yes", one) or "")


@given(fleets(), fleets())
def test_laws(old: Fleet, new: Fleet) -> None:
    same = review(old, old)
    assert (same.drained, same.capacity, same.widened) == ((), (), ())
    found = review(old, new)
    served = {pool.queue for pool in new.pools}
    assert {one.queue for one in found.starved} <= {one.queue for one in found.capacity}
    for one in found.capacity:
        assert (one.after is not None) == (one.queue in served)
    assert grown(found.digest, drains(old, new, ())) is None


@given(fleets(), fleets(), st.lists(st.text(), max_size=2))
def test_a_comment_is_one_table_cell_wide_whatever_it_quotes(old: Fleet, new: Fleet, words: list[str]) -> None:
    starved = tuple(Starved(queue="q", witness=word) for word in words)
    text = plan_comment(plan(old, new), replace(review(old, new), starved=starved))
    for line in text.splitlines():
        if line.startswith("| ") and "---" not in line:
            assert line.replace("\\|", "").count("|") in (4, 5, 3)


def test_a_comment_shows_the_urgent_first_and_quotes_safely() -> None:
    evil = recipe("recipes/a.yaml", Power(kind="command", what="sh -c '<img> | @boss'"))
    before, after = fleet(DEV, QA, a=recipe("recipes/a.yaml")), fleet(ONLY_ADA, a=evil)
    text = plan_comment(plan(before, after), review(before, after))
    lines = text.splitlines()
    assert lines[0] == "> [!CAUTION]"
    assert "> **Starvation**: nobody will serve the queue qa: pool qa is removed." in lines
    assert "| command | sh -c '&lt;img> \\| @\u200bboss' | recipes/a.yaml | ada |" in lines
    assert "| dev | 5 | 3 |" in lines
    assert "**Blast radius**: 2 agents to drain, 0 runs held now" in lines
    assert lines[-1].startswith("`Tsched-Plan: agents=2 runs=0 of=")
