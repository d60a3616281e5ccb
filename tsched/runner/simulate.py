"""What a change of the fleet would do to a load: which fleets, which load, and both played. Nothing is changed."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from tsched.gitops.commits import Commits
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Agent, Fleet, Pool
from tsched.model.units import LAST, from_iso
from tsched.runner.folder import folder_of
from tsched.runner.look import fleet_at
from tsched.runner.revise import select
from tsched.runner.workload import workload
from tsched.schedule.load import Arrival, Load, Shape, Source, busy, longest, recorded, scaled, synthetic
from tsched.schedule.simulate import simulate
from tsched.schedule.tally import Simulated
from tsched.schedule.timeline import Window
from tsched.settings import Settings
from tsched.state import applied
from tsched.state.database import Database

RECORDED, SYNTHETIC = "RECORDED", "SYNTHETIC"
SHARED_BY = 1000  # agents of one pool of a fleet that is made up
MOST = 10_000_000  # tasks: what fits in memory

Opens = Callable[[], AbstractContextManager[Commits]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to simulate. `revision`, `base`: git's names of fleets; `agents`: of one that is made up instead.

    `tasks`: RECORDED, SYNTHETIC or a file of JSON lines. `rates`: by queue tasks a second and the mean seconds of a
    run; where there are none, pools are kept busy by the part `busy` with runs of `seconds`.
    """

    tasks: str
    revision: str | None = None
    base: str | None = None
    agents: int | None = None
    scale: float = 1.0
    seed: int = 1
    span: float = 0.0
    rates: Mapping[str, tuple[float, float]]
    busy: float
    seconds: float
    shape: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A load, what becomes of it, and what would become of it after a change (None: there is none)."""

    load: Load
    before: Simulated
    after: Simulated | None


def simulated(settings: Settings, wish: Wish, commits: Opens, *, since: float, now: float) -> Compared:
    """Play the load through one fleet or two. Times are seconds since the epoch.

    Raises ConfigurationError for a revision, a file or a wish that makes no sense.
    """
    before, after = _fleets(settings, wish, commits)
    whole = _load(settings, wish, before, since=since, now=now)
    _check_number(len(whole.arrivals) * wish.scale)
    load = scaled(whole, wish.scale, seed=wish.seed)
    with _no_garbage():
        found = [simulate(fleet, load) for fleet in (before, after) if fleet is not None]
    return Compared(load=load, before=found[0], after=found[1] if len(found) > 1 else None)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Nothing here is in a cycle, and to look for some among millions of values takes as long as all the rest."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _fleets(settings: Settings, wish: Wish, commits: Opens) -> tuple[Fleet, Fleet | None]:
    """Before and after: the base, else what is applied, else the parent; and the revision."""
    if wish.agents is not None:
        if wish.revision is not None or wish.base is not None:
            raise ConfigurationError("--agents makes up a fleet: give it, or a revision, not both")
        return made_up(wish.agents), None
    if wish.base is not None and wish.revision is None:
        raise ConfigurationError("--base is what a revision is compared with: name that too")
    here = _applied(settings) if wish.base is None else None
    if wish.revision is None and here is not None:
        return here, None
    with commits() as found:
        revision = wish.revision or "HEAD"
        after = select(fleet_at(found, found.resolve(revision)), settings.pools)
        if wish.revision is None:
            return after, None
        if here is None:
            here = select(fleet_at(found, found.resolve(wish.base or f"{revision}~1")), settings.pools)
        return here, after


def _applied(settings: Settings) -> Fleet | None:
    database = Database.read_only(folder_of(settings).db)
    if database is None:
        return None
    try:
        fleet = applied.load(database).fleet
    finally:
        database.close()
    return None if fleet is None else select(fleet, settings.pools)


def made_up(agents: int) -> Fleet:
    """A fleet of so many agents with one slot each, in pools of SHARED_BY."""
    pools = [range(first, min(first + SHARED_BY, agents)) for first in range(0, agents, SHARED_BY)]
    return Fleet(
        revision="made-up",
        pools=tuple(
            Pool(
                name=f"pool-{number:04}",
                queue=f"pool-{number:04}",
                agents=tuple(Agent(name=f"agent-{one:06}", recipe=f"recipes/{number:04}.yaml") for one in members),
            )
            for number, members in enumerate(pools)
        ),
    )


def _load(settings: Settings, wish: Wish, fleet: Fleet, *, since: float, now: float) -> Load:
    if wish.tasks == RECORDED:
        work = workload(settings, since=since, now=now)
        load = recorded(work.results, work.window)
        if not load.arrivals:
            raise ConfigurationError(
                f"no run has ended here since then: give --since, a file of tasks, or --tasks {SYNTHETIC}"
            )
        return load
    if wish.tasks == SYNTHETIC:
        window = Window(since=now, until=now + wish.span)
        return synthetic(_sources(wish, fleet), window, seed=wish.seed, shape=wish.shape)
    return read_load(Path(wish.tasks))


def _sources(wish: Wish, fleet: Fleet) -> Sequence[Source]:
    pools = {pool.queue: pool for pool in fleet.pools}
    found = busy(fleet, part=wish.busy, seconds=wish.seconds) if not wish.rates else [
        Source(queue=queue, rate=rate, seconds=seconds, longest=longest(pools.get(queue)))
        for queue, (rate, seconds) in wish.rates.items()
    ]  # fmt: skip
    _check_number(sum(one.rate for one in found) * wish.span * max(1.0, wish.scale))
    return found


def _check_number(tasks: float) -> None:
    if tasks > MOST:
        raise ConfigurationError(
            f"that would be {tasks:,.0f} tasks, more than {MOST:,}: ask for a smaller --scale, or a shorter time"
        )


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """A line of a file of tasks."""

    queue: str
    at: str | float
    seconds: Annotated[float, msgspec.Meta(ge=0, le=1e9)]
    priority: int = 0
    agent: str | None = None
    failures: Annotated[int, msgspec.Meta(ge=0)] = 0


def read_load(path: Path) -> Load:
    """The tasks of a file: a JSON object a line. Raises ConfigurationError with file and line, and OSError."""
    decoder = msgspec.json.Decoder(_Line)
    found: list[Arrival] = []
    with path.open("rb") as lines:
        for number, text in enumerate(lines, 1):
            if text.strip():
                try:
                    found.append(_arrival(decoder.decode(text)))
                except (ValueError, msgspec.MsgspecError) as error:
                    raise ConfigurationError(f"{path}:{number}: {error}") from None
    if not found:
        raise ConfigurationError(f"{path} has no task: a line is {{queue, at, seconds[, priority, agent, failures]}}")
    found.sort(key=lambda one: one.at)
    window = Window(since=found[0].at, until=found[-1].at)
    return Load(window=window, arrivals=tuple(found), source=path.name)


def _arrival(line: _Line) -> Arrival:
    try:
        at = from_iso(line.at) if isinstance(line.at, str) else line.at
    except ValueError:
        at = -1.0
    if not 0 <= at <= LAST:
        raise ValueError(f"at is {line.at}, which is no time: write seconds since 1970, or 2026-01-20T10:15:00Z")
    return Arrival(
        queue=line.queue, at=at, seconds=line.seconds, priority=line.priority, agent=line.agent,
        failures=line.failures,
    )  # fmt: skip


def write_load(path: Path, load: Load) -> None:
    """The tasks as a file that `read_load` reads. Raises OSError."""
    with path.open("wb") as out:
        for one in load.arrivals:
            out.write(msgspec.json.encode(one) + b"\n")
