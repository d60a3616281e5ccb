"""Rules across files: one small function and one stable code each."""

import posixpath
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tsched.model.diagnostic import Diagnostic, Severity, of_file
from tsched.model.files import RepoFile
from tsched.model.fleet import Limits, OnDeadline, Session
from tsched.model.records import dataclass
from tsched.model.runtimes import BUILT_IN
from tsched.model.units import format_duration
from tsched.validate.near import Near
from tsched.validate.placement import job_times, nodes_apart, pods
from tsched.validate.pools import LIMITS_FILE, drain_of
from tsched.validate.recipe import ParsedRecipe
from tsched.validate.values import Mapped, mapping, seconds
from tsched.validate.written import Written, recipe_path

if TYPE_CHECKING:
    from tsched.validate.source import Path

MOST_REACHED = 101  # recipes, the first one counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """What could be read in full: a rule about what is missing would else blame it on the wrong file."""

    pools: bool = True
    limits: bool = True
    recipes: bool = True


def of_pool(pool: Written, limits: Limits) -> tuple[Diagnostic, ...]:
    """What is wrong with a pool beside the limits of the fleet."""
    alone = (pool,)
    return (
        *runtimes(alone, limits), *caps(alone, limits), *idle(alone, limits), *drains(alone, limits),
        *sessions(alone, limits), *job_times(alone, limits), *pods(alone, limits), *nodes_apart(alone, limits),
    )  # fmt: skip


def lacks(pool: Written, recipes: Mapping[str, RepoFile]) -> bool:
    """Whether an agent's recipe is none that is there: `recipe_paths` says which."""
    return any(path not in recipes or leaves(path) for path in map(recipe_path, pool.agents))


def names_of(pool: Written) -> frozenset[str]:
    """The names of a pool's agents."""
    return frozenset(str(agent["name"]) for agent in pool.agents)


def recipes_of(pool: Written) -> frozenset[str]:
    """The recipes that a pool's agents name."""
    return frozenset(map(recipe_path, pool.agents))


def agent_names(pools: Sequence[Written]) -> Iterator[Diagnostic]:
    """TS301"""
    seen: dict[str, str] = {}
    for pool in pools:
        for index, agent in enumerate(pool.agents):
            name = str(agent["name"])
            if name in seen:
                message = f"The agent {name!r} stands in {seen[name]} already."
                yield pool.at("TS301", ["agents", index, "name"], message, "Give one of them another name.")
            seen.setdefault(name, pool.source.name)


def pool_names(pools: Sequence[Written]) -> Iterator[Diagnostic]:
    """TS303"""
    seen: dict[str, str] = {}
    for pool in pools:
        if pool.name in seen:
            message = f"The pool {pool.name!r} stands in {seen[pool.name]} already."
            yield pool.at("TS303", ["name"], message, "Give one of them another name.")
        seen.setdefault(pool.name, pool.source.name)


def queues(pools: Sequence[Written]) -> Iterator[Diagnostic]:
    """TS302"""
    seen: dict[str, str] = {}
    for pool in pools:
        if pool.queue in seen:
            path = ["queue"] if "queue" in (pool.value or {}) else ["name"]
            message = f"The queue {pool.queue!r} is served by {seen[pool.queue]} already."
            yield pool.at("TS302", path, message, "Put the agents in one pool, or name another queue.")
        seen.setdefault(pool.queue, pool.source.name)


def letter_case(entries: Mapping[str, RepoFile]) -> Iterator[Diagnostic]:
    """TS309: on some file systems these are one file."""
    seen: dict[str, str] = {}
    for path in sorted(entries, key=lambda path: (path.casefold(), path.swapcase())):  # lower case first
        other = seen.setdefault(path.casefold(), path)
        if other != path:
            message = f"This file's name differs from {other} only by case."
            yield of_file(path, "TS309", message, "Rename one of them.")


