"""A TinyScheduler installation → a fleet's files, and a remark for all that could not come along as it was. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tsched.gitops.template import host_example
from tsched.model.diagnostic import Severity
from tsched.model.errors import ConfigurationError
from tsched.validate.control import DEFAULT_LIMITS, load_once, parse_control, short

LEGACY = "legacy"
# What the fleet says: TinyScheduler's variable (seconds) → key of limits.yaml.
FIGURES = {
    "TINYSCHEDULER_LOOP_INTERVAL_SEC": "loop_interval",
    "TINYSCHEDULER_HEARTBEAT_SEC": "heartbeat",
    "TINYSCHEDULER_MAX_RUNTIME_SEC": "max_runtime",
}
LIMITS = "TINYSCHEDULER_AGENT_LIMITS"
RECIPE_ENDS = (".yaml", ".json", ".yml")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_WORD = re.compile(r"[a-z][a-z0-9_-]*")
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
# What YAML takes as an escape alone.
_UNPRINTED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_PROBLEMS = frozenset({"TS202", "TS301"})  # findings about the control file that leave a person something to mend
_SERVES = {"agent": "tasks assigned to the old name", "queue": "the queue on the task server"}


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
    """An import under way."""

    files: dict[str, bytes] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)

    def say(self, level: str, text: str) -> None:
        self.remarks.append(Remark(level=level, text=text))


def convert(control: str | None, env: Mapping[str, str], recipes: Mapping[str, bytes]) -> Imported:
    """Turn a control file (None: legacy mode), an env file's variables and a folder of recipes into a fleet.

    As TinyScheduler reads them: of an agent that stands twice the last entry counts, one without a limit has 0, and
    where no limits are set at all, `dispatcher` has 1. An agent with a limit alone gets tasks in legacy mode, so it
    serves the pool `legacy` there; beside a control file it gets none, so its pool is suspended.
    Raises ConfigurationError where the control file or the limits can't be read at all.
    """
    work = _Work()
    agents = {} if control is None else _agents(control, work)
    limits = _limits(env.get(LIMITS, "").strip(), work)
    if limits is None:
        limits = {name: slots for name, slots in DEFAULT_LIMITS.items() if control is None or name in agents}
        if limits:
            work.say("mapped", f"{LIMITS} is not set, which TinyScheduler reads as dispatcher: 1")
    renamed = _renamed([*agents, *limits], "agent", work)
    queues = _renamed([*agents.values()], "queue", work)
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
    work.files["pools/limits.yaml"] = _figures(work, env)
    hosts = {name: value for name, value in env.items() if name not in FIGURES and name != LIMITS}
    work.files["tsched.env.example"] = "".join(f"{line}\n" for line in host_example(hosts, work.say)).encode()
    return Imported(files=work.files, remarks=tuple(work.remarks))


def _agents(text: str, work: _Work) -> dict[str, str]:
    """Agents with their queues, in the control file's order. Raises ConfigurationError where it is no list."""
    control = parse_control(text, "the control file")
    for one in control.found:
        if one.severity is Severity.ERROR and one.code != "TS202":  # an entry that lacks something is left out alone
            raise ConfigurationError(str(one))
        work.say("problem" if one.code in _PROBLEMS else "dropped", f"{one.path}: {one.message} {one.mend}")
    return dict(control.agents)


def _json(text: str, work: _Work) -> object:
    def twice(key: str, value: object) -> None:
        work.say("dropped", f"{LIMITS}: {key} stands twice, the last counts, not {short(value)}")

    try:
        return load_once(text, twice)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"{LIMITS} is no JSON: {error.lineno}:{error.colno}: {error.msg}. Mend it there"
        ) from None
    except (RecursionError, ValueError):
        raise ConfigurationError(
            f"{LIMITS} is nested too deep, or holds a number of thousands of digits: mend it"
        ) from None


def _limits(text: str, work: _Work) -> dict[str, int] | None:
    """TINYSCHEDULER_AGENT_LIMITS: a JSON object, or `a:1,b:2`. None where it says nothing."""
    if not text:
        return None
    pairs = _json(text, work) if text[0] in '{["' else _pairs(text, work)
    if not isinstance(pairs, dict):
        raise ConfigurationError(f"{LIMITS} is no JSON object: write {{agent: slots, ...}}")
    found: dict[str, int] = {}
    for name, given in pairs.items():
        slots = int(str(given)) if re.fullmatch(r"[0-9]{1,9}", str(given)) else -1
        if not name:
            work.say("problem", f"{LIMITS} names no agent for {short(given)}")
            continue
        if not 0 <= slots <= 10_000:
            why = f"its limit {short(given)} is no number of slots from 0 to 10000; it is written as 0"
            work.say("problem", f"agent {name}: {why}")
            slots = 0
        found[name] = slots
    return found


