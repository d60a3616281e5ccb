"""Steps 8 and 9: match ready tasks to free slots, then start each: lease first, then the claim, then the process."""

import secrets
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from tsched.executors.executor import Again, Launch, Liveness
from tsched.model.errors import ConfigurationError, TransientError, disk_refuses
from tsched.model.fleet import Agent, Evidence, Fleet, Keep, Pool, Recipe, Session
from tsched.model.kept import Kept
from tsched.model.lifecycle import Lifecycles
from tsched.model.run import ExitReason, Lease, LeaseState, Run, RunExit
from tsched.model.runtimes import runtime_of, with_goose
from tsched.model.selector import Selector
from tsched.model.task import Task
from tsched.model.units import count, iso
from tsched.observe import messages
from tsched.runner import backlog
from tsched.runner.agree import say_odd
from tsched.runner.record import Pass
from tsched.runner.revise import select
from tsched.runner.roster import names
from tsched.runner.settle import settle
from tsched.schedule.breaker import allowed
from tsched.schedule.match import Assignment, Capacity, match, room
from tsched.schedule.order import Ordered
from tsched.schedule.override import admitted
from tsched.schedule.standstill import Room, room_for
from tsched.state import history, overrides


def serving(p: Pass) -> Fleet | None:
    """The applied fleet as this runner serves it: its pools alone, host overrides in place.

    Where the guard holds a narrower TSCHED_POOLS back, those that it leaves out still have active agents: they stay.
    """
    if p.applied.fleet is None:
        return None
    settings = p.host.settings
    return p.host.kept(_serving, p.applied.fleet, p.applied.lifecycles, settings.pools, settings.agent_limits)


def _serving(fleet: Fleet, lifecycles: Lifecycles, pools: Selector, limits: Mapping[str, int]) -> Fleet:
    served = select(fleet, pools, besides=lifecycles.admitting) if pools else fleet
    return overridden(served, limits)


def overridden(fleet: Fleet, limits: Mapping[str, int]) -> Fleet:
    """Limits given on the command line win over git, for this process alone."""
    if not limits:
        return fleet
    pools = tuple(
        replace(pool, agents=tuple(replace(a, limit=limits.get(a.name, a.limit)) for a in pool.agents))
        for pool in fleet.pools
    )
    return replace(fleet, pools=pools)


def find_work(p: Pass) -> tuple[Assignment, ...]:
    """Decide what would start now. Reads the task server, changes nothing, says what it saw."""
    fleet = serving(p)
    if fleet is None:
        return ()
    if not p.host.settings.enabled:
        p.log.warning("TINYSCHEDULER_ENABLED is false: nothing new is started")
        return ()
    kept, rows = p.host.kept, p.applied.lifecycles
    queues, agents = kept(wanted, kept, fleet)
    waiting = p.waiting = p.host.tasks.waiting(queues=queues, agents=agents)
    say_odd(p)
    blocking, retry = not p.host.settings.disable_blocking, fleet.limits.retry
    ordered = backlog.ordered(kept, waiting, p.now, blocking=blocking, retry=retry)
    rests, runs = resting(p, fleet), p.every_run()
    slots = backlog.free_slots(
        kept, fleet, rows, runs=runs, now=p.now, resting=rests, overrides=overrides.load(p.host.db)
    )
    _say(p, waiting, ordered, slots)
    held, left = held_tasks(p), room(fleet.limits.max_running, len(runs))
    p.room = kept(_room, ordered.ready, slots, held, kept(backlog.by_queue, runs), left)
    most, resting_now = fleet.limits.spawn_per_cycle, frozenset(rests.items())
    return kept(_matched, ordered.ready, slots, rows, held, left, most, resting_now)


def _room(
    ready: Sequence[Task], slots: Sequence[Capacity], held: frozenset[str], running: Mapping[str, int],
    left: int | None,
) -> Room:  # fmt: skip
    return room_for(ready, slots, held=held, running_by_queue=running, fleet_free=left)


def _matched(
    ready: Sequence[Task], slots: Sequence[Capacity], rows: Lifecycles, held: frozenset[str], left: int | None,
    most: int | None, resting: frozenset[tuple[str, int]],
) -> tuple[Assignment, ...]:  # fmt: skip
    return match(ready, slots, lifecycles=rows, held=held, fleet_free=left, most=most, resting=dict(resting))


def wanted(kept: Kept, fleet: Fleet | None) -> tuple[Sequence[str], Sequence[str]]:
    """The queues and the agents whose tasks a pass asks for."""
    if fleet is None:
        return (), ()
    return [pool.queue for pool in fleet.pools if not pool.own_only], names(kept, fleet, of="served")


