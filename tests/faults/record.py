"""What the record says afterwards: was every task ended, once, by runs that never overlapped, and nothing left?"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.machine import ENDED, Machine, processes
from tsched.executors import cgroups
from tsched.model.run import ExitReason, Outcome, RunExit
from tsched.model.task import Verdict
from tsched.state import applied, events, history
from tsched.state.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a campaign came to. `lost`, `duplicated`, `leaked`: one line for each thing that must not be."""

    faults: int
    tasks: int
    lost: Sequence[str] = ()
    duplicated: Sequence[str] = ()
    leaked: Sequence[str] = ()
    unreached: Sequence[str] = field(default=())  # fail-points that the work did not pass this time

    @property
    def sound(self) -> bool:
        """Whether the promise held."""
        return not (self.lost or self.duplicated or self.leaked)

    def __add__(self, other: "Report") -> "Report":
        return Report(
            faults=self.faults + other.faults,
            tasks=self.tasks + other.tasks,
            lost=[*self.lost, *other.lost],
            duplicated=[*self.duplicated, *other.duplicated],
            leaked=[*self.leaked, *other.leaked],
            unreached=[*self.unreached, *other.unreached],
        )

    def __str__(self) -> str:
        return (
            f"faults={self.faults} tasks={self.tasks} "
            f"lost={len(self.lost)} duplicated={len(self.duplicated)} leaked={len(self.leaked)}"
        )


def examined(machine: Machine, *, faults: int) -> Report:
    """Look at everything once all tasks should have ended. The daemon still runs."""
    probes = [machine.add("work", assign=agent) for agent in ("ada", "ben") for _ in range(2)]
    machine.until_ended(*probes)  # a slot that leaked would hold one of them up for ever
    machine.stop()
    lost, duplicated = _ends(machine)
    unknown, twice = _witnessed(machine)
    return Report(
        faults=faults, tasks=len(machine.tasks), lost=[*lost, *unknown, *_adoptions(machine)],
        duplicated=[*duplicated, *twice],
        leaked=_leaks(machine),
    )  # fmt: skip


def _ends(machine: Machine) -> tuple[list[str], list[str]]:
    """Each task's results: none that ended it, and more than one."""
    lost, twice = [], []
    with closing(_database(machine)) as db:
        for task_id in machine.tasks:
            task = machine.task(task_id)
            results = sorted(history.of_task(db, task_id), key=lambda one: one.run.created_at)
            ends = [one for one in results if one.settlement.verdict in (Verdict.COMPLETE, Verdict.PARK)]
            words = f"task {task_id} {task.title!r} is {task.status}: {[str(one.outcome) for one in results]}"
            if task.status not in ENDED or (not ends and task.status != "cancelled"):
                lost.append(words)
            if len(ends) > 1 or (ends and ends[-1] is not results[-1]):
                twice.append(words)
            if any(not one.acknowledged for one in results):
                lost.append(f"{words}, and the task server was not told")
            told = [one.text for one in machine.queue.comments(task_id)]
            for one in results:
                number = sum(text.startswith(f"run {one.run.run_id} by ") for text in told)
                if number > 1:
                    twice.append(f"{words}, told {number} times of {one.run.run_id}")
                if number == 0 and one.outcome is not Outcome.COMPLETE:
                    lost.append(f"{words}, nobody was told of {one.run.run_id}")
    return lost, twice


def _adoptions(machine: Machine) -> list[str]:
    """Generations without their one event: an adoption and what it says of itself are one record."""
    with closing(_database(machine)) as db:
        last = applied.load(db).generation
        known = [one for _, one in events.read(db, limit=1_000_000) if one.kind == "revision.applied"]
    said = [int(str(one.fields["generation"])) for one in known]
    whole = said[-1:] == [last] and said == list(range(said[0], last + 1))  # the oldest go, some day
    return [] if whole else [f"generation {last} is applied, events tell of {said}"]


def _witnessed(machine: Machine) -> tuple[list[str], list[str]]:
    """What the agents themselves saw, held against the history: runs that it lacks, and what was done twice."""
    with closing(_database(machine)) as db:
        results = {one.run.run_id: one for task_id in machine.tasks for one in history.of_task(db, task_id)}
    return contradictions(machine.said().splitlines(), {run_id: one.exit for run_id, one in results.items()})


def contradictions(journal: Sequence[str], exits: Mapping[str, RunExit]) -> tuple[list[str], list[str]]:
    """Lines of a journal (`start TASK RUN`, `end TASK RUN`, `overlap TASK RUN`) that break the promise.

    Lost: a run without a record, or whose record says that it never began. Twice: two runs at once, one run that was
    started twice, and a task that was started again though a run of it had come to its end by itself.
    """
    lost, twice = [], [line for line in journal if line.startswith("overlap")]
    started: set[str] = set()
    done: dict[str, str] = {}  # task: the run that came to its end
    for what, task, run in (line.split() for line in journal):
        end = exits.get(run)
        if what == "start":
            if end is None or not end.started:
                lost.append(f"run {run} of task {task} began, and the record says {end}")
            if run in started:
                twice.append(f"run {run} of task {task} began twice")
            if task in done:
                twice.append(f"task {task} was begun again by {run}, though {done[task]} had done it")
            started.add(run)
        elif what == "end" and end is not None and end.reason is ExitReason.EXITED and end.exit_code == 0:
            done[task] = run
    return lost, twice


def _leaks(machine: Machine) -> list[str]:
    held = [f"task {one} carries a claim" for one in machine.tasks if machine.task(one).claim_run is not None]
    living = [f"process {pid}" for pid in processes(machine.world.root)]
    state = machine.state
    half = [
        str(path.relative_to(state.root))
        for path in state.root.rglob(".*")
        if path.name.endswith(".tmp") and path.parent not in (state.root, state.logs)  # those go after an hour
    ]
    runs = {line.split()[2] for line in machine.said().splitlines()}
    groups = [place for place in map(cgroups.place, runs) if place and Path(place).exists()]
    return [*machine.left(), *held, *living, *half, *groups]


def _database(machine: Machine) -> Database:
    db = Database.beside(machine.state.db)
    assert db is not None, "the runner has left no database"
    return db
