"""What a reviewer should see of a plan: its blast radius, queues that starve, and what agents may newly do."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from tsched.model.fleet import Agent, Fleet, Pool, Power
from tsched.model.records import dataclass
from tsched.model.run import Run
from tsched.model.runtimes import runtime_of
from tsched.model.units import count

Key = tuple[str, str]  # agent, queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """An agent that stops serving a queue, and the tasks that it works on there now."""

    agent: str
    queue: str
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """A queue's slots: how many tasks may run at once, before and after. None: no pool serves it."""

    queue: str
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Starved:
    """A queue that no agent serves after the change, and why."""

    queue: str
    witness: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Widened:
    """A power that agents gain. `source`: the recipe, runtime or pool that brings it."""

    power: Power
    source: str
    agents: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """All of it. `digest`: the value of a `Tsched-Plan:` trailer that binds a merge to what is shown here."""

    drained: tuple[Drained, ...] = ()
    capacity: tuple[Capacity, ...] = ()
    starved: tuple[Starved, ...] = ()
    widened: tuple[Widened, ...] = ()
    digest: str = ""


def review(old: Fleet | None, new: Fleet, *, runs: Iterable[Run] = (), waiting: Iterable[str] = ()) -> Review:
    """Look at the step from `old` to `new`. `runs`: those that live; `waiting`: queues that hold open tasks."""
    drained = drains(old, new, runs)
    return Review(
        drained=drained,
        capacity=tuple(one for one in capacities(old, new) if one.before != one.after),
        starved=starvation(old, new, waiting),
        widened=widening(old, new),
        digest=digest(drained),
    )


def drains(old: Fleet | None, new: Fleet, runs: Iterable[Run]) -> tuple[Drained, ...]:
    """The agents that leave a queue, by name, with what they hold."""
    kept = {(agent.name, pool.queue) for pool, agent in new.agents()}
    held: dict[Key, list[str]] = {}
    for run in runs:
        held.setdefault((run.agent, run.queue), []).append(run.task_id)
    gone = sorted({(agent.name, pool.queue) for pool, agent in old.agents()} - kept) if old is not None else []
    return tuple(
        Drained(agent=agent, queue=queue, tasks=tuple(sorted(held.get((agent, queue), ())))) for agent, queue in gone
    )


def slots(pool: Pool, fleet: Fleet) -> int:
    """How many tasks a pool may run at once."""
    if pool.suspend is not None:
        return 0
    caps = [cap for cap in (pool.max_running, fleet.limits.max_running) if cap is not None]
    return min([sum(agent.limit for agent in pool.agents), *caps])


def capacities(old: Fleet | None, new: Fleet) -> tuple[Capacity, ...]:
    """Each queue's slots before and after, by name."""
    before = {pool.queue: slots(pool, old) for pool in old.pools} if old is not None else {}
    after = {pool.queue: slots(pool, new) for pool in new.pools}
    return tuple(
        Capacity(queue=queue, before=before.get(queue), after=after.get(queue))
        for queue in sorted(before.keys() | after.keys())
    )


def starvation(old: Fleet | None, new: Fleet, waiting: Iterable[str]) -> tuple[Starved, ...]:
    """Queues that were served, or hold tasks, and get no agent with a slot. The witness names the cause."""
    needed = set(waiting)
    known = capacities(old, new)
    found = [
        Starved(queue=one.queue, witness=_why_starved(one.queue, old, new))
        for one in known
        if (one.before or one.queue in needed) and not one.after
    ]
    strangers = sorted(needed - {one.queue for one in known})
    return (*found, *(Starved(queue=queue, witness="no pool serves it") for queue in strangers))


