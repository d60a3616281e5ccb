"""Hypothesis strategies for fleets, tasks and lifecycles: small, but with every part that matters."""

from hypothesis import strategies as st

from tsched.model.alert import Alerts, DepthRule, RemoteRule, Webhook
from tsched.model.fleet import (
    Agent,
    DrainPolicy,
    Evidence,
    Fleet,
    Guard,
    Limits,
    OnDeadline,
    Pool,
    Recipe,
    RecipeFile,
    Resources,
    Retry,
    Runtime,
    Suspend,
    Workspace,
)
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.placement import Engine, Kubernetes, Slurm
from tsched.model.task import Task

NAMES = ("ada", "ben", "cy", "dot", "eve", "fay")
POOLS = ("dev", "docs", "qa")
QUEUES = ("dev", "docs", "extra", "qa")
RECIPES = ("recipes/a.yaml", "recipes/b.yaml")

drains = st.builds(
    DrainPolicy, deadline=st.sampled_from((0.0, 60.0, 3600.0)), on_deadline=st.sampled_from(list(OnDeadline))
)
suspends = st.none() | st.builds(Suspend, until=st.none() | st.floats(0, 100))
labels = st.dictionaries(st.sampled_from(("zone", "tier")), st.sampled_from(("eu", "us")))
workspaces = st.none() | st.builds(Workspace, repo=st.sampled_from(("a", "b")), ref=st.just("main"))
runtimes = st.dictionaries(
    st.sampled_from(("make", "goose")),
    st.builds(
        Runtime,
        name=st.just("make"),
        argv=st.sampled_from((("make",), ("true",))),
        evidence=st.sampled_from(list(Evidence)),
    ),
)
guards = st.builds(Guard, percent=st.integers(0, 100)) | st.builds(Guard, percent=st.none(), agents=st.integers(0, 5))
alerts = st.builds(
    Alerts,
    depth=st.lists(
        st.builds(DepthRule, name=st.just("deep"), above=st.integers(0, 2), queue=st.sampled_from((None, "dev"))),
        max_size=1,
    ).map(tuple),
    remote=st.lists(st.builds(RemoteRule, name=st.just("remote"), wait=st.just(60.0)), max_size=1).map(tuple),
    webhooks=st.lists(st.builds(Webhook, url_env=st.just("HOOK")), max_size=1).map(tuple),
)
resources = st.builds(
    Resources, cpus=st.none() | st.sampled_from((0.5, 2.0)), memory=st.none() | st.sampled_from((1 << 20, 4 << 30))
)
kubernetes = st.builds(
    Kubernetes,
    image=st.sampled_from(("", "a/b:1")),
    env=st.sampled_from(((), (("KEY", "secret/key"),))),
    secrets=st.sampled_from(((), ("a", "b"))),
    ttl=st.none() | st.just(60.0),
)
slurm = st.builds(Slurm, partition=st.sampled_from(("", "agents")), time=st.none() | st.just(60.0))
limits = st.builds(
    Limits,
    resources=resources,
    slurm=slurm,
    kubernetes=kubernetes,
    max_running=st.none() | st.integers(0, 6),
    spawn_per_cycle=st.none() | st.integers(1, 6),
    retry=st.builds(Retry, attempts=st.integers(1, 3)),
    guard=guards,
    runtimes=runtimes,
    alerts=alerts,
)


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, Recipe]:
    """Some recipes, with a content each."""
    found = {}
    for path in RECIPES:
        if draw(st.booleans()):
            blob = draw(st.sampled_from(("1", "2")))
            file = RecipeFile(path=path, blob=blob, text=blob)
            found[path] = Recipe(path=path, title=blob, prompt="", files=(file,))
    return found


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """A fleet as the loader makes one: names and queues once each, pools and agents sorted."""
    pools = draw(st.lists(st.sampled_from(POOLS), unique=True))
    queues = draw(st.permutations(QUEUES))
    homes = {name: draw(st.sampled_from((None, *pools))) for name in NAMES}
    return Fleet(
        revision=draw(st.sampled_from(("r1", "r2"))),
        limits=draw(limits),
        recipes=draw(recipes()),
        pools=tuple(
            Pool(
                name=name,
                queue=queue,
                labels=draw(labels),
                max_running=draw(st.none() | st.integers(0, 4)),
                suspend=draw(suspends),
                drain=draw(drains),
                workspace=draw(workspaces),
                agents=tuple(
                    Agent(
                        name=one,
                        limit=draw(st.integers(0, 3)),
                        recipe=draw(st.sampled_from(RECIPES)),
                        runtime=draw(st.sampled_from(("goose", "make"))),
                        priority_floor=draw(st.integers(0, 1)),
                        resources=draw(resources),
                        executor=draw(st.sampled_from(list(Engine))),
                    )
                    for one in sorted(NAMES)
                    if homes[one] == name
                ),
            )
            for name, queue in sorted(zip(pools, queues, strict=False))
        ),
    )


@st.composite
def tasks(draw: st.DrawFn) -> list[Task]:
    """Waiting tasks: some blocked, some backing off, some assigned."""
    number = draw(st.integers(0, 12))
    return [
        Task(
            id=str(index + 1),
            title="t",
            queue=draw(st.sampled_from(QUEUES)),
            assigned_to=draw(st.none() | st.sampled_from(NAMES)),
            priority=draw(st.integers(0, 2)),
            created_at=float(draw(st.integers(0, 3))),
            blocked_by=(blocker := draw(st.none() | st.integers(1, 12).map(str))),
            blocked=blocker is not None and draw(st.booleans()),
            not_before=float(draw(st.sampled_from((0, 50, 200)))),
        )
        for index in range(number)
    ]


@st.composite
def lifecycles(draw: st.DrawFn) -> dict[tuple[str, str], Lifecycle]:
    """Rows in every state, as drains leave them."""
    keys = draw(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(QUEUES)), unique=True, max_size=6))
    states = [state for state in AgentState if state is not AgentState.SUSPENDED]
    rows = {}
    for agent, queue in keys:
        state = draw(st.sampled_from(states))
        gone = state is not AgentState.ACTIVE
        rows[agent, queue] = Lifecycle(
            agent=agent,
            queue=queue,
            pool="dev",
            state=state,
            since=10.0 if gone else 0.0,
            policy=draw(drains) if gone else None,
        )
    return rows
