"""A TinyScheduler installation → a fleet's files, and a remark for all that could not come along as it was. Pure."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tsched.model.errors import ConfigurationError

LEGACY = "legacy"
# What the fleet says: TinyScheduler's variable (seconds) → key of limits.yaml.
FIGURES = {
    "TINYSCHEDULER_LOOP_INTERVAL_SEC": "loop_interval",
    "TINYSCHEDULER_HEARTBEAT_SEC": "heartbeat",
    "TINYSCHEDULER_MAX_RUNTIME_SEC": "max_runtime",
}
LIMITS = "TINYSCHEDULER_AGENT_LIMITS"
ENDPOINT = "TINYSCHEDULER_MCP_ENDPOINT"
# Folders and files of the installation that a runner of a fleet repo keeps elsewhere.
REPLACED = {
    "TINYSCHEDULER_AGENT_CONTROL_FILE": "the pools take its place",
    "TINYSCHEDULER_RECIPES_DIR": "recipes/ takes its place",
    "TINYSCHEDULER_BIN_DIR": "no wrapper script is needed",
    "TINYSCHEDULER_TASK_CACHE_DIR": "it was never used",
    "TINYSCHEDULER_LOCK_FILE": "the lock is in the state folder",
    "TINYSCHEDULER_ENABLED": "start the runner, or don't",
}
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_WORD = re.compile(r"[a-z][a-z0-9_-]*")
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """What happened to a part of the installation. `level`: mapped, renamed, dropped or problem."""

    level: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """Files by path in the new repository, and what is to be said of them."""

    files: Mapping[str, bytes]
    remarks: tuple[Remark, ...] = ()


@dataclass(slots=True)
class _Work:
    """An import under way. `names`: what each old name became."""

    files: dict[str, bytes] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)

    def say(self, level: str, text: str) -> None:
        self.remarks.append(Remark(level=level, text=text))


def convert(control: str | None, env: Mapping[str, str], recipes: Mapping[str, bytes]) -> Imported:
    """Turn a control file (None: legacy mode), an env file's variables and a folder of recipes into a fleet.

    As TinyScheduler reads them: of an agent that stands twice the last entry counts, and one without a limit has 0.
    Raises ConfigurationError where the control file or the limits can't be read at all.
    """
    work = _Work()
    entries = _entries(control, work) if control is not None else []
    limits = _limits(env.get(LIMITS, "").strip(), work)
    agents = dict(entries)
    renamed = _renamed([*agents, *limits], "agent", work)
    queues = _renamed(list(dict.fromkeys(agents.values())), "queue", work)
    _recipes(recipes, work)
    for queue in dict.fromkeys(agents.values()):
        members = [agent for agent, its in agents.items() if its == queue]
        for agent in members:
            if agent not in limits:
                work.say("mapped", f"agent {agent} has no limit, which TinyScheduler reads as 0")
        _pool(work, queues[queue], [(agent, renamed[agent], limits.get(agent, 0)) for agent in members])
    strangers = [agent for agent in limits if agent not in agents]
    if strangers:
        _strangers(work, [(agent, renamed[agent], limits[agent]) for agent in strangers], queues, control is None)
    _settings(work, env)
    return Imported(files=work.files, remarks=tuple(work.remarks))


def _entries(text: str, work: _Work) -> Sequence[tuple[str, str]]:
    """Agents with their queues, in the file's order."""
    try:
        listed = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"the control file is no JSON: {error.lineno}:{error.colno}: {error.msg}. Mend it there"
        ) from None
    if not isinstance(listed, list):
        raise ConfigurationError("the control file is no list of agents: write [{agentName, agentType}, ...]")
    found: dict[str, str] = {}
    for number, entry in enumerate(listed, 1):
        name, queue = (entry.get(key) for key in ("agentName", "agentType")) if isinstance(entry, dict) else ("", "")
        if not (isinstance(name, str) and name and isinstance(queue, str) and queue):
            work.say(
                "problem", f"entry {number} of the control file lacks agentName or agentType: {json.dumps(entry)}"
            )
            continue
        for key in sorted(set(entry) - {"agentName", "agentType"}):
            work.say("dropped", f"agent {name}: TinyScheduler never used {key}: {json.dumps(entry[key])}")
        if name in found:
            work.say(
                "dropped", f"agent {name} stands twice: the last entry, queue {queue}, counts (not {found[name]})"
            )
        found[name] = queue
    return list(found.items())


def _limits(text: str, work: _Work) -> dict[str, int]:
    """TINYSCHEDULER_AGENT_LIMITS: a JSON object, or `a:1,b:2`."""
    if not text:
        return {}
    pairs: Mapping[str, object]
    if text.startswith("{"):
        try:
            pairs = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"{LIMITS} is no JSON: {error.lineno}:{error.colno}: {error.msg}") from None
    else:
        split = [part.partition(":") for part in text.split(",") if part.strip()]
        pairs = {name.strip(): slots.strip() for name, _, slots in split}
    found = {}
    for name, given in pairs.items():
        whole = isinstance(given, int) and not isinstance(given, bool)
        written = isinstance(given, str) and re.fullmatch(r"[0-9]+", given)
        slots = int(str(given)) if whole or written else -1
        if not 0 <= slots <= 10_000:
            work.say(
                "problem", f"agent {name}: its limit {json.dumps(given)} is no number of slots; it is written as 0"
            )
            slots = 0
        found[name] = slots
    return found