def recipe_paths(pools: Sequence[Written], entries: Mapping[str, RepoFile]) -> Iterator[Diagnostic]:
    """TS304, TS313"""
    stems = {
        path.removeprefix("recipes/").rpartition(".")[0]: path for path in entries if path.startswith("recipes/")
    }
    known = list(stems)
    near = Near()
    for pool in pools:
        for index, agent in enumerate(pool.agents):
            path = recipe_path(agent)
            place: Path = ["agents", index, "recipe" if "recipe" in agent else "name"]
            if leaves(path):
                message = f"The recipe {path.removeprefix('recipes/')!r} is not a plain path under recipes/."
                yield pool.at("TS313", place, message, "Name a file under recipes/, without `..`.")
            elif path not in entries:
                short = path.removeprefix("recipes/")
                meant = near(short.rpartition(".")[0], known)
                message = f"The agent {agent['name']} needs {path}, which is not in the repo."
                mend = f"Did you mean {stems[meant].removeprefix('recipes/')!r}?" if meant else "Add the file."
                yield pool.at("TS304", place, message, mend)


def leaves(path: str) -> bool:
    """Whether a path is anything but a plain way down from recipes/."""
    return posixpath.normpath(path) != path or not path.startswith("recipes/")


def runtimes(pools: Sequence[Written], limits: Limits) -> Iterator[Diagnostic]:
    """TS305"""
    known = sorted(BUILT_IN.keys() | limits.runtimes.keys())
    near = Near()
    for pool in pools:
        value = pool.value or {}
        places: list[tuple[Path, Mapped]] = [([], value), (["defaults"], mapping(value.get("defaults")))]
        places += [(["agents", index], agent) for index, agent in enumerate(pool.agents)]
        for path, holder in places:
            given = holder.get("runtime")
            if given is not None and given not in known:
                meant = near(str(given), known)
                mend = f"Did you mean {meant!r}?" if meant else f"Known are {', '.join(known)}."
                yield pool.at("TS305", [*path, "runtime"], f"The runtime {given!r} is not known.", mend)


def caps(pools: Sequence[Written], limits: Limits) -> Iterator[Diagnostic]:
    """TS311. A cap of 0 is another matter: see `idle`."""
    for pool in pools:
        for index, agent in enumerate(pool.agents):
            limit = pool.limit(agent)
            for cap, whose in ((pool.cap, "the pool's"), (limits.max_running, "the fleet's")):
                if cap and limit > cap:
                    path: Path = ["agents", index, "limit" if "limit" in agent else "name"]
                    message = f"The limit {limit} is above {whose} max_running of {cap}."
                    mend = "Lower the limit, or raise max_running."
                    yield pool.at("TS311", path, message, mend, severity=Severity.WARNING)


def idle(pools: Sequence[Written], limits: Limits) -> Iterator[Diagnostic]:
    """TS316"""
    for pool in pools:
        path: Path = ["name"]
        if (pool.value or {}).get("suspend", False) is not False:
            continue
        if pool.cap == 0:
            path, why = ["max_running"], "its max_running is 0"
        elif limits.max_running == 0:
            why = f"max_running is 0 in {LIMITS_FILE}"
        elif not pool.agents:
            why = "it has no agents"
        elif not any(pool.limit(agent) for agent in pool.agents):
            why = "every agent's limit is 0"
        else:
            continue
        message = f"The pool {pool.name} can never run anything: {why}."
        yield pool.at("TS316", path, message, "Give it room, or say `suspend: true`.", severity=Severity.WARNING)


def drains(pools: Sequence[Written], limits: Limits) -> Iterator[Diagnostic]:
    """TS315"""
    for pool in pools:
        value = pool.value or {}
        policy = drain_of(mapping(value.get("drain")))
        if policy.on_deadline is not OnDeadline.WAIT:
            continue
        default = mapping(value.get("defaults")).get("max_runtime")
        longest = max((seconds(a.get("max_runtime", default), limits.max_runtime) for a in pool.agents), default=0.0)
        if policy.deadline < longest:
            path: Path = ["drain", "deadline" if "deadline" in mapping(value.get("drain")) else "on_deadline"]
            message = (
                f"Under wait, a run may take {format_duration(longest)}, "
                f"but the drain's deadline is {format_duration(policy.deadline)}."
            )
            mend = f"Set the deadline to {format_duration(longest)} or more, or choose requeue or fail."
            yield pool.at("TS315", path, message, mend, severity=Severity.WARNING)


