"""Step 9: start what was matched, each by itself: lease first, then the claim, then the process."""

import secrets
from collections.abc import Mapping, Sequence

from tsched.executors.executor import Again, Launch, Liveness
from tsched.model.errors import ConfigurationError, TransientError, disk_refuses
from tsched.model.fleet import Agent, Evidence, Fleet, Keep, Pool, Session
from tsched.model.run import ExitReason, Lease, LeaseState, Run, RunExit
from tsched.model.runtimes import runtime_of, with_goose
from tsched.model.task import Task
from tsched.model.units import count, iso
from tsched.observe import messages
from tsched.runner.matching import serving
from tsched.runner.record import Pass
from tsched.runner.settle import settle
from tsched.schedule.match import Assignment
from tsched.schedule.override import admitted
from tsched.state import history, overrides


def launch(p: Pass, assignments: Sequence[Assignment]) -> None:
    """Start each assignment. One that can't be started is its own matter; the others go on."""
    fleet = serving(p)
    if fleet is None or not assignments:
        return
    begun: list[tuple[Assignment, Run]] = []
    try:
        _launch_each(p, fleet, assignments, begun)
    finally:  # whatever broke it off, what was started before is there
        _confirm(p, begun)


def _confirm(p: Pass, begun: Sequence[tuple[Assignment, Run]]) -> None:
    refused: Mapping[str, TransientError] = {}
    with p.guarded("what was started", kind="start"):
        refused = p.host.executor.confirm()
    if refused:
        p.fault("start", f"{count(len(refused), 'run')} could not be started: {{}}", next(iter(refused.values())))
    for assignment, run in begun:
        if run.run_id in refused:
            p.liveness[run.run_id] = Liveness.LOST
        else:
            _started(p, assignment, run)


def _launch_each(
    p: Pass, fleet: Fleet, assignments: Sequence[Assignment], begun: list[tuple[Assignment, Run]]
) -> None:
    """`begun` gets the runs that the executor was asked to start. Whether they did is known once it confirms it."""
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
    p.added = True
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
