"""Whether the fleet would take a task now, link by link: queue, pool, agents, slots, caps. As `match` does it."""

from collections.abc import Callable, Iterator, Sequence

from tsched.model.fleet import LOCAL_PARKED, Agent, Pool
from tsched.model.lifecycle import AgentState
from tsched.model.reason import Link, Reason
from tsched.model.units import count, iso
from tsched.schedule.match import admits, room
from tsched.schedule.override import drain_of, stop_of
from tsched.schedule.scene import Scene


def served(queue: str, pool: Pool | None, scene: Scene) -> Reason:
    """Whether any pool serves the queue."""
    if pool is not None:
        return Reason(kind=Link.QUEUE, holds=False, words=f"pool {pool.name} serves queue {queue}")
    left = sorted(row.agent for row in scene.lifecycles.values() if row.queue == queue)
    gone = f" any more ({', '.join(left)} {'is' if len(left) == 1 else 'are'} on the way out)" if left else ""
    words = f"no pool of this runner serves queue {queue}{gone}"
    mends = f"Add one in git (`tsched pool add {queue}`), or see TSCHED_POOLS: it may be another runner's."
    return Reason(kind=Link.QUEUE, holds=True, words=words, mend=mends)


def assignee(agent: str, queue: str, pool: Pool | None, scene: Scene) -> Reason:
    """Whether a task's agent is one of the fleet. `queue`: the task's; `pool`: where the agent stands, if it does."""
    if pool is not None:
        other = f", and takes its own tasks from queue {queue} too" if pool.queue != queue else ""
        return Reason(kind=Link.ASSIGNEE, holds=False, words=f"{agent} is an agent of pool {pool.name}{other}")
    row = scene.lifecycles.get((agent, queue))
    if agent == LOCAL_PARKED:
        words, mends = "it is parked for a person", "Assign it to an agent, or to nobody."
    elif row is not None:
        words = f"its agent {agent} was removed from the fleet and is {row.state}"
        mends = "It goes back to its queue once the agent is gone."
    else:
        words = f"it is assigned to {agent}, who is no agent of this runner's fleet"
        mends = "Assign it to an agent of the fleet, or to nobody."
    return Reason(kind=Link.ASSIGNEE, holds=True, words=words, mend=mends)


def pool_open(pool: Pool, scene: Scene) -> Iterator[Reason]:
    """What keeps the pool as a whole from taking tasks."""
    if (stop := stop_of(scene.overrides, pool.queue)) is not None:
        yield Reason(
            kind=Link.POOL, holds=True, words=f"pool {pool.name} is stopped here: {stop}", mend=f"`{stop.undo}`"
        )
    suspend = pool.suspend
    if suspend is not None and suspend.holds(scene.now):
        until = f" until {iso(suspend.until)}" if suspend.until is not None else ""
        why = f": {suspend.reason}" if suspend.reason else ""
        mends = f"`tsched pool resume {pool.name}`"
        yield Reason(kind=Link.POOL, holds=True, words=f"pool {pool.name} is suspended{until}{why}", mend=mends)


Test = Callable[[Agent], bool]


def able(
    agents: Sequence[Agent], pool: Pool, queues: Sequence[str], scene: Scene, *, priority: int | None
) -> Iterator[Reason]:
    """Stage by stage, who is left: a stage holds where it leaves nobody, and then the later ones have nothing to say.

    `priority` None: of no task in particular, so nobody's floor matters.
    """
    left = list(agents)
    if not left:
        words, mends = f"pool {pool.name} has no agent", f"`tsched agent add NAME --pool {pool.name}`"
        yield Reason(kind=Link.AGENTS, holds=True, words=words, mend=mends)
        return
    for kind, test, bad, good, mends in _stages(pool, queues, scene, priority):
        passed = [agent for agent in left if test(agent)]
        out = ", ".join(bad(agent) for agent in left if not test(agent))
        if not passed:
            yield Reason(kind=kind, holds=True, words=out, mend=mends)
            return
        words = ", ".join(filter(None, map(good, passed)))
        if words or out:
            yield Reason(kind=kind, holds=False, words="; ".join(part for part in (words, out) if part))
        left = passed


