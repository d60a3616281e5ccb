"""The live terminal view: one screenful of what a runner does, most pressing first. Drawing only; nothing is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tsched.model.event import Event
from tsched.model.history import PassRecord, Sample
from tsched.model.units import about, count, from_iso
from tsched.observe.conditions import notable
from tsched.observe.status import AgentStatus, PoolStatus, Status
from tsched.observe.text import one_line

WIDEST = 24  # cells of a column that is not the last
CALM = {"active": "", "suspended": "magenta"}
LEAST = 3  # rows that each part has where there are so many, however small the screen


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that a screen shows, as of `at` (seconds since the epoch).

    `titles`: of tasks, by run id. `samples`: each queue's newest.
    """

    at: float
    status: Status
    titles: Mapping[str, str]
    samples: Mapping[str, Sample]
    events: Sequence[Event]  # oldest first
    last: PassRecord | None = None


def screen(view: View, *, width: int, height: int, note: str = "") -> RenderableType:
    """One screen of that many columns and lines. Each part gives way to the others only past its share."""
    head = header(view, note)
    parts = (pools(view), drains(view), runs(view), events(view))
    filled = [part for part in parts if part.rows]
    room = height - len(head) - 2 * len(filled)  # a title and a head line each
    shares = share([len(part.rows) for part in filled], room)
    body = [part.drawn(rows, width) for part, rows in zip(filled, shares, strict=True)]
    return Group(*(Text(line.plain, style=line.style, no_wrap=True, overflow="ellipsis") for line in head), *body)


def share(wanted: Sequence[int], room: int) -> list[int]:
    """How many rows each part gets: what it wants where all fit, else its equal share, and what others leave."""
    given = [min(rows, LEAST) for rows in wanted]
    while sum(given) < room and given != list(wanted):
        hungry = [index for index, rows in enumerate(given) if rows < wanted[index]]
        least = min(hungry, key=lambda index: given[index])
        given[least] += 1
    return given


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A titled table that can be cut short."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    styles: Sequence[str] = ()  # of each row
    newest: bool = False  # the last rows matter most

    def drawn(self, rows: int, width: int) -> RenderableType:
        """The first (or the newest) so many rows, with how many are left out."""
        cut = len(self.rows) - rows
        chosen = range(len(self.rows))[cut:] if self.newest else range(rows)
        words = f"{self.title}  (+{cut} more)" if cut else self.title
        table = Table(
            title=words, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim"
        )
        for name, cells in zip(self.columns, self._widths(width), strict=True):
            table.add_column(name, no_wrap=True, overflow="ellipsis", width=cells)
        for index in chosen:
            style = self.styles[index] if self.styles else ""
            table.add_row(*(Text(one_line(cell), style=style) for cell in self.rows[index]))
        return table

    def _widths(self, width: int) -> list[int]:
        """Of each column: as wide as its cells, up to WIDEST; the last one gets what is left."""
        lines = [self.columns, *self.rows]
        first = [min(WIDEST, max(map(len, column))) for column in list(zip(*lines, strict=True))[:-1]]
        return [*first, max(8, width - sum(first) - 2 * len(first))]


def header(view: View, note: str) -> list[Text]:
    """Who runs what, how the last pass went, and whatever is wrong."""
    status, runner = view.status, view.status["runner"]
    last = runner["last_cycle"]
    ago = "no pass yet" if last is None else f"last pass {_ago(view, from_iso(last))} ago"
    took = "" if view.last is None else f", it took {view.last.seconds:.2f} s"
    applied = (status["revision"]["applied"] or "nothing")[:12]
    first = f"tsched on {runner['host'] or '-'}   {applied} applied, generation {status['generation']}   {ago}{took}"
    lines = [Text(f"{first}   {note}".rstrip(), style="bold")]
    wrong = [one for one in status["conditions"] if notable(one)]
    return [
        *lines,
        *(Text(f"{one['type']}: {one_line(one['message'] or one['reason'])}", style="red") for one in wrong),
    ]


