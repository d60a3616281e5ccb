"""The pages: what a person sees, as values for the templates. All text from elsewhere is made safe to show."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import minijinja

from tsched import __version__
from tsched.model.alert import Alert
from tsched.model.event import Event
from tsched.model.history import Sample, Trouble
from tsched.model.units import from_iso, iso, parse_duration
from tsched.observe.conditions import Condition
from tsched.observe.objects import RunObject, run_object, thinned
from tsched.observe.status import AgentStatus, PoolStatus, QueueStatus, Status
from tsched.observe.text import block, one_line
from tsched.observe.web.charts import depth_chart, slots
from tsched.observe.web.questions import Questions
from tsched.schedule.troubles import Kind, by_kind

FILES: Final = Path(__file__).with_name("files")
WINDOWS: Final = ("1h", "6h", "24h", "7d")  # what charts may show
RESULTS, EVENTS, ERRORS, LINES = 12, 25, 1000, 400  # how many of each
CHART_SAMPLES = 160
QUIET: Final = {"Ready": "True", "Valid": "True", "Verified": "True"}
_COMMIT = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b")
Row = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that the front page shows. `late`: why the runner is not ready."""

    status: Status
    late: str | None
    samples: Sequence[Sample]
    runs: Sequence[RunObject]
    changes: Sequence[Event]
    alerts: Sequence[Alert]
    events: Sequence[Event]
    errors: Sequence[Trouble]
    window: str
    now: float


def look(ask: Questions, window: str) -> Seen:
    """Ask for it."""
    now = ask.now()
    return Seen(
        status=ask.status(),
        late=ask.late(),
        samples=ask.samples(since=now - parse_duration(window)),
        runs=[made for one in ask.runs(limit=200) if (made := run_object(one)) is not None],
        changes=ask.changes(),
        alerts=ask.alerts(),
        events=[event for _, event in ask.events(after=None, limit=EVENTS)][::-1],
        errors=ask.errors(since=now - 86_400.0, limit=ERRORS),
        window=window,
        now=now,
    )


@cache
def _templates() -> minijinja.Environment:
    return minijinja.Environment(
        loader=lambda name: (FILES / name).read_text(encoding="utf-8"),
        auto_escape_callback=lambda name: True,
        undefined_behavior="strict",
        trim_blocks=True,
        lstrip_blocks=True,
    )


def front(seen: Seen) -> str:
    """The status page."""
    status, now = seen.status, seen.now
    going = [one for one in seen.runs if one["state"] != "ended"]
    ended = [one for one in seen.runs if one["state"] == "ended"][:RESULTS]
    return _templates().render_template(
        "front.html",
        **_frame(now),
        headline=_headline(seen),
        revision=_revision(status, now),
        changes=[{"subject": one_line(one.subject), "message": one_line(one.message)} for one in seen.changes],
        conditions=[_condition(one, now) for one in status["conditions"]],
        unquiet=sum(_loud(one) for one in status["conditions"]),
        alerts=[
            {"state": str(one.state), "rule": one.rule, "subject": _short(one.subject),
             "summary": _short(one.summary), "since": moment(one.since, now)}
            for one in seen.alerts
        ],
        overrides=[
            {**one, "since": moment(one["since"], now), "by": one_line(one["by"]), "reason": one_line(one["reason"])}
            for one in status["overrides"]
        ],
        pools=[_pool(one, now) for one in status["pools"]],
        queues=[_queue(one, seen) for one in status["queues"]],
        windows=WINDOWS,
        window=seen.window,
        runs=[_run(one, now) for one in going],
        results=[_run(one, now) for one in ended],
        usage=[{**one, "cost": _money(one["cost_usd"])} for one in status["usage"]],
        events=[_event(one, now) for one in seen.events],
        errors=[_error(one, now) for one in by_kind(seen.errors)[:10]],
    )  # fmt: skip


def of_run(run: RunObject, log: str | None, now: float) -> str:
    """The page of one run."""
    shown = _run(run, now)
    return _templates().render_template("run.html", **_frame(now), run=shown, log=block(log or ""), lines=LINES)


def no_run(now: float) -> str:
    """Where a run is not known."""
    return _templates().render_template("missing.html", **_frame(now))


def _frame(now: float) -> dict[str, object]:
    return {"version": __version__, "now": moment(now, now)}


def moment(time: float | str, now: float) -> Row:
    """A time as a person reads it: how long ago (or ahead), and exactly."""
    seconds = from_iso(time) if isinstance(time, str) else time
    exact = time if isinstance(time, str) else iso(time)
    return {"iso": exact, "clock": f"{exact[:10]} {exact[11:19]}Z", "ago": ago(seconds - now)}