def _renamed(names: Sequence[str], noun: str, work: _Work) -> Mapping[str, str]:
    """Names that a fleet may have. Raises ConfigurationError where two become one."""
    became: dict[str, str] = {}
    for name in dict.fromkeys(names):
        legal = name
        if not _NAME.fullmatch(name) or name == "parked":
            legal = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:63] or noun
            legal = f"{legal}-{noun}"[:63] if legal == "parked" else legal
            work.say("renamed", f"{noun} {name!r} is now {legal}: names are small letters, digits, _ and -")
        if legal in became.values():
            other = next(one for one, its in became.items() if its == legal)
            raise ConfigurationError(f"{noun}s {other!r} and {name!r} would both be named {legal}: rename one first")
        became[name] = legal
    return became


def _recipes(recipes: Mapping[str, bytes], work: _Work) -> None:
    for path, data in sorted(recipes.items()):
        target = path
        if path.endswith(".yml"):
            target = path.removesuffix(".yml") + ".yaml"
            if target in recipes:
                work.say("problem", f"recipe {path} is left out: {target} is there too")
                continue
            work.say("renamed", f"recipe {path} is now {target}: goose refuses .yml")
        if not target.endswith((".yaml", ".json")):
            work.say("dropped", f"{path} is no recipe: it stays where it is")
            continue
        work.files[f"recipes/{target}"] = data


def _pool(work: _Work, queue: str, agents: Sequence[tuple[str, str, int]], *, suspend: str = "") -> None:
    lines = [
        "# yaml-language-server: $schema=../schemas/pool.schema.json",
        "apiVersion: tsched/v1", "kind: Pool", f"name: {_word(queue)}",
    ]  # fmt: skip
    if suspend:
        lines.append(f"suspend: {{reason: {json.dumps(suspend)}}}")
    lines.append("agents:")
    for old, name, slots in agents:
        lines += [f"  - name: {_word(name)}", f"    limit: {slots}"]
        if name != old:
            recipe = PurePosixPath(f"{old}.yaml")
            lines.append(f"    recipe: {json.dumps(str(recipe))}")
        if f"recipes/{old}.yaml" not in work.files:
            work.say("problem", f"agent {old} has no recipe {old}.yaml: add recipes/{old}.yaml, or name another")
    work.files[f"pools/{queue}.yaml"] = ("\n".join(lines) + "\n").encode()


def _strangers(work: _Work, agents: Sequence[tuple[str, str, int]], queues: Mapping[str, str], legacy: bool) -> None:
    """Agents that have a limit alone: in legacy mode they are served, else TinyScheduler passes them over."""
    name = LEGACY if LEGACY not in queues.values() else f"{LEGACY}-agents"
    names = ", ".join(old for old, _, _ in agents)
    if legacy:
        work.say("mapped", f"without a control file there are no queues: {names} serve the queue {name}")
        _pool(work, name, agents)
    else:
        work.say("mapped", f"{names} had a limit but no queue, so no work: they are in the suspended pool {name}")
        _pool(work, name, agents, suspend="had a limit in TinyScheduler, but no entry in its control file")


def _word(text: str) -> str:
    """A name as YAML, in quotes where some reader would take it for something else."""
    return text if _WORD.fullmatch(text) and text not in _RESERVED else json.dumps(text)


def _settings(work: _Work, env: Mapping[str, str]) -> None:
    """The figures into limits.yaml; what belongs to a host into an example of its env file."""
    lines = [
        "# yaml-language-server: $schema=../schemas/limits.schema.json", "apiVersion: tsched/v1", "kind: Limits",
    ]  # fmt: skip
    for variable, key in FIGURES.items():
        given = env.get(variable, "").strip()
        if re.fullmatch(r"[0-9]{1,9}", given):
            lines.append(f"{key}: {int(given)}s")
            work.say("mapped", f"{variable} is {key} in pools/limits.yaml")
        elif given:
            work.say("problem", f"{variable} is {given!r}, which is no number of seconds: the default is kept")
    work.files["pools/limits.yaml"] = ("\n".join(lines) + "\n").encode()
    host = "\n".join(["# Settings of a runner's host. They are not part of the fleet.", *_host(work, env)])
    work.files["tsched.env.example"] = (host + "\n").encode()


def _host(work: _Work, env: Mapping[str, str]) -> Iterator[str]:
    yield "TSCHED_REPO="
    passed = []
    for name, value in sorted(env.items()):
        if name in FIGURES or name == LIMITS:
            continue
        if name in REPLACED:
            work.say("dropped", f"{name}: {REPLACED[name]}")
        elif name == ENDPOINT:
            work.say("mapped", f"{name} is TSCHED_TASKS in tsched.env.example")
            yield f"TSCHED_TASKS={json.dumps('tinytask+' + value)}"
        elif name.startswith("TINYSCHEDULER_"):
            work.say("mapped", f"{name} keeps its name in tsched.env.example")
            yield f"{name}={json.dumps(value)}"
        else:
            passed.append(name)
    if passed:  # they may be secrets, so their values stay where they are
        work.say("mapped", f"{', '.join(passed)}: agents see them by TSCHED_PASS_ENV; their values stay on the host")
        yield f"TSCHED_PASS_ENV={','.join(passed)}"
        yield from (f"{name}=" for name in passed)
