"""The worst that a file can do to validation: no megabyte of anything takes over five seconds."""

import time
from collections.abc import Callable, Mapping

import pytest

from tests.bench.conftest import Figures
from tests.unit.test_validate import LIMITS, POOL, RECIPE, load
from tsched.model.units import count
from tsched.validate.report import render_text
from tsched.validate.source import LARGEST

SECONDS = 5.0  # the issue's own bar, for one file of the largest size
PLAIN = "title: T\ndescription: D\nprompt: P\n"


def filled(unit: Callable[[int], str], head: str = "") -> str:
    """A text of the largest size that is read."""
    parts, size, number = [head], len(head), 0
    while size + len(part := unit(number)) <= LARGEST:
        parts.append(part)
        size, number = size + len(part), number + 1
    return "".join(parts)


def pool(unit: Callable[[int], str]) -> Mapping[str, str]:
    return {"pools/dev.yaml": filled(unit, POOL + "agents:\n"), "recipes/a.yaml": RECIPE}


def recipe(unit: Callable[[int], str], head: str = PLAIN) -> Mapping[str, str]:
    return {"recipes/x.yaml": filled(unit, head)}


WORST: Mapping[str, Callable[[], Mapping[str, str]]] = {
    "unknown keys": lambda: {"pools/dev.yaml": filled(lambda n: f"k{n}: 1\n", POOL)},
    "misspelt keys": lambda: pool(lambda n: f"- {{nme: a{n}}}\n"),
    "wrong types": lambda: pool(lambda n: "- {name: 1}\n"),
    "no recipes": lambda: pool(lambda n: f"- name: a{n}\n"),
    "one name": lambda: pool(lambda n: "- name: a\n"),
    "no runtimes": lambda: pool(lambda n: f"- {{name: a{n}, runtime: gose, recipe: a.yaml}}\n"),
    "anchors": lambda: {"pools/dev.yaml": filled(lambda n: f"a{n}: &x{n} 1\n")},
    "runtimes": lambda: {"pools/limits.yaml": filled(lambda n: f"  r{n}: {{argv: []}}\n", LIMITS + "runtimes:\n")},
    "brackets": lambda: {"pools/dev.yaml": filled(lambda n: "[")},
    "nested quotes": lambda: {"pools/dev.yaml": filled(lambda n: '["],",')},
    "conflicts": lambda: {"pools/dev.yaml": filled(lambda n: "<<<<<<< x\n")},
    "tabs": lambda: {"pools/dev.yaml": filled(lambda n: "\t\n") + "\ta: b"},
    "stars": lambda: recipe(lambda n: "  * word\n", PLAIN + "instructions: |\n"),
    "templates": lambda: recipe(lambda n: f"  {{{{ x{n} }}}}\n", PLAIN + "instructions: |\n"),
    "comments": lambda: recipe(lambda n: f"# {{{{ x{n} }}}}\n"),
    "filters": lambda: recipe(lambda n: f"  {{{{ x|f{n} }}}}\n", PLAIN + "instructions: |\n"),
    "open braces": lambda: recipe(lambda n: "  {{ x | y \n", PLAIN + "instructions: |\n"),
    "comments' ends": lambda: recipe(lambda n: "#" * 100 + "token ghp_\n"),
    "one long line": lambda: {"recipes/x.yaml": PLAIN + "instructions: " + "a #token " * 110_000},
    "parameters": lambda: recipe(
        lambda n: f"- {{key: k{n}, input_type: string, requirement: required, description: d}}\n",
        PLAIN + "parameters:\n",
    ),
    "extensions": lambda: recipe(lambda n: f"- {{type: sse, name: k{n}}}\n", PLAIN + "extensions:\n"),
    "secrets": lambda: recipe(lambda n: f"- 'token: $ghp_{n}'\n", PLAIN + "activities:\n"),
    "sub-recipes": lambda: recipe(lambda n: f"- {{name: k{n}, path: p{n}.yaml}}\n", PLAIN + "sub_recipes:\n"),
    "a chain": lambda: {
        "pools/dev.yaml": POOL + "agents:\n" + "".join(f"- {{name: q{n}, recipe: r{n}.yaml}}\n" for n in range(3000)),
        **{f"recipes/r{n}.yaml": PLAIN + f"sub_recipes: [{{name: a, path: r{n + 1}.yaml}}]\n" for n in range(3000)},
    },
    "nothing near": lambda: {
        "pools/dev.yaml": POOL + "agents:\n" + "".join(f"- name: q{n}\n" for n in range(5000)),
        **{f"recipes/r{n}.yaml": PLAIN for n in range(5000)},
    },
}


@pytest.mark.parametrize("name", WORST)
def test_it_takes_no_longer_than_five_seconds(name: str, figure: Figures) -> None:
    files = WORST[name]()
    begun = time.perf_counter()
    found = load(files).diagnostics
    render_text(found, files)
    seconds = time.perf_counter() - begun
    assert figure(f"validating the worst: {name}", count(len(found), "finding"), seconds, most=SECONDS, unit="s")
