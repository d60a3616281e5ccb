"""The configuration audit, judged: what should be and what is, compared; one finding for each thing that drifted.

`fail` is drift, `warn` what a person should know though nothing drifted. Times: seconds since the epoch.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

from tsched.model.finding import Finding, fail, ok, shortened, warn
from tsched.model.fleet import Fleet
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.records import dataclass
from tsched.model.task import QueueDepth, Task
from tsched.model.units import about, count

STUCK = 120.0  # seconds past the time when an agent should be a step further
HANDING_BACK = 3600.0  # seconds that a drained agent may wait for the task server
Key = tuple[str, str]  # agent, queue


def told(check: str, found: Iterable[Finding], otherwise: str) -> tuple[Finding, ...]:
    """The findings of a check, or that all is well there."""
    return tuple(found) or (ok(check, otherwise),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """The remote's newest commit. `rows`: what applying it would change, a line each. `problem`: why none."""

    revision: str | None = None
    rows: Sequence[str] = ()
    problem: str | None = None


def tip(applied: str | None, newest: Tip, *, held: str | None) -> Iterator[Finding]:
    """Whether the remote's newest commit is in force. `held`: why it waits for a person."""
    if newest.revision is None:
        yield fail("tip", newest.problem or "the remote has no newest commit", "mend the remote, or TSCHED_REPO")
        return
    name = newest.revision[:12]
    if applied == newest.revision:
        return
    here = "nothing is applied" if applied is None else f"{applied[:12]} is applied"
    if newest.problem is not None:
        yield fail("tip", f"the newest commit {name} can't be applied: {newest.problem}", "mend it and push")
        return
    why = f" (held: {held})" if held is not None else ""
    mend = f"look at it, then `tsched accept {name}`" if held is not None else "`tsched sync` applies it"
    yield fail("tip", f"the newest commit {name} is not applied, {here}{why}", mend)
    for row in newest.rows:
        yield fail("tip", row, mend)


def control_file(text: str | None, fleet: Fleet | None, *, left_out: Collection[str] = ()) -> Iterator[Finding]:
    """Whether agent-control.json shows the applied fleet. `text`: None where there is no such file.

    `left_out`: agents that an operator drains here, which it does not show.
    """
    mend = "the next pass writes it anew: `tsched sync`; change agents in git"
    if fleet is None:
        return
    if text is None:
        yield fail("control file", "there is no agent-control.json", mend)
        return
    try:
        shown = {str(row["agentName"]): str(row["agentType"]) for row in json.loads(text)}
    except (ValueError, TypeError, KeyError) as error:
        yield fail("control file", f"agent-control.json is no list of agents ({error})", mend)
        return
    wanted = {agent.name: pool.queue for pool, agent in fleet.agents() if agent.name not in left_out}
    for name in sorted(wanted.keys() - shown.keys()):
        yield fail("control file", f"{name} is applied but not shown", mend)
    for name in sorted(shown.keys() - wanted.keys()):
        yield fail("control file", f"{name} is shown but not in the applied fleet", mend)
    for name in sorted(name for name in wanted.keys() & shown.keys() if wanted[name] != shown[name]):
        yield fail("control file", f"{name} is shown in {shown[name]} but serves {wanted[name]}", mend)


def lifecycles(rows: Iterable[Lifecycle], fleet: Fleet | None, *, grace: float, now: float) -> Iterator[Finding]:
    """Whether agents stand where the fleet wants them. `fleet`: the part served here; `grace`: its stop_grace."""
    wanted = {(agent.name, pool.queue) for pool, agent in fleet.agents()} if fleet is not None else set()
    known = {row.key: row for row in rows}
    for agent, queue in sorted(wanted - known.keys()):
        yield fail("agents", f"{agent} is in the fleet but has no state in queue {queue}", "`tsched sync`")
    for row in known.values():
        yield from _row(row, row.key in wanted, grace=grace, now=now)


def _row(row: Lifecycle, wanted: bool, *, grace: float, now: float) -> Iterator[Finding]:
    if row.state is AgentState.ACTIVE:
        if not wanted:
            yield fail(
                "agents", f"{row.agent} is active in queue {row.queue}, where no fleet has it", "`tsched sync`"
            )
        return
    words = f"{row.agent} in queue {row.queue} is {row.state}, for {about(now - row.since)}"
    if row.state is AgentState.DRAINED:
        judge = fail if row.deadline is not None and now - row.deadline > HANDING_BACK else warn
        mend = "its tasks are handed back and it goes, once the task server has taken all results"
        yield judge("agents", words, mend)
        return
    late = now - row.deadline - grace if row.deadline is not None else 0.0
    if late > STUCK and row.policy is not None and str(row.policy.on_deadline) != "wait":
        yield fail("agents", f"{words}, {about(late)} past its deadline", "see that the runner runs: `tsched doctor`")
    else:
        yield warn("agents", words, "nothing: it goes by itself when its runs have ended")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """A lease. `descends`: whether the applied revision descends from its own; None: nobody knows."""

    task_id: str
    agent: str
    queue: str
    revision: str
    descends: bool | None