def ago(seconds: float) -> str:
    """`3 min ago`, `in 2 h`: the largest unit alone."""
    size = abs(seconds)
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if size >= length * (2 if unit == "d" else 1):
            words = f"{int(size // length)} {unit}"
            return f"in {words}" if seconds > 0 else f"{words} ago"
    return "now"


def _short(text: str) -> str:
    """Text from elsewhere on one line, each commit in it by its first twelve digits."""
    return _COMMIT.sub(r"\1", one_line(text))


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _headline(seen: Seen) -> Row:
    """The one sentence that says whether a person has to do something."""
    ready = next((one for one in seen.status["conditions"] if one["type"] == "Ready"), None)
    if seen.late is not None:
        return {"good": False, "word": "Not on time", "text": one_line(seen.late)}
    if ready is None or ready["status"] != "True":
        return {"good": False, "word": "Not ready", "text": one_line("" if ready is None else ready["message"])}
    return {"good": True, "word": "Ready", "text": one_line(ready["message"])}


def _revision(status: Status, now: float) -> Row:
    revision, runner = status["revision"], status["runner"]
    rejected, held = revision["rejected"], revision["held"]
    return {
        "applied": revision["applied"],
        "fetched": revision["fetched"],
        "generation": status["generation"],
        "rejected": None if rejected is None else {
            "revision": rejected["revision"],
            "findings": [
                {"place": one_line(f"{one['path']}:{one['line']}:{one['column']}"), "code": one["code"],
                 "message": one_line(str(one["message"]))}
                for one in rejected["diagnostics"]
            ],
        },
        "held": None if held is None else {"revision": held["revision"], "reason": one_line(held["reason"])},
        "runner": runner["host"] and f"pid {runner['pid']} on {one_line(runner['host'])}",
        "last": None if runner["last_cycle"] is None else moment(runner["last_cycle"], now),
    }  # fmt: skip


def _loud(condition: Condition) -> bool:
    """Whether a condition asks for a look."""
    return condition["status"] not in ("Unknown", QUIET.get(condition["type"], "False"))


def _condition(one: Condition, now: float) -> Row:
    return {
        "type": one["type"], "status": one["status"], "reason": one["reason"], "message": one_line(one["message"]),
        "since": moment(one["since"], now), "loud": _loud(one),
    }  # fmt: skip


def _pool(pool: PoolStatus, now: float) -> Row:
    return {**pool, "agents": [_agent(agent, now) for agent in pool["agents"]]}


def _agent(agent: AgentStatus, now: float) -> Row:
    drain = agent["drain"]
    return {
        **agent,
        "slots": slots(agent["running"], agent["limit"]),
        "drain": None if drain is None else {
            "since": moment(drain["since"], now), "deadline": moment(drain["deadline"], now),
            "on_deadline": drain["on_deadline"],
        },
    }  # fmt: skip


def _queue(queue: QueueStatus, seen: Seen) -> Row:
    own = [one for one in seen.samples if one.queue == queue["name"]]
    last = own[-1] if own else None
    most = max((one.idle for one in own), default=0)
    label = f"Queue {queue['name']} over the last {seen.window}: {queue['idle']} wait now, {most} at most"
    since = seen.now - parse_duration(seen.window)
    waits = None if last is None or last.oldest is None or not queue["idle"] else _span(seen.now - last.oldest)
    chart = depth_chart(thinned(own, CHART_SAMPLES), since=since, now=seen.now, label=label)
    return {
        **queue, "waiting": queue["idle"] - queue["blocked"], "most": most, "oldest": waits, "chart": chart,
        "served": any(pool["queue"] == queue["name"] for pool in seen.status["pools"]),
    }  # fmt: skip


def _run(run: RunObject, now: float) -> Row:
    started = None if run["started_at"] is None else from_iso(run["started_at"])
    ended = now if run["ended_at"] is None else from_iso(run["ended_at"])
    return {
        **run,
        "title": one_line(run["title"]),
        "reason": one_line(run["reason"] or ""),
        "started": None if run["started_at"] is None else moment(run["started_at"], now),
        "ended": None if run["ended_at"] is None else moment(run["ended_at"], now),
        "beat": None if run["heartbeat"] is None else moment(run["heartbeat"], now),
        "took": "-" if started is None else _span(ended - started),
        "cost": _money(run["cost_usd"]),
    }


def _money(dollars: float | None) -> str:
    return "-" if dollars is None else f"${dollars:.2f}"


def _error(alike: Kind, now: float) -> Row:
    return {
        "kind": alike.kind, "number": alike.number, "example": one_line(alike.example),
        "first": moment(alike.first, now), "last": moment(alike.last, now),
    }  # fmt: skip


def _event(event: Event, now: float) -> Row:
    return {
        "when": moment(event.time, now), "kind": event.kind, "subject": _short(event.subject),
        "message": _short(event.message), "revision": (event.revision or "")[:12],
    }  # fmt: skip
