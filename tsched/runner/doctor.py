"""The morning checklist: gathers facts; schedule/health.py judges. Nothing is touched, nothing waits long."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

from tsched.executors import cgroups
from tsched.executors.clocks import clocks
from tsched.executors.executor import Liveness
from tsched.gitops.commits import Commits
from tsched.gitops.git import version
from tsched.limited import within
from tsched.model.errors import TransientError, TschedError
from tsched.model.finding import Finding, fail
from tsched.model.run import Lease, LeaseState
from tsched.model.secrets import masked
from tsched.model.units import from_iso
from tsched.runner.engines import places
from tsched.runner.seen import COMPARED, Look, look, midnight, missing
from tsched.runner.sources import source_of
from tsched.schedule import health
from tsched.settings import Settings
from tsched.state import identity
from tsched.state.folder import StateFolder
from tsched.state.lock import holder

PATIENCE = 3.0  # seconds for each call outside
Check = Callable[[Look], Finding]


def doctor(settings: Settings, *, now: float) -> tuple[Finding, ...]:
    """Every check of this host. `now`: seconds since the epoch. Raises nothing for what is wrong with the host."""
    try:
        seen = look(settings, now=now)
    except (TschedError, OSError) as error:
        words = "nothing else can be looked at before: restore the file, or mend what is said"
        return (fail("state", str(error), words),)
    return tuple(_checked(name, check, seen) for name, check in CHECKS.items())


def _checked(name: str, check: Check, seen: Look) -> Finding:
    try:
        return check(seen)
    except (TschedError, OSError) as error:
        return fail(name, str(error), "mend what is said, then look again")


# -- the checks ------------------------------------------------------------------------------------------------------


def _runner(seen: Look) -> Finding:
    pid, last = holder(seen.folder), seen.known.report["runner"]["last_cycle"]
    limits = seen.known.fleet.limits if seen.known.fleet is not None else None
    interval = seen.settings.loop_interval or (limits.loop_interval if limits is not None else health.CRON)
    gaps = [after.time - before.time for before, after in pairwise(seen.known.passes)]
    return health.runner(
        pid=pid,
        left=None if pid is not None else _shown(seen.folder.lock_file),
        last=None if last is None else from_iso(last),
        interval=interval,
        gap=median(gaps) if gaps else None,
        now=seen.now,
    )


def _shown(lock_file: Path) -> int | None:
    try:
        return int(lock_file.read_text(encoding="ascii", errors="replace"))
    except (OSError, ValueError):
        return None


def _revision(seen: Look) -> Finding:
    fleet, report = seen.known.fleet, seen.known.report
    applied_, fetched, rejected = None if fleet is None else fleet.revision, report["fetched"], report["rejected"]
    return health.revision(
        applied=applied_,
        fetched=fetched,
        behind=behind(seen.folder, applied_, fetched),
        rejected=None if rejected is None else first_fault(rejected["diagnostics"]),
        held=None if report["held"] is None else report["held"]["reason"],
    )


def first_fault(diagnostics: Sequence[Mapping[str, str | int]]) -> str:
    """The first of a rejected revision's findings, in words."""
    return next((f"{one['path']}:{one['line']}: {one['message']}" for one in diagnostics), "it breaks rules")


def behind(folder: StateFolder, old: str | None, new: str | None) -> int | None:
    """Commits from one revision to another, as the mirror knows them."""
    if old is None or new is None or old == new:
        return None

    def count() -> int | None:
        with closing(Commits(folder.mirror)) as mirror:  # not the Mirror, which mends what it can't read
            return mirror.distance(old, new)

    try:
        return within(PATIENCE, count, what="the mirror")
    except TschedError:
        return None


def _remote(seen: Look) -> Finding:
    failed = [
        one for one in seen.known.report["conditions"] if one["type"] == "FetchFailed" and one["status"] == "True"
    ]
    return health.remote(
        asked=seen.known.report["fetched"] is not None or bool(failed),
        problem=failed[0]["message"] if failed else None,
        since=from_iso(failed[0]["since"]) if failed else None,
        now=seen.now,
    )


def _leases(seen: Look) -> Finding:
    alive = seen.executor.poll()
    found = [_lease(lease, seen, alive.get(lease.run_id)) for lease in seen.leases.leases.values()]
    return health.leases(found, unreadable=seen.leases.unreadable, now=seen.now)


def _lease(lease: Lease, seen: Look, state: Liveness | None) -> health.LeaseFacts:
    times = clocks(seen.folder.runs, lease.run_id) if lease.run_id else None
    try:
        beat, began = from_iso(lease.heartbeat), from_iso(lease.started_at)
    except ValueError:  # by hand, or TinyScheduler's
        beat, began = 0.0, None
    return health.LeaseFacts(
        task_id=lease.task_id,
        agent=lease.agent,
        alive=state in (Liveness.ALIVE, Liveness.ENDED),
        claiming=lease.state is LeaseState.CLAIMING,
        heartbeat=beat,
        every=times.heartbeat if times is not None else health.CRON,
        give_up=began + times.allowed if times is not None and began is not None else None,
    )


