"""The files of a revision → a Fleet, or everything that is wrong with them in one pass."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

from tsched.model.diagnostic import Diagnostic, Severity
from tsched.model.files import FileKind, RepoFile, RepoFiles
from tsched.model.fleet import Agent, Fleet, Limits, Pool, Recipe, RecipeFile, Session
from tsched.model.placement import Engine
from tsched.validate import rules
from tsched.validate.pools import (
    LIMITS_FILE,
    ParsedFile,
    drain_of,
    limits_of,
    parse_pool_file,
    resources_of,
    slurm_of,
    suspend_of,
    workspace_of,
)
from tsched.validate.recipe import ParsedRecipe, parse_recipe
from tsched.validate.source import LARGEST, Value
from tsched.validate.values import Mapped, items, mapping, seconds, whole
from tsched.validate.written import Written

BESIDE = frozenset({"pools/.gitkeep", "pools/README.md"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """`fleet` is None where any finding is an error. `agents`: how many are written down, in sound files."""

    fleet: Fleet | None
    diagnostics: tuple[Diagnostic, ...] = ()
    agents: int = 0


@dataclass(slots=True)
class FleetCache:
    """Parsed files by path and blob id: an unchanged file costs no parse. Holds the last load's files alone."""

    pools: dict[tuple[str, str], ParsedFile] = field(default_factory=dict)
    recipes: dict[tuple[str, str], ParsedRecipe] = field(default_factory=dict)


def load_fleet(files: RepoFiles, cache: FleetCache | None = None, *, build: bool = True) -> Loaded:
    """Check a revision's files and build its fleet. Never raises for what is in them.

    `build=False`: for who only wants the findings; no fleet comes of it, and recipes, most of the memory, are let go.
    """
    with _no_collections():
        return _load(files, cache if cache is not None else FleetCache(), build=build)


