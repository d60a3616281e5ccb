"""Puts together all that decides whether a task starts, for `tsched why`. Nothing is touched."""

from collections import Counter
from collections.abc import Mapping

from tsched.model.errors import ConfigurationError
from tsched.model.reason import Reason
from tsched.model.task import Task
from tsched.model.units import from_iso
from tsched.observe.status import Report
from tsched.runner.cycle import begin
from tsched.runner.host import Host
from tsched.runner.matching import held_tasks, resting, serving, wanted
from tsched.runner.record import Pass
from tsched.runner.rehearse import borrowed_host
from tsched.schedule.facts import Refused
from tsched.schedule.override import stop_of
from tsched.schedule.reasons import why_queue, why_task
from tsched.schedule.scene import Scene
from tsched.settings import Settings

HOPS = 100  # of a chain of blockers that are looked up


def of_task(settings: Settings, task_id: str) -> tuple[Task, tuple[Reason, ...]]:
    """A task and every link of its chain. Raises ConfigurationError where there is no such task."""
    with borrowed_host(settings, echo=None) as host, host.log.reconciliation_pass() as log:
        known = blockers(host, task_id)
        if task_id not in known:
            raise ConfigurationError(f"there is no task {task_id}: `tsched task list` shows what there is")
        return known[task_id], why_task(known[task_id], scene(begin(host, log), known))


def of_queue(settings: Settings, queue: str) -> tuple[Reason, ...]:
    """Every link of a queue's chain."""
    with borrowed_host(settings, echo=None) as host, host.log.reconciliation_pass() as log:
        return why_queue(queue, scene(begin(host, log), {}, besides=queue))


def blockers(host: Host, task_id: str) -> Mapping[str, Task]:
    """The task with all that it waits for, by id, as far as they exist."""
    known: dict[str, Task] = {}
    asked: str | None = task_id
    while asked is not None and asked not in known and len(known) < HOPS:
        found = host.tasks.get([asked])
        known |= found
        asked = found[asked].blocked_by if asked in found else None
    return known


def scene(p: Pass, known: Mapping[str, Task], *, besides: str | None = None) -> Scene:
    """The moment as a pass would see it. `besides`: a queue that is looked at though nobody may serve it."""
    fleet, settings = serving(p), p.host.settings
    queues, agents = wanted(p.host.kept, fleet)
    waiting = p.host.tasks.waiting(queues={*queues, *filter(None, (besides,))}, agents=agents)
    stop = stop_of(p.overrides, "")
    halted = "TINYSCHEDULER_ENABLED is false" if not settings.enabled else str(stop or "")
    return Scene(
        fleet=fleet,
        now=p.now,
        lifecycles=p.applied.lifecycles,
        waiting=waiting,
        known=known,
        running_by_agent=Counter(run.agent for run in p.runs.values()),
        running_by_queue=Counter(run.queue for run in p.runs.values()),
        running=len(p.runs),
        held=held_tasks(p),
        resting={} if fleet is None else resting(p, fleet),
        breakers=p.breakers,
        refused=refused(p.last),
        halted=halted,
        overrides=p.overrides,
        blocking=not settings.disable_blocking,
    )


def refused(last: Report) -> Refused | None:
    """The tip that the last pass did not put in force."""
    since = {one["type"]: from_iso(one["since"]) for one in last["conditions"]}
    if (rejected := last["rejected"]) is not None:
        first = rejected["diagnostics"][0]
        why = f"{first['path']}:{first['line']}:{first['column']}: {first['message']}"
        return Refused(revision=rejected["revision"], how="rejected", why=why, since=since.get("Valid", 0.0))
    if (held := last["held"]) is not None:
        return Refused(revision=held["revision"], how="held", why=held["reason"], since=since.get("Held", 0.0))
    return None
