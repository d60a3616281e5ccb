"""What a dead shim left: fence its run, find every process of it, end them, and say how the run ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tsched.executors import cgroups, durable, processes
from tsched.executors.processes import Process
from tsched.executors.runfolder import RunFolder
from tsched.failpoint import failpoint
from tsched.model.run import ExitReason, RunExit

ROUNDS = 5  # of KILL and looking again, before the next cycle is left to it
PATIENCE = 1.0  # seconds that the killed have to go in each round


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """All living processes, looked at once for however many lost runs."""

    by_run: Mapping[str, Sequence[Process]] = field(default_factory=dict)
    by_session: Mapping[int, Sequence[Process]] = field(default_factory=dict)


def census() -> Census:
    """Look at every process."""
    by_run: dict[str, list[Process]] = {}
    by_session: dict[int, list[Process]] = {}
    for process in processes.everything():
        by_session.setdefault(process.session, []).append(process)
        if run_id := processes.run_id_of(process):
            by_run.setdefault(run_id, []).append(process)
    return Census(by_run=by_run, by_session=by_session)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """A run whose shim is dead: what is on record about it."""

    run_id: str
    agent_pid: int
    agent_start: int
    workspace: Path
    output: str  # the pipe that its processes speak into, as /proc shows it; "" where that is not known
    group: Path | None  # its cgroup

    def among(self, all_: Census) -> list[Process]:
        """Its processes: those in its cgroup, those that carry its id, and those of its agent's session.

        The session's number may belong to strangers by now, so a member counts only while the agent itself lives,
        or where it works in the run's folder or speaks into its log.
        """
        found = [*(cgroups.members(self.group) if self.group else ()), *all_.by_run.get(self.run_id, ())]
        known = {process.pid for process in found}
        others = [p for p in all_.by_session.get(self.agent_pid, ()) if p.pid not in known] if self.agent_pid else []
        if others:
            agent = processes.look(self.agent_pid)
            own = agent is not None and agent.start == self.agent_start
            found += [p for p in others if own or processes.attached(p, folder=self.workspace, output=self.output)]
        return found


def remains_of(folder: RunFolder, run_id: str, *, workspace: Path, log: Path) -> Remains:
    """What is on record about a run whose shim is dead. `log`: the run's."""
    agent = durable.record(folder.agent)
    return Remains(
        run_id=run_id,
        agent_pid=durable.number(agent, "agent_pid"),
        agent_start=durable.number(agent, "agent_start"),
        workspace=workspace,
        output=str((agent or {}).get("output", log)),  # an older version's: the log itself
        group=folder.group(run_id),
    )


def fence(folder: RunFolder, run_id: str, *, now: float) -> RunExit | None:
    """Be the one who creates `started`: then it never started, and a late shim goes home. None: it was there.

    `now` in seconds since the epoch.
    """
    try:
        durable.write(folder.started, b'{"by": "recovery"}')
    except FileExistsError:
        if (durable.record(folder.started) or {}).get("by") != "recovery":
            return None
    except OSError:
        return None
    detail = "the runner ended before it was started"
    return RunExit(run_id=run_id, reason=ExitReason.NOT_STARTED, started=False, detail=detail, ended_at=now)


def clear(remains: Remains, first: Census) -> bool:
    """Kill until nothing of the run is left. False where something still lives."""
    found = remains.among(first)
    dead = [Process(pid=remains.agent_pid, start=remains.agent_start, session=remains.agent_pid)]
    for _ in range(ROUNDS):
        if not found:
            break
        failpoint("remains to be killed")
        if remains.group is not None:
            cgroups.kill(remains.group)  # faster than it can fork
        for process in found:
            processes.kill(process)
        processes.wait_gone(found, seconds=PATIENCE)
        dead += found
        found = remains.among(census())
    for process in dead if processes.adopts() else ():
        processes.collect(process)
    if not found and remains.group is not None:
        cgroups.remove(remains.group)
    return not found


def end_of(
    folder: RunFolder, run_id: str, lease: Mapping[str, object] | None, *, boot_id: str, now: float
) -> RunExit:
    """How a run ended whose shim could not say it. `now` in seconds since the epoch."""
    agent = durable.record(folder.agent)
    leased = lease is not None and lease.get("run_id") == run_id and lease.get("state") == "running"
    request = durable.record(folder.stopping)
    if rebooted(folder, boot_id):
        reason, detail = ExitReason.REBOOT, "the machine was started anew under it"
    elif request is not None:
        reason, detail = _asked(request), "its shim died while it stopped the run"
    else:
        reason, detail = ExitReason.SHIM_DIED, _last_words(folder) or "its shim was killed"
    return RunExit(
        run_id=run_id,
        reason=reason,
        started=agent is not None or leased,
        detail=detail,
        started_at=folder.agent.stat().st_mtime if agent is not None else 0.0,
        ended_at=now,
    )


def rebooted(folder: RunFolder, boot_id: str) -> bool:
    """Whether the run was prepared in an earlier boot."""
    known = (durable.record(folder.run) or durable.record(folder.started) or {}).get("boot_id")
    return isinstance(known, str) and known not in ("", boot_id)


def _asked(request: Mapping[str, object]) -> ExitReason:
    try:
        return ExitReason(str(request.get("reason")))
    except ValueError:
        return ExitReason.STOPPED


def _last_words(folder: RunFolder) -> str:
    try:
        lines = folder.shim_log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f"its shim failed: {lines[-1][:300]}" if lines else ""
