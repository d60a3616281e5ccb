"""Checks a fleet's files on all cores: recipes are read by themselves, so they can be read side by side."""

import os
import pickle
from collections.abc import Callable, Mapping, Sequence

from tsched.model.files import FileKind, RepoFile, RepoFiles
from tsched.validate.fleet import FleetCache, Loaded, load_fleet
from tsched.validate.recipe import ParsedRecipe, parse_recipe
from tsched.validate.source import LARGEST

WORTH_IT = 300  # recipes: with fewer, a second process takes longer than it saves
SOUND = ParsedRecipe()
Read = Callable[[RepoFile], bytes]
Told = Mapping[int, ParsedRecipe]  # those with something to tell, by their number in a part


def check(files: RepoFiles, *, build: bool) -> Loaded:
    """`load_fleet`, with one process a core where there are many recipes and their content is not wanted."""
    cache = FleetCache()
    recipes = [file for path, file in files.entries.items() if path.startswith("recipes/") and _readable(file)]
    cores = len(os.sched_getaffinity(0))
    if not build and cores > 1 and len(recipes) >= WORTH_IT:
        parts = [recipes[start::cores] for start in range(cores)]
        for part, told in zip(parts, _all(parts, files.read), strict=True):
            cache.recipes |= {(file.path, file.blob): told.get(n, SOUND) for n, file in enumerate(part)}
    return load_fleet(files, cache, build=build)


def _readable(file: RepoFile) -> bool:
    return file.kind is FileKind.FILE and file.size <= LARGEST and file.path.endswith((".yaml", ".json"))


def _all(parts: Sequence[Sequence[RepoFile]], read: Read) -> Sequence[Told]:
    """What each part tells: the first is read here, each other one in a child of ours."""
    children = [_child(part, read) for part in parts[1:]]
    first = _tell(parts[0], read)
    return [first, *(_heard(*child, part, read) for child, part in zip(children, parts[1:], strict=True))]


def _tell(part: Sequence[RepoFile], read: Read) -> Told:
    parsed = ((number, parse_recipe(file.path, read(file)).findings()) for number, file in enumerate(part))
    return {number: one for number, one in parsed if one != SOUND}


def _child(part: Sequence[RepoFile], read: Read) -> tuple[int, int]:
    """A fork that reads a part: its pid, and where it will tell. We are one thread, so a plain fork is enough."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid:
        os.close(theirs)
        return pid, ours
    code = 1
    try:
        os.close(ours)
        with os.fdopen(theirs, "wb") as out:
            pickle.dump(_tell(part, read), out)
        code = 0
    finally:
        os._exit(code)


def _heard(pid: int, pipe: int, part: Sequence[RepoFile], read: Read) -> Told:
    """What a child told; where it could not, its part is read here, and says what is wrong."""
    with os.fdopen(pipe, "rb") as answer:
        data = answer.read()
    _, status = os.waitpid(pid, 0)
    if status != 0:
        return _tell(part, read)
    told: Told = pickle.loads(data)
    return told
