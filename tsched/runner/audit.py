"""The configuration audit: gathers what should be and what is; schedule/audit.py compares. Nothing is touched."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tsched.executors.salvaged import salvaged
from tsched.gitops.commits import Commits
from tsched.gitops.mirror import Mirror
from tsched.limited import within
from tsched.model.errors import TschedError
from tsched.model.finding import Finding, fail
from tsched.model.lifecycle import AgentState
from tsched.model.override import OverrideKind
from tsched.model.task import QueueDepth, Task
from tsched.runner.fleets import FleetSource, HostFiles
from tsched.runner.revise import select
from tsched.runner.seen import Look, look, missing
from tsched.runner.sources import source_of
from tsched.schedule import audit as judge
from tsched.schedule.audit import Tip, told
from tsched.schedule.plan import plan
from tsched.settings import Settings
from tsched.validate.fleet import FleetCache

PATIENCE = 20.0  # seconds for the remote, and for the task server
Check = Callable[[Look], tuple[Finding, ...]]


def audit(settings: Settings, *, now: float) -> tuple[Finding, ...]:
    """All that drifted on this host. `now`: seconds since the epoch.

    Raises TschedError where the runner's own databases can't be read.
    """
    seen = look(settings, now=now)
    return tuple(one for name, check in CHECKS.items() for one in _checked(name, check, seen))


def _checked(name: str, check: Check, seen: Look) -> Iterable[Finding]:
    try:
        return check(seen)
    except (TschedError, OSError) as error:
        return (fail(name, str(error), "mend what is said, then look again"),)


def _tip(seen: Look) -> tuple[Finding, ...]:
    fleet, held = seen.known.fleet, seen.known.report["held"]
    applied = None if fleet is None else fleet.revision
    newest = within(PATIENCE, lambda: newest_commit(seen), what="the fleet repo")
    why = held["reason"] if held is not None and held["revision"] == newest.revision else None
    return told("tip", judge.tip(applied, newest, held=why), f"the newest commit {(applied or '')[:12]} is applied")


def newest_commit(seen: Look) -> Tip:
    """The remote's tip, or this host's own files, and what applying it here would change."""
    settings = seen.settings
    with _newest(seen) as source:
        try:
            revision = source.poll()
            if seen.known.fleet is not None and revision == seen.known.fleet.revision:
                return Tip(revision=revision)
            source.fetch(revision)
        except TschedError as error:
            return Tip(problem=str(error))
        loaded = source.load(source.files(revision), FleetCache())
    if loaded.fleet is None:
        return Tip(revision=revision, problem=str(loaded.diagnostics[0]))
    rows = plan(seen.fleet, select(loaded.fleet, settings.pools)).rows
    return Tip(revision=revision, rows=[f"{row.kind} {row.subject}: {row.what}" for row in rows])


@contextmanager
def _newest(seen: Look) -> Iterator[FleetSource]:
    """Where the newest revision is read; a remote's is fetched into a temporary folder."""
    settings = seen.settings
    if settings.repo is None:
        yield HostFiles(settings, lambda: seen.known.fleet)
        return
    with (
        TemporaryDirectory(prefix="tsched-audit-") as temporary,
        closing(Mirror(seen.folder.mirror, settings.repo, settings.branch, timeout=PATIENCE)) as mirror,
        closing(mirror.borrow(Path(temporary) / "mirror.git")) as borrowed,
    ):
        yield borrowed


def _control_file(seen: Look) -> tuple[Finding, ...]:
    if seen.settings.repo is None:
        return told("control file", (), "it is the operator's own: there is no fleet repo")
    try:
        text: str | None = seen.folder.control_file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        text = None
    drained = {one.name for one in seen.known.overrides if one.kind is OverrideKind.DRAIN}
    found = judge.control_file(text, seen.known.fleet, left_out=drained)
    shown = "nothing" if seen.known.fleet is None else "agent-control.json"
    return told("control file", found, f"{shown} shows the applied fleet")


def _agents(seen: Look) -> tuple[Finding, ...]:
    rows = seen.known.lifecycles
    grace = seen.fleet.limits.stop_grace if seen.fleet is not None else 0.0
    found = judge.lifecycles(rows.values(), seen.fleet, grace=grace, now=seen.now)
    active = sum(row.state is AgentState.ACTIVE for row in rows.values())
    return told("agents", found, f"all {active} are active" if active else "there is none")


def _runs(seen: Look) -> tuple[Finding, ...]:
    leases = seen.leases.leases.values()
    descends = ancestry(seen, {one.revision for one in leases if one.revision})
    facts = [
        judge.RunFacts(
            task_id=one.task_id, agent=one.agent, queue=one.queue, revision=one.revision,
            descends=descends.get(one.revision),
        )
        for one in leases
    ]  # fmt: skip
    found = judge.runs(facts, seen.known.fleet, seen.known.lifecycles.keys())
    return told("runs", found, f"{len(facts)} of agents and revisions that are known")


def ancestry(seen: Look, revisions: Iterable[str]) -> Mapping[str, bool]:
    """Of each revision whether the applied one descends from it; none where the mirror can't say."""
    fleet = seen.known.fleet
    if fleet is None:
        return {}
    try:
        with closing(Commits(seen.folder.mirror)) as mirror:
            return {one: mirror.is_ancestor(one, fleet.revision) for one in revisions}
    except TschedError:
        return {}


def _settings(seen: Look) -> tuple[Finding, ...]:
    found = judge.host(seen.settings.notes, seen.settings.agent_limits, seen.known.fleet)
    return told("settings", found, "nothing on this host overrules git, or is overruled")


def _programs(seen: Look) -> tuple[Finding, ...]:
    found = (fail("programs", words, mend) for words, mend in missing(seen))
    return told("programs", found, "all that agents start is here")


def _fleet(seen: Look) -> tuple[Finding, ...]:
    return told("fleet", judge.fleet_itself(seen.fleet), "every pool has agents, every agent slots and a recipe")


def _tasks(seen: Look) -> tuple[Finding, ...]:
    depths, waiting = within(PATIENCE, lambda: ask_tasks(seen), what="the task server")
    fleet, rows = seen.known.fleet, seen.known.lifecycles
    return (
        *told("queues", judge.queues(depths, fleet), "every queue that holds tasks is served"),
        *told("tasks", judge.assigned(waiting, fleet, rows), "every assigned task has its agent"),
    )


def ask_tasks(seen: Look) -> tuple[Sequence[QueueDepth], Sequence[Task]]:
    """The queues that hold open tasks, and the tasks that wait in them."""
    with closing(source_of(seen.settings, seen.folder, read_only=True)) as tasks:
        depths = tasks.depths()
        return depths, tasks.waiting(queues=[one.name for one in depths], agents=())


def _leftovers(seen: Look) -> tuple[Finding, ...]:
    kept = [one.folder.name for one in seen.executor.kept()]
    found = judge.leftovers(kept, salvaged(seen.folder.workspaces))
    return told("leftovers", found, "no work folder is kept, no unsaved work was left")


CHECKS: Mapping[str, Check] = {
    "tip": _tip,
    "control file": _control_file,
    "agents": _agents,
    "runs": _runs,
    "settings": _settings,
    "programs": _programs,
    "fleet": _fleet,
    "task server": _tasks,
    "leftovers": _leftovers,
}
