"""Checks a fleet's files on all cores: recipes are read by themselves, so they can be read side by side."""

import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from tsched.model.files import FileKind, RepoFile, RepoFiles
from tsched.validate.fleet import FleetCache, Loaded, load_fleet, pool_files
from tsched.validate.recipe import ParsedRecipe, parse_recipe
from tsched.validate.source import LARGEST

WORTH_IT = 300  # recipes: with fewer, a second process takes longer than it saves
SOUND = ParsedRecipe()
_WIDTH = 4  # bytes of a number on its way to whoever takes it
Read = Callable[[RepoFile], bytes]
Told = Mapping[int, ParsedRecipe]  # those with something to tell, by their number
Tell = Callable[[int], Told]  # what the few recipes from a number on tell


def check(files: RepoFiles, *, build: bool) -> Loaded:
    """`load_fleet`, with one process a core where there are many recipes and their content is not wanted."""
    cache = FleetCache()
    recipes = [file for path, file in files.entries.items() if path.startswith("recipes/") and _readable(file)]
    cores = len(os.sched_getaffinity(0))
    if not build and cores > 1 and len(recipes) >= WORTH_IT:
        told = _side_by_side(recipes, files.read, cores, meanwhile=lambda: pool_files(files, cache))
        cache.recipes |= {(file.path, file.blob): told.get(n, SOUND) for n, file in enumerate(recipes)}
    return load_fleet(files, cache, build=build)


def _readable(file: RepoFile) -> bool:
    return file.kind is FileKind.FILE and file.size <= LARGEST and file.path.endswith((".yaml", ".json"))


def _side_by_side(recipes: Sequence[RepoFile], read: Read, cores: int, meanwhile: Callable[[], object]) -> Told:
    """What recipes tell. Children take a few at a time, and so does this process after what it does `meanwhile`.

    So who is slow, or has other work, takes fewer.
    """
    few = max(20, len(recipes) // 500)
    starts = range(0, len(recipes), few)

    def tell(start: int) -> Told:
        numbers = range(start, min(start + few, len(recipes)))
        parsed = ((n, parse_recipe(recipes[n].path, read(recipes[n])).findings()) for n in numbers)
        return {n: one for n, one in parsed if one != SOUND}

    queue, feed = os.pipe()
    os.write(feed, b"".join(start.to_bytes(_WIDTH) for start in starts))  # five hundred of them: any pipe holds more
    os.close(feed)
    children = list(_children(queue, tell, cores - 1))
    meanwhile()
    told = _taken(queue, tell)
    os.close(queue)
    for child in children:
        told |= _heard(*child)
    told |= {start: tell(start) for start in starts if start not in told}  # what a child took that was killed
    return {n: one for part in told.values() for n, one in part.items()}


def _taken(queue: int, tell: Tell) -> dict[int, Told]:
    """What is told from the numbers that this process takes, until none is left."""
    taken = iter(lambda: os.read(queue, _WIDTH), b"")
    return {start: tell(start) for start in map(int.from_bytes, taken)}


def _children(queue: int, tell: Tell, most: int) -> Iterator[tuple[int, int]]:
    """So many, or as many as the machine lets us have: fewer take more each."""
    with suppress(OSError):
        for _ in range(most):
            yield _child(queue, tell)


def _child(queue: int, tell: Tell) -> tuple[int, int]:
    """A fork that takes its share: its pid, and where it will tell. We are one thread, so a plain fork is enough.

    Raises OSError where the machine is full.
    """
    ours, theirs = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(ours)
        os.close(theirs)
        raise
    if pid:
        os.close(theirs)
        return pid, ours
    code = 1
    try:
        os.close(ours)
        with os.fdopen(theirs, "wb") as out:
            pickle.dump(_taken(queue, tell), out)
        code = 0
    finally:
        os._exit(code)


def _heard(pid: int, pipe: int) -> Mapping[int, Told]:
    """What a child told; nothing where it was killed."""
    with os.fdopen(pipe, "rb") as answer:
        data = answer.read()
    _, status = os.waitpid(pid, 0)
    told: Mapping[int, Told] = pickle.loads(data) if status == 0 else {}
    return told