def held_tasks(p: Pass) -> frozenset[str]:
    """Tasks that a run, a lease or an undelivered result still names: never matched, whatever their status says."""
    undelivered = frozenset(result.run.task_id for result in history.unacknowledged(p.host.db))
    leased = p.leased if p.leased is not None else p.host.leases.scan().tasks
    return p.host.kept(_held, leased, undelivered, p.every_run())


def _held(leased: frozenset[str], undelivered: frozenset[str], runs: Sequence[Run]) -> frozenset[str]:
    return leased | undelivered | {run.task_id for run in runs}


def resting(p: Pass, fleet: Fleet) -> dict[str, int]:
    """Recipes whose breaker is open, and how many more of their runs may start: none of one that is not there."""
    running = Counter(run.recipe for run in p.runs.values() if p.breakers)
    found = dict.fromkeys(p.host.kept(_absent, p.host.kept, fleet), 0)
    for path, breaker in p.breakers.items():
        recipe = fleet.recipes.get(path)
        more = allowed(breaker, running=running[path], now=p.now)
        if recipe is not None and recipe.content == breaker.content and more is not None:
            found[path] = more
    return found


def _absent(kept: Kept, fleet: Fleet) -> Collection[str]:
    return list(chain.from_iterable(kept.each(_absent_in, fleet.pools, fleet.recipes)))


def _absent_in(pool: Pool, recipes: Mapping[str, Recipe]) -> Collection[str]:
    return [agent.recipe for agent in pool.agents if agent.recipe not in recipes]


def _say(p: Pass, waiting: Sequence[Task], ordered: Ordered, slots: Sequence[Capacity]) -> None:
    """The queue's part of the operator's log, word for word as the guide's greps want it."""
    p.log.routine(backlog.log_lines(p.host.kept, waiting, ordered.blocked, slots))
    if ordered.blocks:
        p.log.info(messages.prioritizing(len(ordered.blocks)))
        for task_id, number in ordered.blocks.items():
            p.log.info(messages.blocks(task_id, number))
    blocked = sum(ordered.blocked.values())
    p.log.info(messages.blocked_skipped(blocked))
    p.log.count(blocked_skipped=blocked)


def launch(p: Pass, assignments: Sequence[Assignment]) -> None:
    """Start each assignment. One that can't be started is its own matter; the others go on."""
    fleet = serving(p)
    if fleet is None or not assignments:
        return
    begun = _launch_each(p, fleet, assignments)
    refused = p.host.executor.confirm()
    if refused:
        p.fault("start", f"{count(len(refused), 'run')} could not be started: {{}}", next(iter(refused.values())))
    for assignment, run in begun:
        if run.run_id in refused:
            p.liveness[run.run_id] = Liveness.LOST
        else:
            _started(p, assignment, run)


def _launch_each(p: Pass, fleet: Fleet, assignments: Sequence[Assignment]) -> Sequence[tuple[Assignment, Run]]:
    """The runs that the executor was asked to start. Whether they did is known once it confirms it."""
    begun: list[tuple[Assignment, Run]] = []
    places = {agent.name: (pool, agent) for pool, agent in fleet.agents()}
    for assignment in assignments:
        pool, agent = places[assignment.agent]
        if p.host.server.resting():
            break
        with p.guarded(f"task {assignment.task.id}", kind="start"):
            if not admitted(overrides.load(p.host.db), pool.queue, agent.name):  # stopped since it was matched
                continue
            try:
                run = _launch(p, fleet, pool, agent, assignment)
            except (OSError, TransientError) as error:
                if disk_refuses(error):
                    p.fault("start", f"task {assignment.task.id}, and what else could start: {{}}", error)
                    break
                raise
            if run is not None:
                begun.append((assignment, run))
    return begun


def _launch(p: Pass, fleet: Fleet, pool: Pool, agent: Agent, assignment: Assignment) -> Run | None:
    """Prepared, then the lease, then the claim, then the process (DESIGN section 4). None where none is started."""
    host, task = p.host, assignment.task
    again = _again(p, fleet, pool, agent, task)
    run = _run(p, fleet, pool, agent, task, again)
    lease = _lease(p, run)
    host.leases.path(task.id)  # an id that can't be a file name is refused before anything is written
    refusal = _prepare(p, fleet, pool, agent, task, run, lease, again)
    host.leases.write(lease)
    claimed = host.tasks.claim(task, agent=agent.name, run_id=run.run_id, runner_id=host.runner_id)
    if claimed is None:
        p.log.info(f"Task {task.id} was taken or changed meanwhile")
        host.leases.remove(task.id, run.run_id)
        host.executor.discard(run.run_id, succeeded=False)
        return None
    p.log.info(messages.assigning(task.id, pool.queue, agent.name))
    if refusal is not None:
        p.error("start", f"Failed to spawn agent '{agent.name}' for task {task.id}: {refusal}")
        end = RunExit(
            run_id=run.run_id, reason=ExitReason.START_FAILED, started=False, detail=refusal, ended_at=p.now
        )
        settle(p, run, end, claimed)
        return None
    host.executor.start(run.run_id)
    p.runs[run.run_id] = run
    p.liveness[run.run_id] = Liveness.ALIVE
    return run