Stage = tuple[Link, Test, Callable[[Agent], str], Callable[[Agent], str], str]


def _stages(pool: Pool, queues: Sequence[str], scene: Scene, priority: int | None) -> Iterator[Stage]:
    """Each stage: its kind, the test, words for who fails and who passes ("": not worth saying), and the mend."""

    def silent(agent: Agent) -> str:
        return ""

    def free(agent: Agent) -> int:
        return agent.limit - scene.running_by_agent.get(agent.name, 0)

    yield (
        Link.AGENTS,
        lambda agent: all(admits(scene.lifecycles, agent.name, queue) for queue in queues)
        and drain_of(scene.overrides, agent.name) is None,
        lambda agent: _out(agent, queues, scene), lambda agent: f"{agent.name} is active",
        "An agent on its way out takes no new task: add one in git.",
    )  # fmt: skip
    yield (
        Link.LIMIT, lambda agent: agent.limit > 0, lambda agent: f"{agent.name} has limit 0", silent,
        "`tsched agent limit NAME N` gives it slots.",
    )  # fmt: skip
    yield (
        Link.SLOTS, lambda agent: free(agent) > 0,
        lambda agent: f"{agent.name} has {agent.limit - free(agent)} of {count(agent.limit, 'slot')} in use",
        lambda agent: f"{agent.name} has {free(agent)} of {count(agent.limit, 'slot')} free",
        "It waits for a run to end; `tsched capacity` says whether more slots are needed.",
    )  # fmt: skip
    yield (
        Link.BREAKER, lambda agent: scene.resting.get(agent.recipe, 1) > 0,
        lambda agent: _rests(agent, scene), silent,
        f"See `tsched errors`; a recipe mended in git starts anew in pool {pool.name} at once.",
    )  # fmt: skip
    if priority is not None:
        yield (
            Link.FLOOR, lambda agent: priority >= agent.priority_floor,
            lambda agent: f"{agent.name} takes nothing below priority {agent.priority_floor} (this has {priority})",
            silent, "Raise the task's priority, or lower priority_floor in git.",
        )  # fmt: skip


def _rests(agent: Agent, scene: Scene) -> str:
    breaker = scene.breakers.get(agent.recipe)
    until = f" until {iso(breaker.until)}" if breaker is not None and breaker.until > scene.now else ""
    trial = "" if until else "; one run at a time may try, and it goes on"
    return f"{agent.recipe} of {agent.name} rests{until}, since its runs all failed{trial}"


def _out(agent: Agent, queues: Sequence[str], scene: Scene) -> str:
    if (drain := drain_of(scene.overrides, agent.name)) is not None:
        return f"{agent.name} is drained here ({drain}; `{drain.undo}`)"
    rows = [scene.lifecycles.get((agent.name, queue)) for queue in queues]
    states = [row.state for row in rows if row is not None and row.state is not AgentState.ACTIVE]
    return f"{agent.name} is {states[0] if states else 'out'}"


def caps(pool: Pool, scene: Scene) -> Iterator[Reason]:
    """What the caps of the pool and of the fleet leave."""
    if scene.fleet is None:
        return
    used = scene.running_by_queue.get(pool.queue, 0)
    most = scene.fleet.limits.spawn_per_cycle
    fleet = scene.fleet.limits.max_running
    for kind, what, cap, busy in (
        (Link.POOL_CAP, f"pool {pool.name}", pool.max_running, used),
        (Link.FLEET_CAP, "the fleet", fleet, scene.running),
    ):
        if cap is not None:
            mends = "It waits for a run to end, or for a higher max_running in git."
            full = room(cap, busy) == 0
            words = f"{what} runs {busy} of at most {cap} (max_running)"
            yield Reason(kind=kind, holds=full, words=words, mend=mends if full else "")
    if most is not None:
        words = f"at most {count(most, 'run')} {'starts' if most == 1 else 'start'} in one pass (spawn_per_cycle)"
        yield Reason(kind=Link.SPAWN, holds=most == 0, words=words)