def _pairs(text: str, work: _Work) -> dict[str, object]:
    found: dict[str, object] = {}
    for part in filter(str.strip, text.split(",")):
        name, colon, slots = (piece.strip() for piece in part.partition(":"))
        if not colon:
            raise ConfigurationError(f"{LIMITS}: {part.strip()!r} is no limit: write agent:slots, or JSON")
        if name in found:
            work.say("dropped", f"{LIMITS}: {name} stands twice, the last counts, not {found[name]}")
        found[name] = slots
    return found


def _renamed(names: Sequence[str], noun: str, work: _Work) -> Mapping[str, str]:
    """Names that a fleet may have. Raises ConfigurationError where two become one."""
    became: dict[str, str] = {}
    for name in dict.fromkeys(names):
        legal = name
        if not _NAME.fullmatch(name) or name == "parked":
            legal = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:63] or noun
            legal = f"{legal}-{noun}" if legal == "parked" else legal
            rule = "names are small letters, digits, _ and -"
            work.say("renamed", f"{noun} {name!r} is now {legal}: {rule}. Rename {_SERVES[noun]} too")
        if legal in became.values():
            other = next(one for one, its in became.items() if its == legal)
            raise ConfigurationError(f"{noun}s {other!r} and {name!r} would both be named {legal}: rename one first")
        became[name] = legal
    return became


def _recipes(recipes: Mapping[str, bytes], work: _Work) -> None:
    for path, data in sorted(recipes.items()):
        if not path.endswith(RECIPE_ENDS):
            work.say("dropped", f"{path} is no recipe: it stays where it is")
            continue
        target = path
        if path.endswith(".yml"):
            target = path.removesuffix(".yml") + ".yaml"
            if any(other == target or other.startswith(f"{target}/") for other in recipes):
                work.say("problem", f"recipe {path} is left out: {target} is there too")
                continue
            work.say("renamed", f"recipe {path} is now {target}: goose refuses .yml")
        work.files[f"recipes/{target}"] = data


def _pool(work: _Work, queue: str, agents: Sequence[tuple[str, str, int]], *, suspend: str = "") -> None:
    lines = [
        "# yaml-language-server: $schema=../schemas/pool.schema.json",
        "apiVersion: tsched/v1", "kind: Pool", f"name: {_word(queue)}",
    ]  # fmt: skip
    if suspend:
        lines.append(f"suspend: {{reason: {_quoted(suspend)}}}")
    lines.append("agents:")
    for old, name, slots in agents:
        lines += [f"  - name: {_word(name)}", f"    limit: {slots}"]
        lines += [f"    recipe: {_quoted(f'{old}.yaml')}"] * (name != old)
        if f"recipes/{old}.yaml" not in work.files:
            work.say("problem", f"agent {old} has no recipe {old}.yaml: add recipes/{old}.yaml, or name another")
    file = queue
    while file == "limits" or f"pools/{file}.yaml" in work.files:  # pools/limits.yaml is the fleet's figures
        file += "-pool"
    work.files[f"pools/{file}.yaml"] = "".join(f"{line}\n" for line in lines).encode()


def _strangers(work: _Work, agents: Sequence[tuple[str, str, int]], queues: Mapping[str, str], legacy: bool) -> None:
    """Agents that have a limit alone: in legacy mode they are served, else TinyScheduler passes them over."""
    name = LEGACY
    while name in queues.values():
        name += "-agents"
    names = ", ".join(old for old, _, _ in agents)
    if legacy:
        work.say("mapped", f"without a control file there are no queues: {names} serve the queue {name}")
        _pool(work, name, agents)
    else:
        work.say("mapped", f"{names} had a limit but no queue, so no work: they are in the suspended pool {name}")
        _pool(work, name, agents, suspend="had a limit in TinyScheduler, but no entry in its control file")


def _word(text: str) -> str:
    """A name as YAML, in quotes where some reader would take it for something else."""
    return text if _WORD.fullmatch(text) and text not in _RESERVED else _quoted(text)


def _quoted(text: str) -> str:
    """Any text as YAML, in double quotes."""
    return _UNPRINTED.sub(lambda one: f"\\u{ord(one[0]):04x}", json.dumps(text, ensure_ascii=False))


def _figures(work: _Work, env: Mapping[str, str]) -> bytes:
    """limits.yaml."""
    lines = ["# yaml-language-server: $schema=../schemas/limits.schema.json", "apiVersion: tsched/v1", "kind: Limits"]
    for variable, key in FIGURES.items():
        given = env.get(variable, "").strip()
        if re.fullmatch(r"0*[1-9][0-9]{0,8}", given):
            lines.append(f"{key}: {int(given)}s")
            work.say("mapped", f"{variable} is {key} in pools/limits.yaml")
        elif given:
            work.say("problem", f"{variable} is {given!r}, which is no number of seconds: the default is kept")
    return "".join(f"{line}\n" for line in lines).encode()