def pools(view: View) -> Part:
    """A pool a line, with its queue. Queues that no pool serves follow."""
    depths = {queue["name"]: queue for queue in view.status["queues"]}
    rows = [_pool(view, pool) for pool in view.status["pools"]]
    served = {pool["queue"] for pool in view.status["pools"]}
    for name, queue in depths.items():
        if name not in served and queue["idle"]:
            rows.append(("-", name, "not served", str(queue["idle"]), str(queue["blocked"]), "-", ""))
    columns = ("POOL", "QUEUE", "RUNNING", "WAIT", "BLOCKED", "LONGEST", "AGENTS")
    return Part(title="Pools", columns=columns, rows=rows)


def _pool(view: View, pool: PoolStatus) -> tuple[str, ...]:
    depth = next((queue for queue in view.status["queues"] if queue["name"] == pool["queue"]), None)
    sample = view.samples.get(pool["queue"])
    longest = "-" if sample is None or sample.oldest is None else _ago(view, sample.oldest)
    slots = sum(agent["limit"] for agent in pool["agents"] if agent["state"] == "active")
    slots = slots if pool["max_running"] is None else min(slots, pool["max_running"])
    idle, blocked = (depth["idle"], depth["blocked"]) if depth is not None else (0, 0)
    return (
        pool["name"], pool["queue"], f"{bar(pool['running'], slots)} {pool['running']}/{slots}", str(idle),
        str(blocked), longest, _states(pool["agents"]),
    )  # fmt: skip


def _states(agents: Sequence[AgentStatus]) -> str:
    numbers: dict[str, int] = {}
    for agent in agents:
        numbers[agent["state"]] = numbers.get(agent["state"], 0) + 1
    return ", ".join(f"{number} {state}" for state, number in numbers.items())


def drains(view: View) -> Part:
    """Agents on their way out."""
    rows = [
        (agent["name"], pool["queue"], agent["state"], str(agent["running"]), _deadline(view, agent))
        for pool in view.status["pools"]
        for agent in pool["agents"]
        if agent["state"] not in CALM
    ]
    columns = ("AGENT", "QUEUE", "STATE", "RUNS", "DEADLINE")
    return Part(title="Draining", columns=columns, rows=rows, styles=["yellow"] * len(rows))


def _deadline(view: View, agent: AgentStatus) -> str:
    drain = agent["drain"]
    if drain is None:
        return "-"
    left = from_iso(drain["deadline"]) - view.at
    return f"in {about(left)}, then {drain['on_deadline']}" if left > 0 else f"passed {about(-left)} ago"


def runs(view: View) -> Part:
    """Runs in progress, the oldest first."""
    known = sorted(view.status["runs"], key=lambda run: run["started_at"])
    rows = [
        (run["task_id"], run["agent"], run["pool"], str(run["attempt"]), _ago(view, from_iso(run["started_at"])),
         _ago(view, from_iso(run["heartbeat"])), view.titles.get(run["run_id"], ""))
        for run in known
    ]  # fmt: skip
    columns = ("TASK", "AGENT", "POOL", "TRY", "FOR", "BEAT", "TITLE")
    styles = ["" if run["state"] == "running" else "dim" for run in known]
    return Part(title=count(len(rows), "run").capitalize(), columns=columns, rows=rows, styles=styles)


_EVENTS = {"failed": "red", "unproven": "red", "rejected": "red", "held": "yellow", "complete": "green"}


def events(view: View) -> Part:
    """The newest events."""
    rows = [(_ago(view, one.time), one.kind, one.subject, one.message) for one in view.events]
    styles = [_EVENTS.get(one.kind.rpartition(".")[2], "") for one in view.events]
    return Part(title="Events", columns=("AGO", "KIND", "WHAT", "MESSAGE"), rows=rows, styles=styles, newest=True)


def bar(used: int, whole: int, cells: int = 10) -> str:
    """`used` of `whole` as a bar of so many cells."""
    full = min(cells, round(cells * used / max(whole, 1)))
    return "█" * full + "·" * (cells - full)


def _ago(view: View, moment: float) -> str:
    """How long before the view a moment was; a clock that runs ahead makes it no time at all."""
    return about(max(0.0, float(round(view.at - moment))))