def _errors(seen: Look) -> Finding:
    began = midnight(seen.now)
    troubles = seen.known.troubles
    return health.errors(
        [one.time for one in troubles],
        midnight=began,
        days=COMPARED,
        newest=troubles[-1].message if troubles else "",
        now=seen.now,
    )


def _registry(seen: Look) -> Finding:
    fleet = seen.fleet
    agents = [agent for _, agent in fleet.agents()] if fleet is not None else []
    return health.registry(
        revision=None if fleet is None else fleet.revision,
        agents=len(agents),
        queues=[pool.queue for pool in fleet.pools if pool.agents] if fleet is not None else (),
        absent=sorted({one.recipe for one in agents if fleet is not None and one.recipe not in fleet.recipes}),
    )


def _task_server(seen: Look) -> Finding:
    name = masked(seen.settings.tasks or "the embedded queue")
    began = time.monotonic()

    def ask() -> int:
        with closing(source_of(seen.settings, seen.folder, read_only=True)) as tasks:
            return sum(depth.idle for depth in tasks.depths())

    problem, waiting = None, 0
    try:
        waiting = within(PATIENCE, ask, what="it")
    except TransientError as error:
        problem = str(error)
    return health.task_server(name, problem=problem, seconds=time.monotonic() - began, waiting=waiting)


def _programs(seen: Look) -> Finding:
    agents = 0 if seen.fleet is None else sum(1 for _ in seen.fleet.agents())
    return health.programs(list(missing(seen)), agents=agents)


def _disk(seen: Look) -> Finding:
    place = seen.folder.root
    while not place.exists():  # not made yet: where it would be
        place = place.parent
    stat = os.statvfs(place)
    return health.disk(
        str(seen.folder.root),
        free=stat.f_bavail * stat.f_frsize,
        total=stat.f_blocks * stat.f_frsize,
        inodes=stat.f_favail,
        all_inodes=stat.f_files,
    )


def _clock(seen: Look) -> Finding:
    written = {
        "the newest pass": max((one.time for one in seen.known.passes), default=0.0),
        "the newest event": seen.known.event,
        "the runner's database": _written(seen.folder.db),
        **{f"the heartbeat of task {one.task_id}": _beat(one) for one in seen.leases.leases.values()},
    }
    return health.clock({what: moment for what, moment in written.items() if moment}, now=seen.now)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _beat(lease: Lease) -> float:
    try:
        return from_iso(lease.heartbeat)
    except ValueError:
        return 0.0


def _folders(seen: Look) -> Finding:
    places = dict.fromkeys((seen.folder.root, seen.folder.running, seen.folder.logs))
    found = [_folder(place) for place in places]
    if seen.settings.agent_user is not None:  # who passes through it, on the way to a work folder
        found[0] = replace(found[0], mode=found[0].mode & ~0o011)
    return health.folders(found, user=os.geteuid())


def _folder(path: Path) -> health.FolderFacts:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return health.FolderFacts(path=str(path), there=False)
    return health.FolderFacts(path=str(path), mode=stat.st_mode & 0o777, owner=stat.st_uid)


def _identity(seen: Look) -> Finding:
    return health.identity(
        identity.known_id(seen.folder), displaced=identity.displaced(seen.folder, host=seen.settings.hostname)
    )


def _workspaces(seen: Look) -> Finding:
    return health.workspaces([one.folder.name for one in seen.executor.kept()])


def _containment(seen: Look) -> Finding:
    seen.executor.check()
    agents = [agent.resources for _, agent in seen.fleet.agents()] if seen.fleet is not None else []
    wanted = {name for one in agents for name, value in asdict(one).items() if value is not None}
    found = cgroups.found()
    return health.containment(
        base=None if found.base is None else str(found.base),
        controllers=found.controllers,
        why_not=found.why_not,
        wanted=sorted(wanted),
    )


CHECKS: Mapping[str, Check] = {
    "runner": _runner,
    "revision": _revision,
    "remote": _remote,
    "leases": _leases,
    "errors": _errors,
    "registry": _registry,
    "task server": _task_server,
    "programs": _programs,
    "clusters": lambda seen: health.clusters(list(places(seen))),
    "disk": _disk,
    "clock": _clock,
    "folders": _folders,
    "identity": _identity,
    "containment": _containment,
    "git": lambda _: health.git(version(timeout=PATIENCE)),
    "workspaces": _workspaces,
    "overrides": lambda seen: health.overrides([str(one) for one in seen.known.overrides]),
}
