"""The API's operations, one table: what is served, how it is asked and what it gives. openapi.py describes it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypedDict

from starlette.requests import Request

from tsched.model.units import parse_duration
from tsched.observe import objects
from tsched.observe.objects import AgentObject, AlertObject, ErrorObject, PassObject, QueueObject, RunObject
from tsched.observe.status import PoolStatus, Status
from tsched.observe.web.questions import Questions
from tsched.serving import RefusedError

PREFIX: Final = "/api/v1"
LARGEST: Final = 2**53 - 1  # every JSON reader has it
_DIGITS = re.compile(r"[0-9]{1,16}")
EventObject = dict[str, str | int | float | None]  # the keys of `tsched events --json`, and its number as `id`


class Ready(TypedDict):
    """Whether the runner's last pass is as young as it should be; if not, why."""

    ready: bool
    reason: str | None


class Alive(TypedDict):
    """That this server answers."""

    status: str
    version: str


class Wished(TypedDict):
    """What was taken on: a pass will run as soon as possible. `revision`: the one that was accepted."""

    accepted: bool
    revision: str | None


class Taken(TypedDict):
    """What became of a hook: started, ignored (why), known (it was here before) or pong."""

    result: str
    reason: str | None


class Refusal(TypedDict):
    """Why a request was not answered."""

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One thing that may be asked for. `most`: a whole number from `least` to this; else a text of this pattern."""

    name: str
    what: str
    pattern: str = ""
    least: int = 0
    most: int = 0
    default: str | int | None = None
    in_path: bool = False

    def fits(self, text: str) -> bool:
        """Whether a text is one of its pattern."""
        return re.fullmatch(self.pattern.strip("^$"), text) is not None

    def read(self, text: str) -> str | int:
        """The value of a text. Raises RefusedError, whose text is the mend."""
        if self.pattern:
            if not self.fits(text):
                raise RefusedError(f"{self.name} is {text[:80]!r}: {self.what}", 404 if self.in_path else 400)
            return text
        if not _DIGITS.fullmatch(text) or not self.least <= int(text) <= self.most:
            raise RefusedError(f"{self.name} must be a whole number from {self.least} to {self.most}", 400)
        return int(text)


SINCE = Parameter(
    name="since", what="how long ago to begin, such as 1h", pattern="^[0-9]{1,6}(ms|s|m|h|d)$", default="1h"
)
LIMIT = Parameter(name="limit", what="at most so many, the newest", least=1, most=1000, default=100)
RUN = Parameter(name="run_id", what="a run's id", pattern="^[A-Za-z0-9_-]{1,64}$", in_path=True)
REVISION = Parameter(
    name="revision", what="the held revision, or its beginning", pattern="^[0-9a-f]{4,64}$", in_path=True
)
AFTER = Parameter(name="after", what="only events after the one of this number", most=LARGEST)
LINES = Parameter(name="lines", what="at most so many lines, the last", least=1, most=10_000, default=500)


class Asked:
    """The values of a request's parameters."""

    def __init__(self, values: Mapping[str, str | int | None], now: float) -> None:
        self._values = values
        self._now = now

    def text(self, parameter: Parameter) -> str:
        return str(self._values[parameter.name])

    def number(self, parameter: Parameter) -> int:
        return int(str(self._values[parameter.name]))

    def maybe(self, parameter: Parameter) -> int | None:
        return None if self._values[parameter.name] is None else self.number(parameter)

    def since(self) -> float:
        """Seconds since the epoch, never before it."""
        return max(0.0, self._now - parse_duration(self.text(SINCE)))


def read(parameters: tuple[Parameter, ...], request: Request) -> Mapping[str, str | int | None]:
    """What is asked for; other names are passed over. Raises RefusedError."""
    values: dict[str, str | int | None] = {}
    for one in parameters:
        given = [str(request.path_params[one.name])] if one.in_path else request.query_params.getlist(one.name)
        if len(given) > 1:
            raise RefusedError(f"{one.name} is given {len(given)} times: give it once", 400)
        values[one.name] = one.read(given[0]) if given else one.default
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Something to read. `gives`: the type of its JSON, or str for plain text; `answer` raises RefusedError."""

    path: str
    what: str
    gives: object
    answer: Callable[[Questions, Asked], object]
    parameters: tuple[Parameter, ...] = ()

    @property
    def missing(self) -> bool:
        """Whether what is asked for may not be there."""
        return any(one.in_path for one in self.parameters)


def _run(ask: Questions, asked: Asked) -> RunObject:
    seen = ask.run(asked.text(RUN))
    found = None if seen is None else objects.run_object(seen)
    if found is None:
        raise RefusedError("no run has that id here", 404)
    return found


def _log(ask: Questions, asked: Asked) -> str:
    text = ask.log(asked.text(RUN), lines=asked.number(LINES))
    if text is None:
        raise RefusedError("no run has that id here", 404)
    return text


def _runs(ask: Questions, asked: Asked) -> list[RunObject]:
    return [made for one in ask.runs(limit=asked.number(LIMIT)) if (made := objects.run_object(one)) is not None]


def _events(ask: Questions, asked: Asked) -> list[EventObject]:
    found = ask.events(after=asked.maybe(AFTER), limit=asked.number(LIMIT))
    return [{**objects.event_object(event), "id": number} for number, event in found]


def _queues(ask: Questions, asked: Asked) -> list[QueueObject]:
    return list(objects.queue_objects(ask.status(), ask.samples(since=asked.since())))


def _history(ask: Questions, asked: Asked) -> list[PassObject]:
    return [objects.pass_object(one) for one in ask.passes(since=asked.since(), limit=asked.number(LIMIT))]


def _errors(ask: Questions, asked: Asked) -> list[ErrorObject]:
    return [objects.error_object(one) for one in ask.errors(since=asked.since(), limit=asked.number(LIMIT))]


LOOKS: Final = (
    Look(path="/status", what="What `tsched status --json` prints.", gives=Status,
         answer=lambda ask, asked: ask.status()),
    Look(path="/pools", what="Pools with their agents.", gives=list[PoolStatus],
         answer=lambda ask, asked: ask.status()["pools"]),
    Look(path="/agents", what="Agents of all pools.", gives=list[AgentObject],
         answer=lambda ask, asked: list(objects.agent_objects(ask.status()))),
    Look(path="/queues", what="Queues now and over time.", gives=list[QueueObject], answer=_queues,
         parameters=(SINCE,)),
    Look(path="/runs", what="Runs in progress, then those that ended last.", gives=list[RunObject], answer=_runs,
         parameters=(LIMIT,)),
    Look(path="/runs/{run_id}", what="One run.", gives=RunObject, answer=_run, parameters=(RUN,)),
    Look(path="/runs/{run_id}/log", what="The end of a run's log, at most a MiB of it.", gives=str, answer=_log,
         parameters=(RUN, LINES)),
    Look(path="/events", what="What happened, oldest first: the newest, or those after a number.",
         gives=list[EventObject], answer=_events, parameters=(AFTER, LIMIT)),
    Look(path="/alerts", what="What is wrong by the fleet's rules.", gives=list[AlertObject],
         answer=lambda ask, asked: [objects.alert_object(one) for one in ask.alerts()]),
    Look(path="/history", what="Passes of the runner, oldest first.", gives=list[PassObject], answer=_history,
         parameters=(SINCE, LIMIT)),
    Look(path="/errors", what="What went wrong in passes, oldest first.", gives=list[ErrorObject], answer=_errors,
         parameters=(SINCE, LIMIT)),
)  # fmt: skip
