"""TinyScheduler's agent control file: text → agents with their queues, and all that is wrong with it. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tsched.model.diagnostic import Diagnostic, Severity

DEFAULT_LIMITS: Final[Mapping[str, int]] = {"dispatcher": 1}  # TinyScheduler's own, where none are set
_KEYS = ("agentName", "agentType")
_MOST_SHOWN = 200  # characters of a faulty value


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Agents with their queues, in the file's order; of an agent that stands twice the last entry counts.

    A `found` error means that TinyScheduler takes nothing of the file: then `agents` holds the sound entries alone.
    """

    name: str  # what findings call it
    agents: Mapping[str, str]
    found: tuple[Diagnostic, ...] = ()

    @property
    def fault(self) -> Diagnostic | None:
        """The first error, None where the file can be used."""
        return next((one for one in self.found if one.severity is Severity.ERROR), None)


@dataclass(slots=True)
class _Reading:
    name: str
    found: list[Diagnostic]

    def say(self, code: str, message: str, mend: str, *, line: int = 1, column: int = 1, fails: bool = False) -> None:
        severity = Severity.ERROR if fails else Severity.WARNING
        self.found.append(
            Diagnostic(
                path=self.name, line=line, column=column, code=code, message=message, mend=mend, severity=severity
            )
        )


def parse_control(text: str, name: str) -> Control:
    """Read a control file. Never raises for what is in it. `name`: what findings call it."""
    reading = _Reading(name, [])
    listed = _json(text, reading)
    agents: dict[str, str] = {}
    if isinstance(listed, list):
        for number, entry in enumerate(listed, 1):
            _entry(number, entry, agents, reading)
    elif not reading.found:
        reading.say("TS203", "It is no list of agents.", "Write [{agentName, agentType}, ...].", fails=True)
    return Control(name=name, agents=agents, found=tuple(reading.found))


def _json(text: str, reading: _Reading) -> object:
    def twice(key: str, value: object) -> None:
        reading.say("TS102", f"{key} stands twice, the last counts, not {short(value)}.", "Write it once.")

    try:
        return load_once(text, twice)
    except json.JSONDecodeError as error:
        what = f"It is no JSON: {error.msg}."
        reading.say("TS101", what, "Mend it there.", line=error.lineno, column=error.colno, fails=True)
    except (RecursionError, ValueError):
        what = "It is nested too deep, or holds a number of thousands of digits."
        reading.say("TS105", what, "Mend it.", fails=True)
    return None


def _entry(number: int, entry: object, agents: dict[str, str], reading: _Reading) -> None:
    agent, queue = (entry.get(key) for key in _KEYS) if isinstance(entry, dict) else ("", "")
    if not (isinstance(entry, dict) and isinstance(agent, str) and agent and isinstance(queue, str) and queue):
        what = f"Entry {number} lacks agentName or agentType: {short(entry)}."
        reading.say("TS202", what, "Give it both, as text.", fails=True)
        return
    for key in sorted(set(entry) - set(_KEYS)):
        what = f"Agent {agent} has the extra field {key}, which is not used: {short(entry[key])}."
        reading.say("TS201", what, "Take it out.")
    before = agents.get(agent, queue)
    if before != queue:
        what = f"Agent {agent} stands twice: the last entry, queue {queue}, counts (not {before})."
        reading.say("TS301", what, "An agent serves one queue: name another for it.")
    elif agent in agents:
        reading.say("TS102", f"Agent {agent} stands twice with the same queue.", "Once is enough.")
    agents[agent] = queue


def load_once(text: str, twice: Callable[[str, object], None]) -> object:
    """Parsed JSON. `twice` hears each key that stands twice in an object, with the value that is lost.

    Raises ValueError (JSONDecodeError with its place, where there is one) or RecursionError.
    """

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                twice(key, found[key])
            found[key] = value
        return found

    parsed: object = json.loads(text, object_pairs_hook=once)
    return parsed


def short(value: object) -> str:
    """A value as JSON, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
