"""The files of a revision → a Fleet, or everything that is wrong with them in one pass."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

from tsched.model.diagnostic import Diagnostic, Severity, of_file
from tsched.model.files import FileKind, RepoFile, RepoFiles
from tsched.model.fleet import Fleet, Limits, Recipe
from tsched.model.kept import Kept
from tsched.validate import rules
from tsched.validate.agents import Agents, pool_of
from tsched.validate.alerts import alert_rules, webhooks
from tsched.validate.placement import unchecked
from tsched.validate.pools import (
    LIMITS_FILE,
    ParsedFile,
    limits_of,
    parse_pool_file,
)
from tsched.validate.recipe import ParsedRecipe, parse_recipe
from tsched.validate.shelf import Shelf
from tsched.validate.source import LARGEST
from tsched.validate.written import Written

BESIDE = frozenset({"pools/.gitkeep", "pools/README.md"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """`fleet` is None where any finding is an error. `agents`: how many are written down, in sound files."""

    fleet: Fleet | None
    diagnostics: tuple[Diagnostic, ...] = ()
    agents: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A sound pool file, its agents' names and the recipes that they name."""

    written: Written
    agents: frozenset[str]
    recipes: frozenset[str]


@dataclass(slots=True)
class FleetCache:
    """Parsed files by path and blob id: an unchanged file costs no parse. Holds the last load's files alone."""

    pools: dict[tuple[str, str], ParsedFile] = field(default_factory=dict)
    recipes: dict[tuple[str, str], ParsedRecipe] = field(default_factory=dict)
    shelf: Shelf | None = None
    agents: dict[str, Agents] = field(default_factory=dict)
    kept: Kept = field(default_factory=Kept)  # what follows from them


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
    kept = cache.kept
    shelf = _shelf(files, cache, build=build)
    pools = pool_files(files, cache)
    limits_file = pools.get(LIMITS_FILE)
    limits = kept(_limits, limits_file)
    sound = kept.each(_named, [one for path, one in pools.items() if one.value is not None and path != LIMITS_FILE])
    written = [one.written for one in sound]
    named = kept(_union, *(one.recipes for one in sound), of="recipes")
    found = [*_odd(files, kept), *shelf.diagnostics, *chain.from_iterable(one.diagnostics for one in pools.values())]
    found += _across(sound, shelf, kept)
    if LIMITS_FILE not in files.entries or (limits_file is not None and limits_file.value is not None):
        found += chain.from_iterable(kept.each(rules.of_pool, written, limits))
        if shelf.checking:
            found += chain.from_iterable(kept.each(unchecked, written, limits, shelf.checking))
    whole = all(one.value is not None for one in pools.values())
    found += _limits_findings(limits_file, written, whole=whole)
    if whole and shelf.readable:
        found += kept(_unused, named, shelf)
    diagnostics = tuple(sorted(set(found), key=lambda one: (one.path, one.line, one.column, one.code, one.message)))
    agents = sum(len(one.agents) for one in written)
    if not build or any(one.severity is Severity.ERROR for one in diagnostics):
        return Loaded(fleet=None, diagnostics=diagnostics, agents=agents)
    built = kept.each(pool_of, written, limits, cache.agents)
    fleet = Fleet(
        revision=files.revision,
        pools=tuple(sorted(built, key=lambda pool: pool.name)),
        limits=limits,
        recipes=kept(_made, named, shelf),
    )
    return Loaded(fleet=fleet, diagnostics=diagnostics, agents=agents)


def _written(parsed: ParsedFile) -> Written:
    return Written(parsed.source, parsed.value)


def _named(parsed: ParsedFile) -> Named:
    written = _written(parsed)
    return Named(written=written, agents=rules.names_of(written), recipes=rules.recipes_of(written))


def _limits(parsed: ParsedFile | None) -> Limits:
    return limits_of((parsed.value if parsed is not None else None) or {})


def _union(*parts: frozenset[str]) -> frozenset[str]:
    return frozenset().union(*parts)