def _started(p: Pass, assignment: Assignment, run: Run) -> None:
    p.started[run.task_id] = run
    mine = "assigned_spawned" if assignment.assigned else "unassigned_matched"
    p.log.count(tasks_spawned=1, **{mine: 1})
    p.event(
        "run.started", f"task/{run.task_id}",
        f"{run.agent} {'goes on with' if run.session else 'starts'} task {run.task_id}, attempt {run.attempt}",
        run_id=run.run_id, agent=run.agent, attempt=run.attempt,
    )  # fmt: skip


def _again(p: Pass, fleet: Fleet, pool: Pool, agent: Agent, task: Task) -> Again | None:
    """The conversation that a run goes on with: the agent's newest on this task, with the recipe as it is now."""
    runtime = runtime_of(agent.runtime, fleet.limits.runtimes)
    if agent.session is Session.FRESH or runtime is None or not runtime.resume or not task.runs:
        return None  # with no runs the task begins anew, whatever was tried before
    started = (one for one in reversed(history.of_task(p.host.db, task.id)) if one.exit.started)
    last = next(started, None)  # one that never got to start changed nothing
    if last is None or not last.session:
        return None
    same = (last.run.agent, last.run.runtime, last.run.content)
    if same != (agent.name, agent.runtime, fleet.recipes[agent.recipe].content):
        return None
    if not p.host.executor.resumable(last.run, pool.workspace):
        return None
    return Again(session=last.session, before=last.run, ended=last.reason)


def _prepare(
    p: Pass, fleet: Fleet, pool: Pool, agent: Agent, task: Task, run: Run, lease: Lease, again: Again | None
) -> str | None:
    """Write down all that the run needs. Returns why it can never start on this machine, None where it can."""
    runtime = runtime_of(agent.runtime, fleet.limits.runtimes)
    if runtime is None:
        return f"the runtime {agent.runtime} is not known to this version of tsched"
    settings = p.host.settings
    try:
        p.host.executor.prepare(
            Launch(
                run=run,
                task=task,
                lease=lease,
                recipe=fleet.recipes[agent.recipe],
                runtime=with_goose(runtime, settings.goose_bin),
                max_runtime=settings.max_runtime or agent.max_runtime,
                stall=agent.stall,
                resources=agent.resources,
                slurm=agent.slurm,
                kubernetes=agent.kubernetes,
                stop_grace=fleet.limits.stop_grace,
                heartbeat=settings.heartbeat or fleet.limits.heartbeat,
                workspace=pool.workspace,
                again=again,
            )
        )
    except ConfigurationError as error:
        return str(error)
    return None


def _run(p: Pass, fleet: Fleet, pool: Pool, agent: Agent, task: Task, again: Again | None) -> Run:
    runtime = runtime_of(agent.runtime, fleet.limits.runtimes)
    attempt = task.attempts + 1
    return Run(
        run_id=f"{task.id[:40]}-{task.runs + 1}-{secrets.token_hex(5)}",
        task_id=task.id,
        agent=agent.name,
        pool=pool.name,
        queue=pool.queue,
        attempt=attempt,
        revision=fleet.revision,
        executor=str(agent.executor),
        recipe=agent.recipe,
        runtime=agent.runtime,
        evidence=str(runtime.evidence if runtime is not None else Evidence.TASK),
        created_at=p.now,
        keep=str(pool.workspace.keep if pool.workspace is not None else Keep.NEVER),
        workspace_repo=pool.workspace.repo if pool.workspace is not None else "",
        content=fleet.recipes[agent.recipe].content,
        response=fleet.recipes[agent.recipe].response,
        assigned_before=task.assigned_to,
        title=task.title,
        queued_at=task.created_at,
        first=task.runs == 0,
        keeps_session=agent.session is Session.CONTINUE and runtime is not None and bool(runtime.resume),
        session=again.session if again is not None else "",
    )


def _lease(p: Pass, run: Run) -> Lease:
    moment = iso(p.now)
    return Lease(
        task_id=run.task_id,
        agent=run.agent,
        pid=0,
        recipe=run.recipe.removeprefix("recipes/"),
        started_at=moment,
        heartbeat=moment,
        host=p.host.settings.hostname,
        state=LeaseState.CLAIMING,
        run_id=run.run_id,
        attempt=run.attempt,
        revision=run.revision,
        pool=run.pool,
        queue=run.queue,
        executor=run.executor,
    )
