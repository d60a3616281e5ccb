"""The recipes of a revision: what is wrong with them, and what an agent that names one runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import is_

from tsched.model.diagnostic import Diagnostic
from tsched.model.files import RepoFile
from tsched.model.fleet import Recipe, RecipeFile
from tsched.validate import rules
from tsched.validate.recipe import ParsedRecipe


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """The recipes of a revision. `made`: what came of them by path, with what it was made from."""

    entries: Mapping[str, RepoFile]
    parsed: Mapping[str, ParsedRecipe]
    made: dict[str, tuple[tuple[ParsedRecipe, ...], Recipe]]

    @cached_property
    def calling(self) -> Sequence[str]:
        """Those with sub-recipes."""
        return [path for path, one in self.parsed.items() if one.sub_recipes]

    @cached_property
    def checking(self) -> frozenset[str]:
        """Those with checks."""
        return frozenset(path for path, one in self.parsed.items() if one.checks)

    @cached_property
    def readable(self) -> bool:
        return all(one.readable for one in self.parsed.values())

    @cached_property
    def diagnostics(self) -> Sequence[Diagnostic]:
        """All that is wrong with recipes, by themselves and together."""
        alone = chain.from_iterable(one.diagnostics for one in self.parsed.values())
        between = (*rules.sub_recipes(self.parsed, self.entries), *rules.reach(self.parsed))
        return [*alone, *between, *rules.recipe_files(self.entries)]

    def recipe(self, path: str) -> Recipe:
        """What an agent runs; the same object for as long as all of it is."""
        reached = rules.reached(path, recipes=self.parsed)
        sources = tuple(self.parsed[one] for one in reached)
        known = self.made.get(path)
        if known is None or len(known[0]) != len(sources) or not all(map(is_, known[0], sources)):
            known = self.made[path] = (sources, recipe_of(path, self.parsed, self.entries))
        return known[1]


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