def _odd(files: RepoFiles, kept: Kept) -> Iterator[Diagnostic]:
    """What git itself says of the files, before any is read."""
    if not files.entries:
        yield of_file("pools", "TS308", "There is neither pools/ nor recipes/ here.", "Point at a fleet repo.")
    for name, entries in (files.folders or {"": files.entries}).items():
        yield from kept(_misplaced, entries, of=name)


def _across(pools: Sequence[Named], shelf: Shelf, kept: Kept) -> Iterator[Diagnostic]:
    """What pools say together."""
    written = [one.written for one in pools]
    if sum(len(one.agents) for one in written) > len(kept(_union, *(one.agents for one in pools), of="names")):
        yield from rules.agent_names(written)
    yield from rules.pool_names(written)
    yield from rules.queues(written)
    if any(kept.each(rules.lacks, written, shelf.entries)):
        yield from rules.recipe_paths(written, shelf.entries)


def _limits_findings(parsed: ParsedFile | None, written: Sequence[Written], *, whole: bool) -> Iterator[Diagnostic]:
    if parsed is not None and parsed.value is not None:
        file = _written(parsed)
        yield from alert_rules(file, [pool.queue for pool in written] if whole else None)
        yield from webhooks(file)


def _unused(named: frozenset[str], shelf: Shelf) -> tuple[Diagnostic, ...]:
    return tuple(rules.unused(named, shelf.calling, shelf.parsed))


def _made(named: frozenset[str], shelf: Shelf) -> Mapping[str, Recipe]:
    return {path: shelf.recipe(path) for path in sorted(named)}


def _usable(file: RepoFile) -> bool:
    return file.kind is FileKind.FILE and file.size <= LARGEST


def _misplaced(entries: Mapping[str, RepoFile]) -> tuple[Diagnostic, ...]:
    return (*_unfit(entries), *rules.letter_case(entries))


def _unfit(entries: Mapping[str, RepoFile]) -> Iterator[Diagnostic]:
    for path, file in entries.items():
        top, _, rest = path.partition("/")
        if file.kind is not FileKind.FILE:
            mend = "Replace it with the file itself."
            yield of_file(path, "TS307", f"This is a {file.kind}, where a plain file is expected.", mend)
        elif file.size > LARGEST:
            yield of_file(path, "TS105", f"The file has {file.size} bytes.", f"Keep a file under {LARGEST} bytes.")
        if top == "pools" and path not in BESIDE and ("/" in rest or not path.endswith(".yaml")):
            mend = "Rename it to .yaml." if path.endswith(".yml") else "Move it out: pools/ is flat, *.yaml alone."
            yield of_file(path, "TS306", "This does not belong in pools/.", mend)


def pool_files(files: RepoFiles, cache: FleetCache) -> dict[str, ParsedFile]:
    """The files of pools/ by path, each parsed once."""
    before, cache.pools = cache.pools, {}
    for path, file in files.below("pools").items():
        if path.endswith(".yaml") and path.count("/") == 1 and _usable(file):
            key = (path, file.blob)
            cache.pools[key] = before.get(key) or parse_pool_file(path, files.read(file))
    found = {path: parsed for (path, _), parsed in cache.pools.items()}
    for path in cache.agents.keys() - found:
        del cache.agents[path]
    return found


def _shelf(files: RepoFiles, cache: FleetCache, *, build: bool) -> Shelf:
    """The recipes of a revision: those of the last one where their folder is the same."""
    entries, last = files.below("recipes"), cache.shelf
    if last is not None and last.entries is entries:
        return last
    before, cache.recipes = cache.recipes, {}
    for path, file in entries.items():
        if path.endswith((".yaml", ".json")) and _usable(file):
            key = (path, file.blob)
            parsed = before.get(key) or parse_recipe(path, files.read(file))
            cache.recipes[key] = parsed if build else parsed.findings()
    shelf = Shelf(
        entries=entries, parsed={path: parsed for (path, _), parsed in cache.recipes.items()},
        made={} if last is None else {path: one for path, one in last.made.items() if path in entries},
    )  # fmt: skip
    cache.shelf = shelf if build else None
    return shelf
