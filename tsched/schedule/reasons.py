"""Why a task does not start, or does: every link from the applied revision to the slot (`tsched why`).

A link holds a task back exactly where `match` would pass it over: tests compare the two. All links but the last are
judged as if no other task were there; the last says whether those before it leave room.
"""

from collections.abc import Iterator
from dataclasses import replace

from tsched.model.reason import Link, Reason
from tsched.model.task import Task, TaskStatus
from tsched.model.units import about, count, iso
from tsched.schedule.admission import able, assignee, caps, pool_open, served
from tsched.schedule.blocking import chain, cycles, mend
from tsched.schedule.order import rested
from tsched.schedule.scene import Scene


def why_task(task: Task, scene: Scene) -> tuple[Reason, ...]:
    """Every link for one task. None of them holds it exactly where the next pass would start it."""
    if task.status is TaskStatus.IDLE and task.id not in {one.id for one in scene.waiting}:
        scene = replace(scene, waiting=(*scene.waiting, task))
    found = (*_revision(scene), *_alone(task, scene))
    return found if any(reason.holds for reason in found) else (*found, _turn(task, scene))


def _alone(task: Task, scene: Scene) -> Iterator[Reason]:
    """What would hold the task if it were the only one."""
    yield from _itself(task, scene)
    if scene.fleet is not None and task.status is TaskStatus.IDLE:
        yield from _who(task, scene)


def _revision(scene: Scene) -> Iterator[Reason]:
    newer = ""
    if (refused := scene.refused) is not None:
        newer = f"revision {refused.revision[:12]} is {refused.how}: {refused.why}"
    held = scene.refused is not None and scene.refused.how == "held"
    mends = "See `tsched plan`, then `tsched accept` or mend it." if held else "`tsched status` says what to mend."
    if scene.fleet is None:
        words = "no revision of a fleet repo is applied" + (f"; {newer}" if newer else "")
        yield Reason(
            kind=Link.REVISION, holds=True, words=words, mend=mends if newer else "Run a pass: `tsched sync`."
        )
    elif newer:
        words = f"revision {scene.fleet.revision[:12]} stays applied, since {newer}"
        yield Reason(kind=Link.REVISION, holds=False, words=words, mend=mends)
    else:
        yield Reason(kind=Link.REVISION, holds=False, words=f"revision {scene.fleet.revision[:12]} is applied")
    if scene.halted:
        yield Reason(
            kind=Link.HALTED, holds=True, words=f"nothing is started: {scene.halted}", mend="`tsched resume`"
        )


def _itself(task: Task, scene: Scene) -> Iterator[Reason]:
    """What the task itself says."""
    yield _status(task)
    if task.status is not TaskStatus.IDLE:
        return
    if task.id in scene.held:
        words = "a run, a lease or a result that the task server has not taken yet still names it"
        yield Reason(kind=Link.CLAIM, holds=True, words=words, mend="It is free once that run is settled.")
    if task.blocked:
        found = chain(task, scene.tasks)
        words = f"it is blocked: {found.words(scene.tasks)}"
        if scene.blocking:
            yield Reason(kind=Link.BLOCKED, holds=True, words=words, mend=mend(found, scene.tasks))
        else:
            yield Reason(kind=Link.BLOCKED, holds=False, words=f"{words}, but blocking is switched off")
    else:
        words = f"its blocker {task.blocked_by} is done" if task.blocked_by is not None else "no task blocks it"
        yield Reason(kind=Link.BLOCKED, holds=False, words=words)
    if not rested(task, scene.now, scene.fleet.limits.retry if scene.fleet is not None else None):
        left = about(task.not_before - scene.now)
        words = f"it backs off after a failed run until {iso(task.not_before)}, for {left} yet"
        mends = f"It goes on by itself; `tsched task show {task.id}` says what failed."
        yield Reason(kind=Link.BACKOFF, holds=True, words=words, mend=mends)


def _status(task: Task) -> Reason:
    by = f" by {task.assigned_to}" if task.assigned_to else ""
    match task.status:
        case TaskStatus.IDLE:
            waits = f"it waits in queue {task.queue}" + (f", assigned to {task.assigned_to}" if by else "")
            return Reason(kind=Link.STATUS, holds=False, words=waits)
        case TaskStatus.WORKING:
            run = f" in run {task.claim_run}" if task.claim_run else ""
            return Reason(kind=Link.STATUS, holds=True, words=f"it is being worked on{by}{run}")
        case TaskStatus.COMPLETE:
            return Reason(kind=Link.STATUS, holds=True, words=f"it is complete{by}")
        case TaskStatus.PARKED:
            words = f"it was given up after {count(task.attempts, 'attempt')} and waits for a person"
            mends = f"See `tsched task show {task.id}`, then `tsched task reopen {task.id}`."
            return Reason(kind=Link.STATUS, holds=True, words=words, mend=mends)
        case TaskStatus.CANCELLED:
            mends = f"`tsched task reopen {task.id}` puts it back."
            return Reason(kind=Link.STATUS, holds=True, words="it is cancelled", mend=mends)