@contextmanager
def _no_collections() -> Iterator[None]:
    """Python's cycle collector off: a large file's tree has none, and looking for them takes most of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _load(files: RepoFiles, cache: FleetCache, *, build: bool) -> Loaded:
    found = list(_misplaced(files))
    usable = {path: file for path, file in files.entries.items() if _usable(file)}
    pools = _pool_files(files, usable, cache)
    recipes = _recipe_files(files, usable, cache, build=build)
    found += chain.from_iterable(one.diagnostics for one in pools.values())
    found += chain.from_iterable(one.diagnostics for one in recipes.values())
    written = [Written(one.source, one.value) for one in pools.values() if one.value is not None]
    limits_file = pools.get(LIMITS_FILE)
    limits = limits_of((limits_file.value if limits_file else None) or {})
    whole = rules.Whole(
        pools=all(one.value is not None for one in pools.values()),
        limits=LIMITS_FILE not in files.entries or (limits_file is not None and limits_file.value is not None),
        recipes=all(one.readable for one in recipes.values()),
    )
    found += rules.check(written, limits, recipes, files.entries, whole)
    diagnostics = tuple(sorted(set(found), key=lambda one: (one.path, one.line, one.column, one.code, one.message)))
    agents = sum(len(one.agents) for one in written)
    if not build or any(one.severity is Severity.ERROR for one in diagnostics):
        return Loaded(fleet=None, diagnostics=diagnostics, agents=agents)
    built = [_pool(one.value, limits) for one in written if one.source.name != LIMITS_FILE]
    used = {agent.recipe for pool in built for agent in pool.agents}
    fleet = Fleet(
        revision=files.revision,
        pools=tuple(sorted(built, key=lambda pool: pool.name)),
        limits=limits,
        recipes={path: recipe_of(path, recipes, files.entries) for path in sorted(used)},
    )
    return Loaded(fleet=fleet, diagnostics=diagnostics, agents=agents)


def _usable(file: RepoFile) -> bool:
    return file.kind is FileKind.FILE and file.size <= LARGEST


def _misplaced(files: RepoFiles) -> Iterator[Diagnostic]:
    """What git itself says of the files, before any is read."""
    if not files.entries:
        yield _whole("pools", "TS308", "There is neither pools/ nor recipes/ here.", "Point at a fleet repo.")
    for path, file in files.entries.items():
        top, _, rest = path.partition("/")
        if file.kind is not FileKind.FILE:
            mend = "Replace it with the file itself."
            yield _whole(path, "TS307", f"This is a {file.kind}, where a plain file is expected.", mend)
        elif file.size > LARGEST:
            yield _whole(path, "TS105", f"The file has {file.size} bytes.", f"Keep a file under {LARGEST} bytes.")
        if top == "pools" and path not in BESIDE and ("/" in rest or not path.endswith(".yaml")):
            mend = (
                "Rename it to .yaml." if path.endswith(".yml") else "Move it out: pools/ holds *.yaml, and is flat."
            )
            yield _whole(path, "TS306", "This does not belong in pools/.", mend)


def _whole(path: str, code: str, message: str, mend: str) -> Diagnostic:
    return Diagnostic(path=path, line=1, column=1, code=code, message=message, mend=mend)


def _pool_files(files: RepoFiles, usable: Mapping[str, RepoFile], cache: FleetCache) -> dict[str, ParsedFile]:
    before, cache.pools = cache.pools, {}
    for path, file in usable.items():
        if path.startswith("pools/") and path.endswith(".yaml") and path.count("/") == 1:
            key = (path, file.blob)
            cache.pools[key] = before.get(key) or parse_pool_file(path, files.read(file))
    return {path: parsed for (path, _), parsed in cache.pools.items()}


def _recipe_files(
    files: RepoFiles, usable: Mapping[str, RepoFile], cache: FleetCache, *, build: bool
) -> dict[str, ParsedRecipe]:
    before, cache.recipes = cache.recipes, {}
    for path, file in usable.items():
        if path.startswith("recipes/") and path.endswith((".yaml", ".json")):
            key = (path, file.blob)
            parsed = before.get(key) or parse_recipe(path, files.read(file))
            cache.recipes[key] = parsed if build else parsed.findings()
    return {path: parsed for (path, _), parsed in cache.recipes.items()}


def _pool(value: Mapped | None, limits: Limits) -> Pool:
    value = value or {}
    defaults = mapping(value.get("defaults"))
    name = str(value["name"])
    agents = [_agent(mapping(one), defaults, value.get("runtime"), limits) for one in items(value.get("agents"))]
    return Pool(
        name=name,
        queue=str(value.get("queue", name)),
        labels={key: str(one) for key, one in sorted(mapping(value.get("labels")).items())},
        max_running=None if "max_running" not in value else whole(value["max_running"], 0),
        suspend=suspend_of(value.get("suspend")),
        drain=drain_of(mapping(value.get("drain"))),
        workspace=workspace_of(value.get("workspace")),
        agents=tuple(sorted(agents, key=lambda agent: agent.name)),
    )


def _agent(value: Mapped, defaults: Mapped, pool_runtime: Value, limits: Limits) -> Agent:
    """Order of defaults: agent, pool's defaults, limits.yaml, built in; a pool's runtime before the built-in one."""
    merged = {**defaults, **value}
    return Agent(
        name=str(value["name"]),
        limit=whole(merged.get("limit"), 1),
        recipe=rules.recipe_path(value),
        runtime=str(merged.get("runtime") or pool_runtime or "goose"),
        max_runtime=seconds(merged.get("max_runtime"), limits.max_runtime),
        stall=seconds(merged.get("stall"), limits.stall),
        priority_floor=whole(merged.get("priority_floor"), 0),
        session=Session(str(merged.get("session", Session.FRESH))),
        resources=resources_of({**mapping(defaults.get("resources")), **mapping(value.get("resources"))}).over(
            limits.resources
        ),
        executor=Engine(str(merged.get("executor", limits.executor))),
        slurm=slurm_of({**mapping(defaults.get("slurm")), **mapping(value.get("slurm"))}).over(limits.slurm),
    )


def recipe_of(path: str, recipes: Mapping[str, ParsedRecipe], entries: Mapping[str, RepoFile]) -> Recipe:
    """What an agent runs: a sound recipe with the sound ones that it reaches."""
    parsed = recipes[path]
    reached = rules.reached(path, recipes=recipes)
    env_keys = dict.fromkeys(chain.from_iterable(recipes[one].env_keys for one in reached))
    return Recipe(
        path=path,
        title=parsed.title,
        prompt=parsed.prompt,
        instructions=parsed.instructions,
        parameters=parsed.parameters,
        env_keys=tuple(env_keys),
        powers=tuple(sorted({power for one in reached for power in recipes[one].powers})),
        response=parsed.response,
        checks=parsed.checks,
        check_timeout=parsed.check_timeout,
        files=tuple(RecipeFile(path=one, blob=entries[one].blob, text=recipes[one].text) for one in reached),
    )
