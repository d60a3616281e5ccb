"""A dry run: steps 1 to 5 and 8 of the cycle, and words for the rest, touching nothing: no lock, no lease, no server
write, no log file."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from tsched.executors.executor import Liveness
from tsched.gitops.mirror import Mirror
from tsched.model.lifecycle import Lifecycle
from tsched.model.units import count
from tsched.observe import messages
from tsched.observe.log import OperatorLog
from tsched.runner.adopt import registry
from tsched.runner.cycle import begin, examine
from tsched.runner.execution import executor_of
from tsched.runner.fleets import source_for
from tsched.runner.folder import folder_of
from tsched.runner.host import Host, in_the_cycle
from tsched.runner.matching import find_work
from tsched.runner.override import say_standing
from tsched.runner.record import Pass
from tsched.runner.revise import Held, Ready, Rejected, Unchanged, select
from tsched.runner.sources import source_of
from tsched.schedule.drain import adopt as rows_after
from tsched.schedule.drain import progress
from tsched.settings import Settings
from tsched.state import passes
from tsched.state.database import Database
from tsched.state.leases import Leases


@contextmanager
def borrowed_host(settings: Settings, *, echo: TextIO | None) -> Iterator[Host]:
    """A host that reads what the real one has: databases untouched, fetching into a temporary folder."""
    folder = folder_of(settings)
    with TemporaryDirectory(prefix="tsched-dry-") as temporary:
        db = Database.read_only(folder.db) or Database.empty()
        source = source_for(settings, folder, db)
        if isinstance(source, Mirror):
            source = source.borrow(Path(temporary) / "mirror.git")
        host = Host(
            settings=in_the_cycle(settings),
            folder=folder,
            db=db,
            source=source,
            leases=Leases(folder.running),
            tasks=source_of(settings, folder, read_only=True),
            executor=executor_of(settings, folder),
            log=OperatorLog(None, level=settings.log_level, echo=echo, as_json=settings.log_format == "json"),
            runner_id="",
            history=Database.empty(migrations=passes.MIGRATIONS),  # nothing that is rehearsed asks for it
        )
        with closing(host):
            yield host


def rehearse(host: Host) -> int:
    """Say what a pass would do. Returns the number of errors it would log."""
    with host.log.reconciliation_pass() as log:
        p = begin(host, log)
        examine(p)
        _would_adopt(p)
        registry(p)
        _would_settle(p)
        _would_drain(p)
        say_standing(p)
        with p.guarded("task server", kind="task-server"):
            for one in find_work(p):
                p.log.info(messages.would_assign(one.task.id, one.queue, one.agent))
        return len(p.troubles)


def _would_adopt(p: Pass) -> None:
    """Say what the tip's verdict comes to, and look at the tasks as if it had been applied."""
    match p.verdict:
        case Ready(fleet=fleet, plan=change, tip=tip):
            p.log.info(f"[DRY RUN] Would apply revision {tip[:12]}: {count(len(change.changes), 'change')}")
            for row in change.rows:
                consequence = f" ({row.consequence})" if row.consequence else ""
                p.log.info(f"[DRY RUN] {row.kind} {row.subject}: {row.what}{consequence}")
            wanted = select(fleet, p.host.settings.pools)
            rows = rows_after(p.applied.lifecycles, p.applied.fleet, wanted, now=p.now)
            p.applied = replace(p.applied, fleet=fleet, lifecycles=rows)
        case Rejected(tip=tip, diagnostics=found):
            for one in found:
                p.error("revision", f"[DRY RUN] Would reject revision {tip[:12]}: {one}")
        case Held(tip=tip, reason=reason):
            p.log.warning(f"[DRY RUN] Would hold revision {tip[:12]}: {reason}")
        case Unchanged(problem=str() as problem):
            p.error("remote", f"Fetch failed, the applied revision keeps running: {problem}")
        case Unchanged() | None:
            p.log.info("[DRY RUN] No new revision")


def _would_settle(p: Pass) -> None:
    """Name the runs that reaping and recovery would end, and look at the rest as if they had."""
    for run_id, run in p.runs.items():
        match p.liveness[run_id]:
            case Liveness.ENDED:
                p.log.info(f"[DRY RUN] Would settle task {run.task_id}: its run by agent {run.agent} has ended")
            case Liveness.LOST:
                p.log.info(f"[DRY RUN] Would recover task {run.task_id}: its run by agent {run.agent} is lost")
            case Liveness.ALIVE:
                pass
    p.runs = {run_id: run for run_id, run in p.runs.items() if p.liveness[run_id] is Liveness.ALIVE}


def _would_drain(p: Pass) -> None:
    """Say how far removed agents would get."""
    for row in p.applied.lifecycles.values():
        live = sum((run.agent, run.queue) == row.key for run in p.runs.values())
        current: Lifecycle | None = row
        while current is not None and current != (following := _next(current, live, p.now)):
            current = following
        if current != row:
            state = "deleted" if current is None else str(current.state)
            p.log.info(f"[DRY RUN] Agent '{row.agent}' in queue '{row.queue}': {row.state} -> {state}, {live} runs")


def _next(row: Lifecycle, live: int, now: float) -> Lifecycle | None:
    return progress(row, live=live, unacknowledged=0, stopping=False, handed_back=True, now=now)
