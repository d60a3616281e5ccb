"""Templates of recipes, minijinja's as goose reads them: what their syntax alone does not show."""

import re
from collections.abc import Mapping
from functools import cache, lru_cache

import minijinja

_BLOCK = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_FILTER = re.compile(r"\|\s*([A-Za-z_]\w*)")
_OTHER = re.compile(r"\{%-?\s*(include|import|extends|from)\b")


@cache
def environment() -> minijinja.Environment:
    """What reads templates. It keeps nothing of them."""
    return minijinja.Environment()


def beyond_syntax(text: str) -> str:
    """What is wrong with a template that its syntax alone does not show, "" for nothing."""
    if (other := _OTHER.search(text)) is not None:
        return f"{other[1]} needs another template, and a run has none"
    for block in _BLOCK.findall(text) if "|" in text else ():
        for name in _FILTER.findall(_QUOTED.sub("''", block)):
            if not _filter_known(name):
                return f"the filter {name} is not known"
    return ""


@lru_cache(maxsize=1000)
def _filter_known(name: str) -> bool:
    try:
        environment().render_str(f"{{{{ ''|{name} }}}}")
    except minijinja.TemplateError as error:
        return error.kind != "UnknownFilter"
    return True


def places(text: str) -> Mapping[str, tuple[int, int]]:
    """Line and column of the first template in which each word of a file's templates stands."""
    found: dict[str, tuple[int, int]] = {}
    line, begun = 1, 0
    for block in _BLOCK.finditer(text):
        line += text.count("\n", begun, block.start())
        begun = block.start()
        for word in _WORD.findall(block[0]):
            found.setdefault(word, (line, begun - text.rfind("\n", 0, begun)))
    return found
