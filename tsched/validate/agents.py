"""A sound pool file → its Pool: each agent with the defaults that hold for it."""

from dataclasses import dataclass

from tsched.model.fleet import Agent, Limits, Pool, Session
from tsched.model.placement import Engine
from tsched.validate.pools import (
    drain_of,
    kubernetes_of,
    resources_of,
    slurm_of,
    suspend_of,
    workspace_of,
)
from tsched.validate.source import Value
from tsched.validate.values import Mapped, items, mapping, seconds, whole
from tsched.validate.written import Written, recipe_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """What came of a pool file's agents. `given`: what they share; `agents`: each as written, and what it came to."""

    given: tuple[Mapped, Value, Limits]
    agents: dict[str, tuple[Mapped, Agent]]


def pool_of(written: Written, limits: Limits, made: dict[str, Agents]) -> Pool:
    """`made`: the agents that came of each file; one that is written as it was is the same object."""
    value = written.value or {}
    defaults = mapping(value.get("defaults"))
    name = str(value["name"])
    given = (defaults, value.get("runtime"), limits)
    before = made.get(written.source.name)
    known = before.agents if before is not None and before.given == given else {}
    now = Agents(given=given, agents={})
    for one in map(mapping, items(value.get("agents"))):
        agent = known.get(str(one["name"]))
        if agent is None or agent[0] != one:
            agent = (one, _agent(one, *given))
        now.agents[agent[1].name] = agent
    made[written.source.name] = now
    return Pool(
        name=name,
        queue=str(value.get("queue", name)),
        labels={key: str(one) for key, one in sorted(mapping(value.get("labels")).items())},
        max_running=None if "max_running" not in value else whole(value["max_running"], 0),
        suspend=suspend_of(value.get("suspend")),
        drain=drain_of(mapping(value.get("drain"))),
        workspace=workspace_of(value.get("workspace")),
        agents=tuple(now.agents[one][1] for one in sorted(now.agents)),
    )


def _agent(value: Mapped, defaults: Mapped, pool_runtime: Value, limits: Limits) -> Agent:
    """Order of defaults: agent, pool's defaults, limits.yaml, built in; a pool's runtime before the built-in one."""
    merged = {**defaults, **value}

    def own(key: str) -> Mapped:
        """What is not left to limits.yaml."""
        return {**mapping(defaults.get(key)), **mapping(value.get(key))} if key in merged else {}

    return Agent(
        name=str(value["name"]),
        limit=whole(merged.get("limit"), 1),
        recipe=recipe_path(value),
        runtime=str(merged.get("runtime") or pool_runtime or "goose"),
        max_runtime=seconds(merged.get("max_runtime"), limits.max_runtime),
        stall=seconds(merged.get("stall"), limits.stall),
        priority_floor=whole(merged.get("priority_floor"), 0),
        session=Session(str(merged.get("session", Session.FRESH))),
        resources=resources_of(said).over(limits.resources) if (said := own("resources")) else limits.resources,
        executor=Engine(str(merged.get("executor", limits.executor))),
        slurm=slurm_of(said).over(limits.slurm) if (said := own("slurm")) else limits.slurm,
        kubernetes=kubernetes_of(said).over(limits.kubernetes) if (said := own("kubernetes")) else limits.kubernetes,
    )
