"""Who blocks whom: the chain from a blocked task to what it waits for in the end, and cycles, which never end."""

from collections.abc import Iterable, Mapping

from tsched.model.records import dataclass
from tsched.model.task import Task, TaskStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """`ids`: the task, its blocker, that one's blocker and so on. `cycle`: the part of it that goes round, if any.

    `last`: the task that all the others wait for; None where it goes round, or that task is not known.
    """

    ids: tuple[str, ...]
    cycle: tuple[str, ...] = ()
    last: Task | None = None

    def words(self, tasks: Mapping[str, Task]) -> str:
        """`3 (idle) ← 7 (parked) ← 9 (working, ada)`; the first of a cycle stands at its end again."""
        return " ← ".join(_named(one, tasks) for one in (*self.ids, *self.cycle[:1]))


def chain(task: Task, tasks: Mapping[str, Task]) -> Chain:
    """Follow the blockers of a task to the end, as far as they are open."""
    ids = [task.id]
    last: Task | None = task
    while last is not None and last.blocked and last.blocked_by is not None:
        following = last.blocked_by
        if following in ids:
            return Chain(ids=tuple(ids), cycle=tuple(ids[ids.index(following) :]))
        ids.append(following)
        last = tasks.get(following)
    return Chain(ids=tuple(ids), last=last)


def cycles(waiting: Iterable[Task], tasks: Mapping[str, Task]) -> tuple[tuple[str, ...], ...]:
    """Every circle among the waiting tasks, each once, beginning at its smallest id."""
    found: dict[frozenset[str], tuple[str, ...]] = {}
    for task in waiting:
        if cycle := chain(task, tasks).cycle:
            start = cycle.index(min(cycle, key=lambda one: (len(one), one)))
            found.setdefault(frozenset(cycle), (*cycle[start:], *cycle[:start]))
    return tuple(sorted(found.values()))


def _named(task_id: str, tasks: Mapping[str, Task]) -> str:
    task = tasks.get(task_id)
    if task is None:
        return f"{task_id} (not known)"
    who = f", {task.assigned_to}" if task.status is TaskStatus.WORKING and task.assigned_to else ""
    return f"{task_id} ({task.status}{who})"


def mend(chain: Chain, tasks: Mapping[str, Task]) -> str:
    """What helps a blocked task on."""
    if chain.cycle:
        return (
            f"They wait for each other for ever: cancel one of them, such as `tsched task cancel {chain.cycle[-1]}`."
        )
    if chain.last is None:
        return f"Task {chain.ids[-1]} is not on the task server: take the blocker off there."
    match chain.last.status:
        case TaskStatus.WORKING:
            return f"Task {chain.last.id} is being worked on: it goes on by itself."
        case TaskStatus.PARKED:
            return f"Task {chain.last.id} was given up: `tsched task show {chain.last.id}`, then reopen or cancel it."
        case TaskStatus.IDLE:
            return f"Ask why that one waits: `tsched why task {chain.last.id}`."
        case TaskStatus.COMPLETE | TaskStatus.CANCELLED:
            return "That one is over: the next pass sees it."