def runs(found: Iterable[RunFacts], fleet: Fleet | None, rows: Collection[Key]) -> Iterator[Finding]:
    """Whether each run belongs to an agent of the fleet, or one that drains, and to a revision of its history."""
    wanted = {(agent.name, pool.queue) for pool, agent in fleet.agents()} if fleet is not None else set()
    for one in found:
        words = f"task {one.task_id} runs by {one.agent} in queue {one.queue}"
        if (one.agent, one.queue) not in wanted and (one.agent, one.queue) not in rows:
            mend = f"stop it: kill $(jq -r .pid state/running/task_{one.task_id}.json)"
            yield fail("runs", f"{words}, which is no agent of the fleet", mend)
        elif one.descends is False:
            yield warn("runs", f"{words} at {one.revision[:12]}, which is no longer in the branch's history", "none")


def host(notes: Iterable[str], limits: Mapping[str, int], fleet: Fleet | None) -> Iterator[Finding]:
    """What this host's settings say beside git. `limits`: its own limits by agent."""
    for note in notes:
        yield warn("settings", note, "take it out of the environment or the env file, or change git")
    known = {agent.name: agent.limit for _, agent in fleet.agents()} if fleet is not None else {}
    for name, slots in limits.items():
        if name not in known:
            yield fail("settings", f"this host limits {name}, which is no agent{_near(name, known)}", "take it out")
        elif known[name] != slots:
            yield warn("settings", f"this host gives {name} {slots} slots, git {known[name]}", "make the two agree")


def fleet_itself(fleet: Fleet | None) -> Iterator[Finding]:
    """What the applied fleet says that can't be meant for long: recipes that are absent, nobody to do the work."""
    if fleet is None:
        yield fail("fleet", "no fleet is applied", "push a sound one, then `tsched sync`")
        return
    for pool in fleet.pools:
        if not pool.agents:
            yield warn("fleet", f"pool {pool.name} has no agent", "add one: `tsched agent add`")
        for agent in pool.agents:
            if agent.recipe not in fleet.recipes:
                yield fail("fleet", f"{agent.name} names {agent.recipe}, which is absent", "add it and push")
            if agent.limit == 0:
                yield warn("fleet", f"{agent.name} has limit 0: it gets no task", "give it a slot, or remove it")


def queues(depths: Iterable[QueueDepth], fleet: Fleet | None) -> Iterator[Finding]:
    """Queues that hold tasks and that no agent of the fleet serves."""
    served = [pool.queue for pool in fleet.pools if pool.agents] if fleet is not None else []
    for one in depths:
        if one.idle and one.name not in served:
            words = f"{count(one.idle, 'task')} in queue {one.name!r}, which nobody serves{_near(one.name, served)}"
            yield fail("queues", words, "add agents for it, or move the tasks")


def assigned(tasks: Iterable[Task], fleet: Fleet | None, rows: Iterable[Key]) -> Iterator[Finding]:
    """Waiting tasks that are assigned to nobody there is."""
    known = {agent.name for _, agent in fleet.agents()} if fleet is not None else set()
    known |= {agent for agent, _ in rows}  # what a drained agent has is handed back
    lost: dict[str, list[str]] = {}
    for task in tasks:
        if task.assigned_to is not None and task.assigned_to not in known:
            lost.setdefault(task.assigned_to, []).append(task.id)
    for name, ids in sorted(lost.items()):
        words = f"{count(len(ids), 'task')} assigned to {name!r}, which is no agent{_near(name, known)}"
        yield fail("tasks", f"{words}: {shortened(ids)}", "reassign them, or add the agent")


def leftovers(kept: Sequence[str], salvaged: Sequence[str]) -> Iterator[Finding]:
    """What runs left for a person. `salvaged`: refs of work that was saved."""
    if kept:
        mend = "`tsched workspace list` says why, `tsched workspace remove` saves and removes"
        yield warn("leftovers", f"{count(len(kept), 'work folder')} kept: {shortened(kept)}", mend)
    if salvaged:
        words = f"{count(len(salvaged), 'run')} left unsaved work that was saved: {shortened(salvaged)}"
        yield warn("leftovers", words, "fetch what is wanted (the task's comment says how), then delete the ref")


def _near(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), 1)
    return f": is {near[0]!r} meant?" if near else ""
