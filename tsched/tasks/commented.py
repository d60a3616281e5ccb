"""Task servers without a conditional claim, driven all the same: claims are comments (see claims.py)."""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Protocol, TypeVar

from tsched.model.errors import TransientError
from tsched.model.task import Comment, QueueDepth, Settlement, Task, TaskStatus, Verdict
from tsched.tasks.claims import STORE, Claim, End, Left, Remark, Standing, has_tag, standing, tagged
from tsched.tasks.ledger import Ledger

T = TypeVar("T")
Seen = tuple[Task, Sequence[Remark]] | None
LOOKS = 10  # claims of ours on tasks that no longer work, looked at in one pass
AT_ONCE = 8  # tasks looked at side by side
AUTHOR = "tsched"


class Board(Protocol):
    """A task server's own operations, as the few that claims by comment need.

    Every call raises TransientError where the server can't be reached or answers nonsense. Tasks are given without
    what their comments say.
    """

    name: str
    unpark: str  # as TaskSource
    longest: int  # characters of an agent's name that it can hold

    def tasks(self, status: TaskStatus) -> Sequence[Task]:
        """Every open task of that status, IDLE or WORKING; PARKED ones may be among the idle."""
        ...

    def odd(self) -> Mapping[str, str]:
        """As TaskSource, of the newest listings."""
        ...

    def look(self, task_id: str) -> tuple[Task, Sequence[Remark]] | None:
        """One task, open or not, as it is now, with the comments of those who may claim."""
        ...

    def change(self, now: Task, wanted: Task) -> Task:
        """Make a task that was just read as `wanted` says in status and assignee, where it is not so already."""
        ...

    def comment(self, task_id: str, *, author: str, text: str) -> None:
        """Add a comment. Never repeated by itself: an unanswered one may be there."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


class CommentedTasks:
    """A task server's client; see TaskSource for each promise.

    The server has no conditional write, so between the last look at a task and our change to it there is a moment in
    which another's change is lost; on one machine the lease decides, between runners the claim comments do.
    """

    def __init__(self, board: Board, ledger: Ledger) -> None:
        self.name = board.name
        self.unpark = board.unpark
        self._board = board
        self._ledger = ledger
        self._runner: str | None = None  # whose claims these are, once it has asked
        self._turn = random.randrange(1000)  # a process that makes one pass must not look at the same ones each time
        self._working: dict[str, Task] = {}  # as of the newest `held`
        self._looked: dict[str, tuple[float | None, Task | None]] = {}  # by id: when it had changed, what was seen

    def close(self) -> None:
        self._board.close()
        self._ledger.close()

    # What the runner asks

    def waiting(self, *, queues: Collection[str], agents: Collection[str]) -> Sequence[Task]:
        known, named = set(queues), set(agents)
        idle = self._board.tasks(TaskStatus.IDLE)
        if self._runner is not None:
            self._ledger.keep([task.id for task in idle], self._runner)
        tasks = [self._known(task) for task in idle]
        self._look_in_turn([task.id for task in tasks if task.claim_run is not None])
        ready = [task for task in tasks if task.status is TaskStatus.IDLE and task.claim_run is None]
        return [task for task in ready if task.queue in known or task.assigned_to in named]

    def held(self, runner_id: str) -> Sequence[Task]:
        """As TaskSource; of claims on tasks that no longer work, some in each call, all in turn."""
        self._runner = runner_id
        claims = self._ledger.claims(runner_id)
        working = self._working = {task.id: task for task in self._board.tasks(TaskStatus.WORKING)}
        found = [self._known(working[task_id]) for task_id in claims if task_id in working]
        looked = self._look_in_turn(sorted(claims.keys() - working.keys(), key=int))
        return found + [task for task in looked if task.claim_runner == runner_id]

    def adrift(self) -> Sequence[Task]:
        """As TaskSource; of working tasks that are not known yet, some are looked at in each call, each once."""
        self._looked = {one: looked for one, looked in self._looked.items() if one in self._working}
        unknown = [task for task in self._working.values() if self._ledger.of(task.id).claim is None]
        new = [task for task in unknown if self._looked.get(task.id, (None,))[0] != task.updated_at]
        for task in self._in_turn(new):
            with suppress(TransientError):  # what the server says of one task holds up no other
                self._looked[task.id] = (
                    task.updated_at,
                    self._look(task.id),
                )  # our claim, if forgotten, is found again
        busy = {task.parent for task in self._working.values()}  # those work because their subtasks do
        seen = {task.id: self._looked.get(task.id, (None, None))[1] for task in unknown if task.id not in busy}
        return [
            task
            for task in unknown
            if (now := seen.get(task.id)) is not None and now.status is TaskStatus.WORKING and now.claim_run is None
        ]

    def others(self, runner_id: str) -> Sequence[Task]:
        looked = [task for _, task in self._looked.values() if task is not None and task.id in self._working]
        seen = {task.id: task for task in [*looked, *map(self._known, self._working.values())] if task.claim_run}
        return [task for task in seen.values() if task.claim_runner != runner_id]

    def claims(self) -> Sequence[Task]:
        there = [*self._board.tasks(TaskStatus.IDLE), *self._board.tasks(TaskStatus.WORKING)]
        return [task for task in self.get([task.id for task in there]).values() if task.claim_run is not None]

    def odd(self) -> Mapping[str, str]:
        return self._board.odd()

    def get(self, ids: Collection[str]) -> Mapping[str, Task]:
        wanted = [one for one in ids if one.isdecimal()]
        return self._learned_all(wanted, self._side_by_side(self._board.look, wanted))

    def claim(self, task: Task, *, agent: str, run_id: str, runner_id: str) -> Task | None:
        self._runner = runner_id
        if len(agent) > self._board.longest:
            most = self._board.longest
            raise TransientError(
                f"{agent!r} is longer than {self.name} can hold ({most} characters): give a shorter name"
            )
        now = self._look(task.id)
        if now is None:
            return None
        if now.claim_run == run_id and now.status is TaskStatus.WORKING:
            return now
        theirs = now.claim_run is not None and now.claim_runner != runner_id
        if theirs or not _as_seen(now, task) or (now.attempts, now.runs) != (task.attempts, task.runs):
            return None
        end = self._ledger.of(task.id).end
        mine = Claim(
            run=run_id, runner=runner_id, agent=agent, queue=now.queue, attempts=task.attempts, runs=task.runs
        )
        if now.claim_run != run_id:
            self._ledger.put(task.id, replace(self._ledger.of(task.id), claim=mine))
            try:
                self._board.comment(task.id, author=AUTHOR, text=mine.text())
            except TransientError:
                seen = self._look(task.id)
                if seen is None or seen.claim_run in (None, run_id):
                    raise
        after = self._look(task.id)
        if after is None or after.claim_run != run_id:
            return None
        last = self._ledger.of(task.id).end
        if last is not None and last != end and (end is None or end.run != STORE):
            # Another run came and went before our comment was written: our figures are of before it.
            self._end(
                after, mine, left=after, attempts=last.attempts, runs=last.runs, not_before=last.not_before
            )  # fmt: skip
            return None
        if not _as_seen(after, task):
            self._end(after, mine, left=after, attempts=mine.attempts, runs=mine.runs)
            return None
        return self._known(self._board.change(after, replace(after, status=TaskStatus.WORKING, assigned_to=agent)))

    def settle(self, task_id: str, run_id: str, settlement: Settlement) -> bool:
        now = self._look(task_id) if task_id.isdecimal() else None
        claim = self._ledger.of(task_id).claim
        if now is None or claim is None or claim.run != run_id:
            return False
        left = _left(now, claim, settlement)
        self._board.change(now, left or now)
        if left is None:  # the agent's or a person's own word: the task begins anew from it
            self._end(now, claim, left=now)
            return True
        # Only now, with the task as it shall be, may another's claim win.
        self._end(
            now, claim, left=left, attempts=claim.attempts + settlement.charged, runs=claim.runs + 1,
            not_before=settlement.not_before, words=self._words(settlement.verdict),
        )  # fmt: skip
        return True

    def comment(self, task_id: str, *, author: str, text: str, tag: str) -> None:
        found = self._board.look(task_id) if task_id.isdecimal() else None
        if found is not None and not has_tag(found[1], tag):
            self._board.comment(task_id, author=author, text=tagged(text, tag))

    def comments(self, task_id: str) -> Sequence[Comment]:
        found = self._board.look(task_id) if task_id.isdecimal() else None
        return [] if found is None else [remark.shown() for remark in found[1]]

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def hand_back(self, *, agent: str, queue: str) -> int:
        idle = [self._known(task) for task in self._board.tasks(TaskStatus.IDLE)]
        mine = [task for task in idle if task.status is TaskStatus.IDLE and task.claim_run is None]
        mine = [task for task in mine if (task.assigned_to, task.queue) == (agent, queue)]
        for task in mine:
            self._board.change(task, replace(task, assigned_to=None))
        return len(mine)

    def depths(self) -> Sequence[QueueDepth]:
        depths: dict[str, QueueDepth] = {}
        for task in (*self._board.tasks(TaskStatus.IDLE), *self._board.tasks(TaskStatus.WORKING)):
            one = depths.get(task.queue, QueueDepth(name=task.queue))
            if task.status is TaskStatus.IDLE:
                one = replace(one, idle=one.idle + 1, blocked=one.blocked + task.blocked)
            elif task.status is TaskStatus.WORKING:
                one = replace(one, working=one.working + 1)
            depths[task.queue] = one
        return [depths[name] for name in sorted(depths)]

    # How it is done

    def _end(
        self, task: Task, claim: Claim, *, left: Task, attempts: int = 0, runs: int = 0, not_before: float = 0.0,
        words: str = "The task stands as it was left.",
    ) -> None:  # fmt: skip
        end = End(run=claim.run, attempts=attempts, runs=runs, not_before=not_before, left=Left.of(left))
        self._board.comment(task.id, author=AUTHOR, text=end.text(words))
        self._ledger.put(task.id, Standing(end=end) if left.status is TaskStatus.IDLE else Standing())

    def _look_in_turn(self, task_ids: Sequence[str]) -> Sequence[Task]:
        """Read some of these tasks anew, others the next time: their number must not decide what a pass costs."""
        wanted = self._in_turn(task_ids)
        found = self._side_by_side(self._look_if_able, wanted)
        able = {task_id: here for task_id, here in zip(wanted, found, strict=True) if not isinstance(here, Exception)}
        return list(self._learned_all(list(able), list(able.values())).values())

    def _look_if_able(self, task_id: str) -> Seen | TransientError:
        """What the server can't say of one task holds up no other."""
        try:
            return self._board.look(task_id)
        except TransientError as error:
            return error

    def _side_by_side(self, look: Callable[[str], T], wanted: Sequence[str]) -> Sequence[T]:
        if len(wanted) < 2:
            return [look(one) for one in wanted]
        with ThreadPoolExecutor(min(AT_ONCE, len(wanted))) as several:
            return list(several.map(look, wanted))

    def _learned_all(self, wanted: Sequence[str], found: Sequence[Seen]) -> Mapping[str, Task]:
        seen = [self._learned(one, here) for one, here in zip(wanted, found, strict=True)]
        return {task.id: task for task in seen if task is not None}

    def _in_turn(self, things: Sequence[T]) -> Sequence[T]:
        start = self._turn % max(1, len(things))
        self._turn += LOOKS
        return [*things[start:], *things[:start]][:LOOKS]

    def _look(self, task_id: str) -> Task | None:
        return self._learned(task_id, self._board.look(task_id))

    def _learned(self, task_id: str, found: tuple[Task, Sequence[Remark]] | None) -> Task | None:
        """A task that was read with its comments; what they say is remembered."""
        if found is None:
            self._ledger.put(task_id, Standing())
            return None
        seen = standing(found[1])
        task = seen.applied(found[0])
        relevant = seen.claim is not None or task.status is TaskStatus.IDLE
        self._ledger.put(task_id, seen if relevant else Standing())
        return task

    def _known(self, task: Task) -> Task:
        """A task of a listing, with what is remembered of its comments."""
        return self._ledger.of(task.id).applied(task)

    def _words(self, verdict: Verdict) -> str:
        match verdict:
            case Verdict.COMPLETE:
                return "The run is complete."
            case Verdict.PARK:
                return f"The task is parked for a person: {self.unpark}, and it is tried again."
            case _:
                return "The task waits for its next run."


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
            left = replace(now, status=TaskStatus.PARKED, assigned_to=None)
        case Verdict.STAND:
            return None
    working = (now.status, now.assigned_to) == (TaskStatus.WORKING, claim.agent)
    return left if working or left == now else None
