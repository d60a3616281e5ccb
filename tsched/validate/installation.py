"""A TinyScheduler installation (control file, limits, recipes) → a Fleet and what is wrong with it. Pure.

Without a control file that can be used this is legacy mode: agents by their limits alone, which work what is assigned
to them. Legacy mode ends the matching of queues and nothing else: an agent stays in the queue where it was, so that
no run is drained, and coming back is the same step the other way.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from tsched.model.diagnostic import Diagnostic, Severity, of_file
from tsched.model.files import RepoFiles
from tsched.model.fleet import (
    LEGACY,
    LOCAL,
    LOCAL_PARKED,
    Agent,
    DrainPolicy,
    Fleet,
    Limits,
    OnDeadline,
    Pool,
    Recipe,
)
from tsched.model.records import dataclass
from tsched.validate import rules
from tsched.validate.control import DEFAULT_LIMITS, Control, parse_control
from tsched.validate.fleet import FleetCache
from tsched.validate.recipe import ParsedRecipe, parse_recipe
from tsched.validate.shelf import recipe_of

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # TinyScheduler's rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What stands on the host. `control`: the control file's text, None where there is none. `limits`: None where
    none are set. `files`: recipes as `recipes/<path>`, blob ids by content; `recipes_dir`: where they are.
    """

    control_file: str
    control: str | None
    limits: Mapping[str, int] | None
    figures: Limits
    recipes_dir: str
    files: RepoFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """`fleet`'s revision is its content's hash. `agents`: those of the control file, in its order, with their queues;
    None in legacy mode, and `fault` says why where the file is there. `missing`: recipes that are not there. `found`:
    all that is wrong, those among it.
    """

    fleet: Fleet
    agents: Mapping[str, str] | None
    fault: Diagnostic | None = None
    missing: tuple[str, ...] = ()
    found: tuple[Diagnostic, ...] = ()


def build(given: Sources, before: Fleet | None, cache: FleetCache) -> Installation:
    """The fleet that an installation comes to. `before`: the applied one, None before the first."""
    control = None
    if given.control is not None:
        control = check_names(parse_control(given.control, given.control_file))
    usable = control is not None and control.fault is None
    limits = given.limits
    if limits is None:
        limits = {name: n for name, n in DEFAULT_LIMITS.items() if control is None or name in control.agents}
    if control is not None and usable:
        pools = _pools(control.agents, limits, given.figures)
    else:
        pools = _legacy_pools(before, limits, given.figures)
    agents = [agent for pool in pools for agent in pool.agents]
    recipes, found = _recipes(agents, given, cache)
    missing = tuple(agent.recipe for agent in agents if agent.recipe not in given.files.entries)
    found = [*(control.found if control is not None else ()), *found, *_missing(missing, given)]
    fleet = Fleet(revision="", pools=pools, limits=given.figures, recipes=recipes)
    return Installation(
        fleet=replace(fleet, revision=LOCAL + hashlib.sha256(msgspec.json.encode(fleet)).hexdigest()[:40]),
        agents=control.agents if control is not None and usable else None,
        fault=control.fault if control is not None else None,
        missing=missing,
        found=tuple(found),
    )


def check_names(control: Control) -> Control:
    """With a finding for each agent whose name task servers and files can't take: the import renames those."""
    bad = [name for name in control.agents if not _NAME.fullmatch(name) or name == LOCAL_PARKED]
    wrong = (
        of_file(
            control.name, "TS204", f"{name!r} can't be an agent's name.",
            f"Use up to 64 letters, digits, _ and -, and not {LOCAL_PARKED}.",
        )
        for name in bad
    )  # fmt: skip
    return replace(control, found=(*control.found, *wrong))


def _pools(agents: Mapping[str, str], limits: Mapping[str, int], figures: Limits) -> tuple[Pool, ...]:
    """A pool a queue, named like it. An agent without a limit has 0."""
    queues: dict[str, list[Agent]] = {queue: [] for queue in sorted(set(agents.values()))}
    for name in sorted(agents):
        queues[agents[name]].append(_agent(name, limits, figures))
    return tuple(Pool(name=queue, queue=queue, agents=tuple(members)) for queue, members in queues.items())


def _legacy_pools(before: Fleet | None, limits: Mapping[str, int], figures: Limits) -> tuple[Pool, ...]:
    """The pools as they were, less their queues' unassigned tasks; agents that are new by their limit in `legacy`.

    Nobody is removed: whoever has no limit (any more) has 0.
    """
    pools = {pool.name: pool for pool in (before.pools if before is not None else ())}
    members = {name: [agent.name for agent in pool.agents] for name, pool in pools.items()}
    known = {name for names in members.values() for name in names}
    new = [name for name in limits if name not in known]
    if new:
        wait = DrainPolicy(on_deadline=OnDeadline.WAIT)  # nor does leaving legacy mode stop a run
        pools.setdefault(LEGACY, Pool(name=LEGACY, queue=_free(pools), drain=wait))
        members[LEGACY] = [*members.get(LEGACY, ()), *new]
    return tuple(
        Pool(
            name=name, queue=pools[name].queue, drain=pools[name].drain, own_only=True,
            agents=tuple(_agent(one, limits, figures) for one in sorted(members[name])),
        )
        for name in sorted(pools)
    )  # fmt: skip


def _free(pools: Mapping[str, Pool]) -> str:
    """A queue's name that no pool has."""
    queue = LEGACY
    while queue in {pool.queue for pool in pools.values()}:
        queue += "-agents"
    return queue


def _agent(name: str, limits: Mapping[str, int], figures: Limits) -> Agent:
    return Agent(
        name=name, limit=limits.get(name, 0), recipe=f"recipes/{name}.yaml", max_runtime=figures.max_runtime,
        stall=figures.stall,
    )  # fmt: skip


def _recipes(
    agents: Sequence[Agent], given: Sources, cache: FleetCache
) -> tuple[dict[str, Recipe], list[Diagnostic]]:
    """The sound recipes of these agents, and what is wrong with the others: each is one agent's matter alone."""
    entries = given.files.entries
    parsed = _parsed([agent.recipe for agent in agents], given.files, cache)
    found = sorted(
        {*(one for recipe in parsed.values() for one in recipe.diagnostics), *rules.sub_recipes(parsed, entries)}
        | set(rules.reach(parsed))
    )
    broken = {one.path for one in found if one.severity is Severity.ERROR}
    sound = {}
    for path in sorted({agent.recipe for agent in agents} & parsed.keys()):
        if not broken.intersection(rules.reached(path, recipes=parsed)):
            sound[path] = recipe_of(path, parsed, entries)
    return sound, found


def _parsed(paths: Sequence[str], files: RepoFiles, cache: FleetCache) -> dict[str, ParsedRecipe]:
    """These recipes and all that they reach; a file that is as it was is not parsed again."""
    before, cache.recipes = cache.recipes, {}
    todo, parsed = list(paths), dict[str, ParsedRecipe]()
    while todo:
        path = todo.pop()
        file = files.entries.get(path)
        if file is None or path in parsed or not path.endswith((".yaml", ".json")):
            continue
        known = before.get((path, file.blob)) or parse_recipe(path, files.read(file))
        parsed[path] = cache.recipes[path, file.blob] = known
        todo += [rules.sub_path(path, written) for written, _, _ in known.sub_recipes]
    return parsed


def _missing(paths: Sequence[str], given: Sources) -> Iterator[Diagnostic]:
    for path in paths:
        name = path.removeprefix("recipes/")
        message = f"Recipe not found: {given.recipes_dir}/{name}"
        yield of_file(path, "TS304", message, "Add it; until then its agent stays idle.")
