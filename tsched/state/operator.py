"""The folder that the operations guide's commands stand in: made once, and kept as a view of the applied fleet."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tsched.failpoint import failpoint
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Fleet
from tsched.model.records import dataclass
from tsched.state.folder import StateFolder, write_durably
from tsched.validate.shipped import shipped

ENV_FILE: Final = "tinyscheduler.env"
# What the shipped units say, and `Operator` says otherwise.
_FOLDER, _HOME, _PATH = "/srv/tinyscheduler", "/home/tinyscheduler", "/usr/local/bin:/usr/bin:/bin"
_USERS = ("User=tinyscheduler", "* * * * * tinyscheduler ")
_PLAIN = re.compile(r"/[A-Za-z0-9_@+=:,./~-]*")  # what systemd, cron and sh all read as it stands
_LIMITS = re.compile(r"^TINYSCHEDULER_AGENT_LIMITS='\{[^']*\}'", re.MULTILINE)
LAUNCHER = """\
#!/bin/sh
# The runner of this folder, wherever you stand: its settings are in tinyscheduler.env beside this file.
here=$(dirname "$(readlink -f "$0")")
TSCHED_BASE_PATH="$here" exec '{program}' "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who runs it, and from where. `program`: the installed `tinyscheduler`; `path`: the PATH that agents get."""

    folder: Path
    program: Path
    user: str
    home: Path
    path: str


def make(operator: Operator, settings: Mapping[str, str]) -> Sequence[str]:
    """Make the folder; what else it holds stays. `settings`: lines of its env file. Returns the paths written.

    Raises ConfigurationError where a file of it is there already, or a path is none that units can hold.
    """
    for place in (operator.folder, operator.program, operator.home):
        if not _PLAIN.fullmatch(str(place)):
            raise ConfigurationError(
                f"{place}: systemd and cron need a path of plain letters, digits and _@+=:,./~- : name another folder"
            )
    files = {"tinyscheduler": LAUNCHER.format(program=operator.program), ENV_FILE: _env_file(settings)}
    files |= _units(operator)
    used = [path for path in (*files, "tsched") if os.path.lexists(operator.folder / path)]
    if used:
        raise ConfigurationError(f"{operator.folder} holds {', '.join(used[:3])} already: name another, or move them")
    for path, text in files.items():
        target = operator.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    (operator.folder / "tinyscheduler").chmod(0o755)
    (operator.folder / ENV_FILE).chmod(0o600)  # an address may hold a token
    (operator.folder / "tsched").symlink_to("tinyscheduler")
    (operator.folder / "recipes").mkdir(exist_ok=True)
    return [*files, "tsched"]


def _env_file(settings: Mapping[str, str]) -> str:
    """The env file, with no agent yet. It holds no words: the guide greps it for agents' names."""
    lines = [f"{name}={value}" for name, value in settings.items()]
    return "\n".join([*lines, limits_line({})]) + "\n"


def limits_line(limits: Mapping[str, int]) -> str:
    """The agents' limits as a setting, an agent a line: the guide reads them by `grep "$agent" | cut -d: -f2`."""
    return f"TINYSCHEDULER_AGENT_LIMITS='{json.dumps(limits, indent=2)}'"


def _units(operator: Operator) -> dict[str, str]:
    """The shipped units and the cron table, filled in."""
    path = ":".join(dict.fromkeys(part for part in operator.path.split(":") if _PLAIN.fullmatch(part))) or _PATH
    top = shipped("deploy")
    found = {}
    for place in sorted(top.rglob("*")):
        if place.is_file():
            text = place.read_text(encoding="utf-8")
            for old in _USERS:
                text = text.replace(old, old.replace("tinyscheduler", operator.user))
            for old, new in ((_PATH, path), (_HOME, str(operator.home)), (_FOLDER, str(operator.folder))):
                text = text.replace(old, new)
            found[f"deploy/{place.relative_to(top).as_posix()}"] = text.replace("DIR/", f"{operator.folder}/")
    return found


def keep_limits(folder: Path, fleet: Fleet) -> bool:
    """Write the applied limits into the env file where it shows others; whether it did.

    An env file without the setting, as an operator may want it, is left alone.
    """
    path = (folder / ENV_FILE).resolve()
    try:
        before = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    line = limits_line({agent.name: agent.limit for _, agent in fleet.agents()})
    after = _LIMITS.sub(lambda _: line, before, count=1)
    if after == before:
        return False
    write_durably(path, after, mode=path.stat().st_mode & 0o777)
    return True


def keep_recipes(folder: Path, state: StateFolder, fleet: Fleet) -> Sequence[str]:
    """The applied recipes as files in the state folder, and `recipes/<agent>.yaml` as links to them.

    Returns what an operator should know: links that stand for JSON, and files of their own in a link's place.
    """
    _write_texts(state, fleet)
    links = folder / "recipes"
    links.mkdir(exist_ok=True)
    shown = os.path.relpath(state.applied_recipes.resolve(), links.resolve())
    wanted = {f"{agent.name}.yaml": f"{shown}/{agent.recipe.removeprefix('recipes/')}" for _, agent in fleet.agents()}
    for old in links.iterdir():
        if old.is_symlink() and old.name not in wanted and os.readlink(old).startswith(f"{shown}/"):
            failpoint("link to be removed")
            old.unlink()
    said = []
    for name, target in wanted.items():
        if not _link(links / name, target):
            said.append(f"recipes/{name} is a file of its own: it does not show what is applied")
        elif target.endswith(".json"):
            said.append(f"recipes/{name} is a link to a recipe in JSON: {target.removeprefix(f'{shown}/')}")
    return said


def _link(path: Path, target: str) -> bool:
    """Make it a link to the target, in one step. False where something else than a link stands there."""
    if path.is_symlink():
        if os.readlink(path) == target:
            return True
    elif path.exists():
        return False
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    failpoint("made beside")
    temporary.rename(path)
    failpoint("in place")
    return True


def _write_texts(state: StateFolder, fleet: Fleet) -> None:
    """Each applied recipe's files, read-only, by their path below recipes/; those of earlier revisions go."""
    top = state.applied_recipes
    mark = top / ".revision"
    try:
        if mark.read_text(encoding="ascii", errors="replace") == fleet.revision:
            return
    except FileNotFoundError:
        pass
    texts = {file.path.removeprefix("recipes/"): file.text for one in fleet.recipes.values() for file in one.files}
    for path, text in texts.items():
        target = top / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not target.is_file() or target.read_text(encoding="utf-8", errors="replace") != text:
            write_durably(target, text, mode=0o400)
    for old in [path for path in top.rglob("*") if path.is_file() and path.relative_to(top).as_posix() not in texts]:
        failpoint("text to be removed")
        old.unlink()
    write_durably(mark, fleet.revision)