def _who(task: Task, scene: Scene) -> Iterator[Reason]:
    """Who could take it, and what stands in the way of each."""
    if task.assigned_to is None:
        pool = scene.pool_of(task.queue)
        yield served(task.queue, pool, scene)
        agents = () if pool is None else pool.agents
    else:
        home = scene.home_of(task.assigned_to)
        pool, agents = (None, ()) if home is None else (home[0], home[1:])
        yield assignee(task.assigned_to, task.queue, pool, scene)
    if pool is not None:
        yield from pool_open(pool, scene)
        queues = dict.fromkeys((pool.queue, task.queue))  # an agent takes its own tasks from any queue
        yield from able(agents, pool, tuple(queues), scene, priority=task.priority)
        yield from caps(pool, scene)


def _turn(task: Task, scene: Scene) -> Reason:
    """Whether the tasks that a pass looks at before it leave room. Those of agents come first, then the queues'."""
    rank = (task.assigned_to is None, scene.places[task.id])
    before = [one.task.id for one in scene.starts.values() if (not one.assigned, scene.places[one.task.id]) < rank]
    named = ", ".join(before[:5]) + (", …" if len(before) > 5 else "")
    if (start := scene.starts.get(task.id)) is not None:
        after = f", after {count(len(before), 'other')} ({named})" if before else ""
        return Reason(kind=Link.TURN, holds=False, words=f"the next pass gives it to {start.agent}{after}")
    words = f"{count(len(before), 'task comes', 'tasks come')} before it for what is free: {named}"
    mends = "It waits its turn: tasks that block others go first, then higher priority, then older ones."
    return Reason(kind=Link.TURN, holds=True, words=words, mend=mends)


def why_queue(queue: str, scene: Scene) -> tuple[Reason, ...]:
    """Every link for a queue's unassigned tasks as a whole, then what its tasks wait for, counted by kind."""
    found = [*_revision(scene)]
    if scene.fleet is not None:
        pool = scene.pool_of(queue)
        found.append(served(queue, pool, scene))
        if pool is not None:
            found += [*pool_open(pool, scene), *able(pool.agents, pool, (queue,), scene, priority=None)]
            found += caps(pool, scene)
    return (*found, *_crowd(queue, scene))


def _crowd(queue: str, scene: Scene) -> Iterator[Reason]:
    """What the queue's waiting tasks wait for: of each the first link that holds it by itself."""
    waiting = [task for task in scene.waiting if task.queue == queue and task.status is TaskStatus.IDLE]
    if not waiting:
        yield Reason(kind=Link.TASKS, holds=False, words=f"no task waits in queue {queue}")
        return
    starting = [task for task in waiting if task.id in scene.starts]
    above = Link.REVISION if scene.fleet is None else Link.HALTED if scene.halted else Link.TURN
    held: dict[Link, list[Task]] = {}
    for task in waiting:
        if task.id not in scene.starts:
            first = next((reason.kind for reason in _alone(task, scene) if reason.holds), above)
            held.setdefault(first, []).append(task)
    start = count(len(starting), "of them starts", "of them start")
    words = f"{count(len(waiting), 'task waits', 'tasks wait')}, {start} in the next pass"
    mends = "" if starting else "What holds them stands above and below."
    yield Reason(kind=Link.TASKS, holds=not starting, words=words, mend=mends)
    for kind, tasks in held.items():
        ids = ", ".join(task.id for task in tasks[:5]) + (", …" if len(tasks) > 5 else "")
        words = f"{len(tasks)} {_HELD.get(kind, f'held by {kind}')}: {ids}"
        yield Reason(kind=kind, holds=True, words=words, mend=f"`tsched why task {tasks[0].id}` says more.")
    for cycle in cycles(waiting, scene.tasks):
        words = f"tasks block each other in a circle: {' ← '.join((*cycle, cycle[0]))}"
        mends = f"Cancel one of them, such as `tsched task cancel {cycle[-1]}`."
        yield Reason(kind=Link.BLOCKED, holds=True, words=words, mend=mends)


_HELD = {
    Link.CLAIM: "still named by a run that is not settled",
    Link.BLOCKED: "blocked by other tasks",
    Link.BACKOFF: "backing off after a failed run",
    Link.ASSIGNEE: "assigned to somebody who is no agent here",
    Link.FLOOR: "below every free agent's priority_floor",
    Link.SLOTS: "waiting for a free slot",
    Link.TURN: "waiting for those before it",
}
