"""Step 6: make a sound revision the applied one, atomically, or record why not."""

from collections.abc import Sequence, Set

from tsched.executors.executor import Liveness
from tsched.model.diagnostic import Diagnostic, Severity
from tsched.model.fleet import Fleet
from tsched.model.kept import Kept, words_of
from tsched.model.lifecycle import AgentState, Lifecycles
from tsched.model.units import count
from tsched.model.words import describe, value
from tsched.observe.entries import Level
from tsched.observe.log import registry_lines
from tsched.runner.fleets import HostFiles
from tsched.runner.legacy import standing
from tsched.runner.operator import keep_operator_folder
from tsched.runner.override import carry, show
from tsched.runner.record import Pass
from tsched.runner.revise import Held, Ready, Rejected, Unchanged, select
from tsched.runner.roster import names, queues
from tsched.schedule.drain import adopt as rows_after
from tsched.state import applied as applied_store
from tsched.state import verdicts


def adopt(p: Pass) -> None:
    """Act on the verdict about the fetched tip."""
    match p.verdict:
        case Ready() as ready:
            _apply(p, ready)
        case Rejected() as rejected:
            _reject(p, rejected)
        case Held() as held:
            _hold(p, held)
        case Unchanged(problem=str() as problem):
            if not p.verdict.known:
                p.error("remote", f"Fetch failed, the applied revision keeps running: {problem}")
        case Unchanged() | None:
            pass
    registry(p)
    _selector(p)
    keep_operator_folder(p)
    with p.guarded("agent-control.json", kind="override"):
        show(p)


def registry(p: Pass) -> None:
    """The applied fleet where the guide looks for it in the log."""
    source, fleet = p.host.source, p.applied.fleet
    if isinstance(source, HostFiles):
        standing(p, source)
    elif fleet is not None:
        p.host.log.standing(p.host.kept(_registered, p.host.kept, fleet, f"{source.shown} at {fleet.revision[:12]}"))


def _registered(kept: Kept, fleet: Fleet, source: str) -> Sequence[tuple[Level, str]]:
    agents = names(kept, fleet, of="applied")
    return kept(_registry, agents, queues(fleet), source)


def _registry(agents: Sequence[str], served: str, source: str) -> Sequence[tuple[Level, str]]:
    return registry_lines(source=source, agents=agents, queues=words_of(served))


def _selector(p: Pass) -> None:
    """What TSCHED_POOLS asks for and the fleet lacks: most likely misspelt, and then nothing is served."""
    fleet, wanted = p.applied.fleet, p.host.settings.pools
    if fleet is None or not wanted:
        return
    names = [pool.name for pool in fleet.pools]
    for unknown in sorted(set(wanted.names) - set(names)):
        p.log.warning(f"TSCHED_POOLS names {unknown!r}, but the applied fleet's pools are {', '.join(names)}")
    if wanted.terms and not any(wanted.labelled(pool) for pool in fleet.pools):
        terms = ",".join(map(str, wanted.terms))
        shown = ", ".join(f"{pool.name} ({value('labels', pool.labels)})" for pool in fleet.pools)
        p.log.warning(f"TSCHED_POOLS asks for {terms}, but the labels of the applied fleet's pools are {shown}")


def _apply(p: Pass, ready: Ready) -> None:
    old = p.applied
    wanted = select(ready.fleet, p.host.settings.pools)
    rows = rows_after(old.lifecycles, old.fleet, wanted, now=p.now)
    stuck = _recall(p, old.lifecycles, rows)
    if stuck:
        rows = rows_after(old.lifecycles, old.fleet, wanted, now=p.now, stopping=stuck)
    for diagnostic in ready.warnings:
        p.log.warning(str(diagnostic))
    for change in ready.plan.changes:
        p.event(f"change.{change.kind}", change.subject, describe(change), revision=ready.tip)
    signed = "" if ready.signer is None else f", signed by {ready.signer}"
    with p.commit():
        version = p.host.db.version
        p.applied = applied_store.adopt(p.host.db, old, fleet=ready.fleet, lifecycles=rows)
        carry(p, old.fleet, ready.fleet)
        p.event(
            "revision.applied", f"revision/{ready.tip}",
            f"generation {p.applied.generation}: {count(len(ready.plan.changes), 'change')}{signed}",
            generation=p.applied.generation,
        )  # fmt: skip
        for row in rows.leaving:
            if row.state is AgentState.CORDONED and old.lifecycles.get(row.key) != row:
                p.event("agent.cordoned", f"agent/{row.agent}", f"{row.agent} in {row.queue}: takes no new task")
    applied_store.adopted(p.host.db, p.applied, version)
    p.adopted = True
    p.host.kept.forget(_queues(old.fleet) - _queues(ready.fleet))
    p.log.info(f"Applied revision {ready.tip[:12]}, generation {p.applied.generation}{signed}")


def _queues(fleet: Fleet | None) -> Set[str]:
    return {pool.queue for pool in fleet.pools} if fleet is not None else set()


def _recall(p: Pass, before: Lifecycles, after: Lifecycles) -> frozenset[tuple[str, str]]:
    """Take back the stop requests of agents that were added again; those where it was too late must finish first."""
    stuck = set()
    for row in before.leaving:
        key = row.key
        leaving = row.state in (AgentState.CORDONED, AgentState.DRAINING, AgentState.STOPPING) and not row.again
        if not leaving or not (after[key].state is AgentState.ACTIVE or after[key].again):
            continue
        for run_id, run in p.runs.items():
            live = (run.agent, run.queue) == key and p.liveness[run_id] is Liveness.ALIVE
            if live and not p.host.executor.recall(run_id):
                stuck.add(key)
    return frozenset(stuck)


def _reject(p: Pass, rejected: Rejected) -> None:
    first = _first(rejected.diagnostics)
    p.error("revision", f"Revision {rejected.tip[:12]} rejected, the applied one keeps running: {first}")
    if not rejected.known:
        p.event("revision.rejected", f"revision/{rejected.tip}", first, revision=rejected.tip)
        with p.commit():
            verdicts.remember(p.host.db, rejected.content_key, rejected.diagnostics, time=p.now)


def _hold(p: Pass, held: Held) -> None:
    p.log.warning(f"Revision {held.tip[:12]} held: {held.reason}")
    if p.last["held"] is None or p.last["held"]["revision"] != held.tip:
        p.event("revision.held", f"revision/{held.tip}", held.reason, revision=held.tip)


def _first(diagnostics: Sequence[Diagnostic]) -> str:
    """The first error in words, and how many findings there are besides."""
    first = next((one for one in diagnostics if one.severity is Severity.ERROR), diagnostics[0])
    more = f" (and {count(len(diagnostics) - 1, 'more finding')})" if len(diagnostics) > 1 else ""
    return f"{first}{more}"