def _why_starved(queue: str, old: Fleet | None, new: Fleet) -> str:
    pool = next((pool for pool in new.pools if pool.queue == queue), None)
    before = next((pool for pool in old.pools if pool.queue == queue), None) if old is not None else None
    if pool is None:
        name = before.name if before is not None else queue
        now = next((one.queue for one in new.pools if one.name == name), None)
        return f"pool {name} is removed" if now is None else f"pool {name} now serves {now}"
    if pool.suspend is not None:
        return f"pool {pool.name} is suspended"
    if pool.max_running == 0:
        return f"max_running of pool {pool.name} is 0"
    if new.limits.max_running == 0:
        return "max_running of the fleet is 0"
    if pool.agents:
        return f"every agent of pool {pool.name} has limit 0 ({', '.join(agent.name for agent in pool.agents)})"
    last = ", ".join(agent.name for agent in before.agents) if before is not None else ""
    return f"pool {pool.name} has no agent left" + (f" ({last} gone)" if last else "")


def widening(old: Fleet | None, new: Fleet) -> tuple[Widened, ...]:
    """Powers that an agent gains, or that a new agent has and none had before. Nothing where there was no fleet."""
    if old is None:
        return ()
    before = {agent.name: powers(pool, agent, old) for pool, agent in old.agents()}
    everybody = {power for own in before.values() for power in own}
    gained: dict[tuple[Power, str], list[str]] = {}
    for pool, agent in new.agents():
        had = before.get(agent.name, everybody)
        for power, source in powers(pool, agent, new).items():
            if power not in had:
                gained.setdefault((power, source), []).append(agent.name)
    return tuple(
        Widened(power=power, source=source, agents=tuple(sorted(agents)))
        for (power, source), agents in sorted(gained.items())
    )


def powers(pool: Pool, agent: Agent, fleet: Fleet) -> Mapping[Power, str]:
    """What the agent's runs may use, each with the recipe, runtime or pool that brings it."""
    recipe = fleet.recipes.get(agent.recipe)
    runtime = runtime_of(agent.runtime, fleet.limits.runtimes)
    found = dict.fromkeys(recipe.powers if recipe is not None else (), agent.recipe)
    if runtime is not None:
        source = f"runtime {runtime.name}"
        found[Power(kind="command", what=" ".join(runtime.argv))] = source
        found.update((Power(kind="variable", what=name), source) for name in runtime.env)
    hooks = pool.workspace.hooks.scripts() if pool.workspace is not None else {}
    found.update(
        (Power(kind="command", what=f"{name}: {script}"), f"pool {pool.name}") for name, script in hooks.items()
    )
    return found


def digest(drained: Sequence[Drained]) -> str:
    """The blast radius in one line: `agents=2 runs=3 of=1f2e3d4c5b6a`. `of` names which agents and queues."""
    keys = "\n".join(f"{one.agent} {one.queue}" for one in sorted(drained, key=lambda one: (one.agent, one.queue)))
    runs = sum(len(one.tasks) for one in drained)
    return f"agents={len(drained)} runs={runs} of={hashlib.sha256(keys.encode()).hexdigest()[:12]}"


def grown(reviewed: str, now: Sequence[Drained]) -> str | None:
    """Why the blast radius is past what was reviewed (a digest); None where it is not, or is less."""
    figures = dict(part.split("=", 1) for part in reviewed.split() if "=" in part)
    current = digest(now)
    fresh = dict(part.split("=", 1) for part in current.split())
    counts = [figures.get(name, "") for name in ("agents", "runs")]
    if "of" not in figures or not all(one.isascii() and one.isdecimal() and len(one) < 10 for one in counts):
        return f"its Tsched-Plan trailer {reviewed!r} can't be read; now it would be {current!r}"
    more = [name for name in ("agents", "runs") if int(fresh[name]) > int(figures[name])]
    other = fresh["of"] != figures["of"] and int(fresh["agents"]) == int(figures["agents"]) and now
    if not more and not other:
        return None
    return (
        f"the review saw {count(int(figures['agents']), 'agent')} drain with {count(int(figures['runs']), 'run')}, "
        f"now it is {fresh['agents']} with {fresh['runs']}" + ("" if more else ", and other ones")
    )
