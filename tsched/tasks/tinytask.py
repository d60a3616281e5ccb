"""TinyTask as a task source: its statuses are idle, working and complete, its claims are comments (see claims.py)."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tsched.model.errors import TransientError
from tsched.model.task import QueueDepth, Settlement, Task, TaskStatus, Verdict
from tsched.tasks.claims import (
    PARKED,
    Claim,
    End,
    Left,
    Remark,
    Standing,
    has_tag,
    standing,
    status_of,
    tagged,
)
from tsched.tasks.ledger import Ledger
from tsched.tasks.wire import CONNECTIONS, TaskRow, Wire, epoch

LOOKS = 10  # claims of ours on tasks that no longer work, looked at in one pass
AUTHOR = "tsched"

_WORDS = {
    Verdict.COMPLETE: "The run is complete.",
    Verdict.RETRY: "The task waits for its next run.",
    Verdict.PARK: "The task is parked for a person: assign it to an agent, or to nobody, and it is tried again.",
}


class TinyTask:
    """A TinyTask server's client; see TaskSource for each promise.

    The server has no conditional write, so between the last look at a task and our change to it there is a moment in
    which another's change is lost; on one machine the lease decides, between runners the claim comments do.
    """

    name = "tinytask"

    def __init__(self, wire: Wire, ledger: Ledger) -> None:
        self._wire = wire
        self._ledger = ledger
        self._runner: str | None = None  # whose claims these are, once it has asked
        self._turn = 0

    def close(self) -> None:
        self._wire.close()
        self._ledger.close()

    # What the runner asks

    def waiting(self, *, queues: Collection[str], agents: Collection[str]) -> Sequence[Task]:
        known, named = set(queues), set(agents)
        rows = self._wire.tasks(status="idle")
        if self._runner is not None:
            self._ledger.keep([str(row.id) for row in rows], self._runner)
        tasks = [self._known(row) for row in rows]
        self._look_in_turn([task.id for task in tasks if task.claim_run is not None])
        ready = [task for task in tasks if task.status is TaskStatus.IDLE and task.claim_run is None]
        return [task for task in ready if task.queue in known or task.assigned_to in named]

    def held(self, runner_id: str) -> Sequence[Task]:
        """As TaskSource; of claims on tasks that no longer work, some in each call, all in turn."""
        self._runner = runner_id
        claims = self._ledger.claims(runner_id)
        if not claims:
            return []
        working = {str(row.id): row for row in self._wire.tasks(status="working")}
        found = [self._known(working[task_id]) for task_id in claims if task_id in working]
        looked = self._look_in_turn(sorted(claims.keys() - working.keys(), key=int))
        return found + [task for task in looked if task.claim_runner == runner_id]

    def get(self, ids: Collection[str]) -> Mapping[str, Task]:
        wanted = [one for one in ids if one.isdecimal()]
        if len(wanted) < 2:
            rows = [self._wire.task(int(one)) for one in wanted]
        else:
            with ThreadPoolExecutor(min(CONNECTIONS, len(wanted))) as several:
                rows = list(several.map(lambda one: self._wire.task(int(one)), wanted))
        seen = [self._learned(one, row) for one, row in zip(wanted, rows, strict=True)]
        return {task.id: task for task in seen if task is not None}

    def claim(self, task: Task, *, agent: str, run_id: str, runner_id: str) -> Task | None:
        self._runner = runner_id
        now = self._look(task.id)
        if now is None:
            return None
        if now.claim_run == run_id and now.status is TaskStatus.WORKING:
            return now
        theirs = now.claim_run is not None and now.claim_runner != runner_id
        if theirs or not _as_seen(now, task) or (now.attempts, now.runs) != (task.attempts, task.runs):
            return None
        mine = Claim(
            run=run_id, runner=runner_id, agent=agent, queue=now.queue, attempts=task.attempts, runs=task.runs
        )
        if now.claim_run != run_id:
            self._ledger.put(task.id, replace(self._ledger.of(task.id), claim=mine))
            self._wire.comment(int(task.id), author=AUTHOR, text=mine.text())
        after = self._look(task.id)
        if after is None or after.claim_run != run_id:
            return None
        if not _as_seen(after, task):
            self._end(after, mine, left=after, attempts=mine.attempts, runs=mine.runs)
            return None
        return self._known(self._wire.update(int(task.id), status="working", assigned_to=agent))

    def settle(self, task_id: str, run_id: str, settlement: Settlement) -> bool:
        now = self._look(task_id) if task_id.isdecimal() else None
        claim = self._ledger.of(task_id).claim
        if now is None or claim is None or claim.run != run_id:
            return False
        left = _left(now, claim, settlement)
        if left is None:  # the agent's or a person's own word: the task begins anew from it
            self._end(now, claim, left=now)
            return True
        if (left.status, left.assigned_to) != (now.status, now.assigned_to):
            self._wire.update(
                int(task_id), status="complete" if left.status is TaskStatus.COMPLETE else "idle",
                assigned_to=left.assigned_to or "",
            )  # fmt: skip
        # Only now, with the task as it shall be, may another's claim win.
        self._end(
            now, claim, left=left, attempts=claim.attempts + settlement.charged, runs=claim.runs + 1,
            not_before=settlement.not_before, words=_WORDS[settlement.verdict],
        )  # fmt: skip
        return True

    def comment(self, task_id: str, *, author: str, text: str, tag: str) -> None:
        row = self._wire.task(int(task_id)) if task_id.isdecimal() else None
        if row is not None and not has_tag(_remarks(row), tag):
            self._wire.comment(row.id, author=author, text=tagged(text, tag))

    def hand_back(self, *, agent: str, queue: str) -> int:
        rows = [row for row in self._wire.tasks(status="idle", assigned_to=agent) if (row.queue_name or "") == queue]
        mine = [row for row in rows if self._known(row).claim_run is None]
        for row in mine:
            self._wire.update(row.id, assigned_to="")
        return len(mine)

    def depths(self) -> Sequence[QueueDepth]:
        depths: dict[str, QueueDepth] = {}
        for row in (*self._wire.tasks(status="idle"), *self._wire.tasks(status="working")):
            name = row.queue_name or ""
            one = depths.get(name, QueueDepth(name=name))
            task = self._known(row)
            if task.status is TaskStatus.IDLE:
                one = replace(one, idle=one.idle + 1, blocked=one.blocked + task.blocked)
            elif task.status is TaskStatus.WORKING:
                one = replace(one, working=one.working + 1)
            depths[name] = one
        return [depths[name] for name in sorted(depths)]

    # How it is done

    def _end(
        self, task: Task, claim: Claim, *, left: Task, attempts: int = 0, runs: int = 0, not_before: float = 0.0,
        words: str = "The task stands as it was left.",
    ) -> None:  # fmt: skip
        end = End(run=claim.run, attempts=attempts, runs=runs, not_before=not_before, left=Left.of(left))
        self._wire.comment(int(task.id), author=AUTHOR, text=end.text(words))
        self._ledger.put(task.id, Standing(end=end) if left.status is TaskStatus.IDLE else Standing())

    def _look_in_turn(self, task_ids: Sequence[str]) -> Sequence[Task]:
        """Read some of these tasks anew, others the next time: their number must not decide what a pass costs."""
        start = self._turn % max(1, len(task_ids))
        self._turn += LOOKS
        return list(self.get([*task_ids[start:], *task_ids[:start]][:LOOKS]).values())

    def _look(self, task_id: str) -> Task | None:
        return self._learned(task_id, self._wire.task(int(task_id)))

    def _learned(self, task_id: str, row: TaskRow | None) -> Task | None:
        """A task that was read with its comments; what they say is remembered."""
        if row is None:
            self._ledger.put(task_id, Standing())
            return None
        seen = standing(_remarks(row))
        task = seen.applied(_task(row))
        relevant = seen.claim is not None or task.status is TaskStatus.IDLE
        self._ledger.put(task_id, seen if relevant else Standing())
        return task

    def _known(self, row: TaskRow) -> Task:
        """A task of a listing, with what is remembered of its comments."""
        return self._ledger.of(str(row.id)).applied(_task(row))


def _as_seen(now: Task, task: Task) -> bool:
    return (
        now.status is TaskStatus.IDLE
        and (now.assigned_to, now.queue) == (task.assigned_to, task.queue)
        and (task.blocked or not now.blocked)
    )


def _left(now: Task, claim: Claim, settlement: Settlement) -> Task | None:
    """The task as the settlement leaves it; None where it is not as its run had it, nor so already."""
    match settlement.verdict:
        case Verdict.COMPLETE:
            left = replace(now, status=TaskStatus.COMPLETE, assigned_to=claim.agent)
        case Verdict.RETRY:
            left = replace(now, status=TaskStatus.IDLE, assigned_to=settlement.assigned_to)
        case Verdict.PARK:
            left = replace(now, status=TaskStatus.PARKED, assigned_to=PARKED)
        case Verdict.STAND:
            return None
    working = (now.status, now.assigned_to) == (TaskStatus.WORKING, claim.agent)
    return left if (working or left == now) and now.queue == claim.queue else None


def _remarks(row: TaskRow) -> list[Remark]:
    return [Remark(id=note.id, text=note.content) for note in row.comments]


def _task(row: TaskRow) -> Task:
    """Raises TransientError for a status that TinyTask does not have."""
    try:
        status = status_of(row.status, assigned_to=row.assigned_to, archived=row.archived_at is not None)
    except ValueError as error:
        raise TransientError(f"task {row.id} has the status {row.status!r}, which is not known here") from error
    return Task(
        id=str(row.id),
        title=row.title,
        queue=row.queue_name or "",
        status=status,
        description=row.description or "",
        assigned_to=row.assigned_to,
        priority=row.priority,
        created_at=epoch(row.created_at),
        updated_at=epoch(row.updated_at),
        blocked_by=None if row.blocked_by_task_id is None else str(row.blocked_by_task_id),
        blocked=row.is_currently_blocked,
        created_by=row.created_by or "",
    )