def sessions(pools: Sequence[Written], limits: Limits) -> Iterator[Diagnostic]:
    """TS317"""
    able = sorted(name for name, one in {**BUILT_IN, **limits.runtimes}.items() if one.resume)
    for pool in pools:
        value = pool.value or {}
        defaults = mapping(value.get("defaults"))
        for index, agent in enumerate(pool.agents):
            given = {**defaults, **agent}
            name = str(given.get("runtime") or value.get("runtime") or "goose")
            if given.get("session") == Session.CONTINUE and name not in able:
                path: Path = ["agents", index, "session" if "session" in agent else "name"]
                message = (
                    f"The runtime {name} can't go on with a conversation: each retry of {agent['name']} is fresh."
                )
                mend = f"Say `session: fresh`, or use {', '.join(able[:-1])} or {able[-1]}."
                yield pool.at("TS317", path, message, mend, severity=Severity.WARNING)


def sub_path(recipe: str, written: str) -> str:
    """Where a sub-recipe is in the repo: relative to the recipe's own folder."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(recipe), written))


def sub_recipes(recipes: Mapping[str, ParsedRecipe], entries: Mapping[str, RepoFile]) -> Iterator[Diagnostic]:
    """TS405, TS313"""
    for path, recipe in recipes.items():
        for written, line, column in recipe.sub_recipes:
            target = sub_path(path, written)
            if written.startswith("/") or not target.startswith("recipes/"):
                code, message, mend = (
                    "TS313",
                    f"The sub-recipe {written!r} leaves recipes/.",
                    "Move it under recipes/.",
                )
            elif not target.endswith((".yaml", ".json")):
                code, message, mend = (
                    "TS405",
                    f"The sub-recipe {target} is no recipe.",
                    "Name a .yaml or .json file.",
                )
            elif target not in entries:
                code, message, mend = (
                    "TS405",
                    f"The sub-recipe {target} is not in the repo.",
                    "Add it, or mend its path.",
                )
            else:
                continue
            yield Diagnostic(path=path, line=line, column=column, code=code, message=message, mend=mend)


def reached(*paths: str, recipes: Mapping[str, ParsedRecipe], most: int | None = None) -> tuple[str, ...]:
    """Recipes' own paths, then every sub-recipe they reach, each once (a circle ends). `most`: stop at so many."""
    order: dict[str, None] = {}
    todo = deque(paths)
    while todo and (most is None or len(order) < most):
        one = todo.popleft()
        if one not in order and one in recipes:
            order[one] = None
            todo += [sub_path(one, written) for written, _, _ in recipes[one].sub_recipes]
    return tuple(order)


def reach(recipes: Mapping[str, ParsedRecipe]) -> Iterator[Diagnostic]:
    """TS409"""
    for path, recipe in recipes.items():
        if recipe.sub_recipes and len(reached(path, recipes=recipes, most=MOST_REACHED + 1)) > MOST_REACHED:
            _, line, column = recipe.sub_recipes[0]
            yield Diagnostic(
                path=path, line=line, column=column, code="TS409",
                message=f"It reaches over {MOST_REACHED - 1} sub-recipes.", mend="Call fewer, or merge some.",
            )  # fmt: skip


def recipe_files(entries: Mapping[str, RepoFile]) -> Iterator[Diagnostic]:
    """TS306 for recipes: goose takes .yaml and .json, not .yml."""
    for path in entries:
        if path.startswith("recipes/") and path.endswith(".yml"):
            message = "A recipe may not end in .yml: goose refuses it."
            yield of_file(path, "TS306", message, "Rename it to .yaml.")


def unused(
    named: frozenset[str], calling: Sequence[str], recipes: Mapping[str, ParsedRecipe]
) -> Iterator[Diagnostic]:
    """TS310. `named`: those that agents name; `calling`: those with sub-recipes."""
    used = named.union(reached(*(path for path in calling if path in named), recipes=recipes))
    for path in recipes.keys() - used:
        mend = "Remove it, or name it in a pool."
        yield of_file(path, "TS310", "No agent uses this recipe.", mend, severity=Severity.WARNING)
