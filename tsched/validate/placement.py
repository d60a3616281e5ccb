"""Rules about where runs execute: Slurm must leave a run its own time, and not all is to be had in every place."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tsched.model.diagnostic import Diagnostic
from tsched.model.fleet import Limits, Session
from tsched.model.placement import Engine
from tsched.model.units import format_duration
from tsched.validate.values import Mapped, mapping, seconds
from tsched.validate.written import Written, recipe_path

if TYPE_CHECKING:
    from tsched.validate.source import Path


def job_times(pools: Sequence[Written], limits: Limits) -> Iterator[Diagnostic]:
    """TS321"""
    for pool, defaults, index, agent in _bound_for(Engine.SLURM, pools, limits):
        own, shared = (mapping(one.get("slurm")) for one in (agent, defaults))
        limit = seconds({**shared, **own}.get("time"), limits.slurm.time or math.inf)
        needed = seconds({**defaults, **agent}.get("max_runtime"), limits.max_runtime) + limits.stop_grace
        if limit >= needed:
            continue
        path: Path = ["agents", index, *(["slurm", "time"] if "time" in own else ["name"])]
        message = (
            f"Slurm would end runs of {agent['name']} after {format_duration(limit)}, before max_runtime and "
            f"stop_grace, {format_duration(needed)}, are over."
        )
        enough = format_duration(60 * math.ceil(needed / 60))
        mend = f"Set slurm.time to {enough} or more, leave it out, or lower max_runtime."
        yield pool.at("TS321", path, message, mend)


def nodes_apart(pools: Sequence[Written], limits: Limits) -> Iterator[Diagnostic]:
    """TS323"""
    for pool, defaults, index, agent in _bound_for(Engine.SLURM, pools, limits):
        own, shared = (mapping(one.get("slurm")) for one in (agent, defaults))
        if {**shared, **own}.get("shared", limits.slurm.shared) is not False:
            continue
        whose = f"Runs of {agent['name']} are for nodes that share no folder with the runner"
        if "workspace" in (pool.value or {}):
            path: Path = ["agents", index, *(["slurm", "shared"] if "shared" in own else ["name"])]
            mend = "Leave workspace out and have the recipe fetch what it needs, or share the state folder."
            yield pool.at("TS323", path, f"{whose}, which can't have the pool's workspace.", mend)
        if {**defaults, **agent}.get("session") == Session.CONTINUE:
            path = ["agents", index, "session" if "session" in agent else "name"]
            yield pool.at("TS323", path, f"{whose}, where no conversation goes on.", "Say `session: fresh`.")


def pods(pools: Sequence[Written], limits: Limits) -> Iterator[Diagnostic]:
    """TS322"""
    for pool, defaults, index, agent in _bound_for(Engine.KUBERNETES, pools, limits):
        for key, wish, mend in _not_there(pool.value or {}, defaults, agent, limits):
            path: Path = ["agents", index, key if key in agent else "name"]
            message = f"Runs of {agent['name']} are to be Jobs of Kubernetes, {wish}."
            yield pool.at("TS322", path, message, mend)


def unchecked(pool: Written, limits: Limits, checking: frozenset[str]) -> tuple[Diagnostic, ...]:
    """TS322, of agents whose recipes are among those with checks."""
    found = []
    for _, _, index, agent in _bound_for(Engine.KUBERNETES, (pool,), limits):
        if (recipe := recipe_path(agent)) in checking:
            path: Path = ["agents", index, "recipe" if "recipe" in agent else "name"]
            message = (
                f"Runs of {agent['name']} are to be Jobs of Kubernetes, where nobody makes the checks of {recipe}."
            )
            mend = "Leave retry.checks out of the recipe, or let the agent run elsewhere."
            found.append(pool.at("TS322", path, message, mend))
    return tuple(found)


def _bound_for(
    engine: Engine, pools: Sequence[Written], limits: Limits
) -> Iterator[tuple[Written, Mapped, int, Mapped]]:
    """The agents whose runs execute there: the pool, its defaults, the agent's place in it, the agent."""
    for pool in pools:
        defaults = mapping((pool.value or {}).get("defaults"))
        for index, agent in enumerate(pool.agents):
            if str({**defaults, **agent}.get("executor", limits.executor)) == engine:
                yield pool, defaults, index, agent


def _not_there(pool: Mapped, defaults: Mapped, agent: Mapped, limits: Limits) -> Iterator[tuple[str, str, str]]:
    """The key, what is wrong with it, and how to mend it."""
    if not {**mapping(defaults.get("kubernetes")), **mapping(agent.get("kubernetes"))}.get(
        "image", limits.kubernetes.image
    ):
        yield "kubernetes", "but no image is named", "Set kubernetes.image to the image that holds its program."
    if "workspace" in pool:
        mend = "Leave workspace out and have the recipe fetch what it needs, or move the agent to a pool without."
        yield "executor", "which can't have the pool's workspace", mend
    if {**defaults, **agent}.get("session") == Session.CONTINUE:
        yield "session", "where no conversation goes on", "Say `session: fresh`."
    resources = {**mapping(defaults.get("resources")), **mapping(agent.get("resources"))}
    for name in ("processes", "open_files", "file_size"):
        if name in resources or getattr(limits.resources, name) is not None:
            mend = f"Leave out resources.{name}: a pod is held to cpus and memory."
            yield "resources", f"where resources.{name} holds nothing", mend
    if seconds({**defaults, **agent}.get("stall"), 0.0):
        yield "stall", "where nobody looks for progress", "Leave stall out: a pod is held to max_runtime."
