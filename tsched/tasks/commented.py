"""Task servers without a conditional claim, driven all the same: claims are comments (see claims.py)."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace

from tsched.model.errors import TransientError
from tsched.model.task import Comment, QueueDepth, Settlement, Task, TaskStatus, Verdict
from tsched.tasks.board import Board
from tsched.tasks.board_reading import KnownTasks
from tsched.tasks.claims import STORE, Claim, End, Left, Standing, has_tag, tagged
from tsched.tasks.ledger import Ledger

AUTHOR = "tsched"


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
        self._known = KnownTasks(board, ledger)
        self._runner: str | None = None  # whose claims these are, once it has asked
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
        tasks = [self._known.of(task) for task in idle]
        self._known.look_in_turn([task.id for task in tasks if task.claim_run is not None])
        ready = [task for task in tasks if task.status is TaskStatus.IDLE and task.claim_run is None]
        return [task for task in ready if task.queue in known or task.assigned_to in named]

    def held(self, runner_id: str) -> Sequence[Task]:
        """As TaskSource; of claims on tasks that no longer work, some in each call, all in turn."""
        self._runner = runner_id
        claims = self._ledger.claims(runner_id)
        working = self._working = {task.id: task for task in self._board.tasks(TaskStatus.WORKING)}
        found = [self._known.of(working[task_id]) for task_id in claims if task_id in working]
        looked = self._known.look_in_turn(sorted(claims.keys() - working.keys(), key=int))
        return found + [task for task in looked if task.claim_runner == runner_id]

    def adrift(self) -> Sequence[Task]:
        """As TaskSource; of working tasks that are not known yet, some are looked at in each call, each once."""
        self._looked = {one: looked for one, looked in self._looked.items() if one in self._working}
        unknown = [task for task in self._working.values() if self._ledger.of(task.id).claim is None]
        new = [task for task in unknown if self._looked.get(task.id, (None,))[0] != task.updated_at]
        for task in self._known.in_turn(new):
            with suppress(TransientError):  # what the server says of one task holds up no other
                # Our claim, if forgotten, is found again.
                self._looked[task.id] = (task.updated_at, self._known.look(task.id))
        busy = {task.parent for task in self._working.values()}  # those work because their subtasks do
        seen = {task.id: self._looked.get(task.id, (None, None))[1] for task in unknown if task.id not in busy}
        return [
            task
            for task in unknown
            if (now := seen.get(task.id)) is not None and now.status is TaskStatus.WORKING and now.claim_run is None
        ]

    def others(self, runner_id: str) -> Sequence[Task]:
        looked = [task for _, task in self._looked.values() if task is not None and task.id in self._working]
        seen = {task.id: task for task in [*looked, *map(self._known.of, self._working.values())] if task.claim_run}
        return [task for task in seen.values() if task.claim_runner != runner_id]

    def claims(self) -> Sequence[Task]:
        there = [*self._board.tasks(TaskStatus.IDLE), *self._board.tasks(TaskStatus.WORKING)]
        return [task for task in self.get([task.id for task in there]).values() if task.claim_run is not None]

    def odd(self) -> Mapping[str, str]:
        return self._board.odd()

    def get(self, ids: Collection[str]) -> Mapping[str, Task]:
        return self._known.look_all([one for one in ids if one.isdecimal()])

    def claim(self, task: Task, *, agent: str, run_id: str, runner_id: str) -> Task | None:
        self._runner = runner_id
        self._check_agent(agent)
        now = self._known.look(task.id)
        if now is None or (now.claim_run == run_id and now.status is TaskStatus.WORKING):
            return now
        theirs = now.claim_run is not None and now.claim_runner != runner_id
        if theirs or not _as_seen(now, task) or (now.attempts, now.runs) != (task.attempts, task.runs):
            return None
        before = self._ledger.of(task.id)
        mine = Claim(
            run=run_id, runner=runner_id, agent=agent, queue=now.queue, attempts=task.attempts, runs=task.runs
        )
        if now.claim_run != run_id:
            self._ledger.put(task.id, replace(before, claim=mine))
            self._say(task.id, mine)
        after = self._known.look(task.id)
        if after is None or after.claim_run != run_id:
            return None
        return self._begun(task, after, mine, before.end)

    def settle(self, task_id: str, run_id: str, settlement: Settlement) -> bool:
        now = self._known.look(task_id) if task_id.isdecimal() else None
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
        idle = [self._known.of(task) for task in self._board.tasks(TaskStatus.IDLE)]
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

    def _check_agent(self, name: str) -> None:
        most = self._board.longest
        if len(name) > most:
            raise TransientError(
                f"{name!r} is longer than {self.name} can hold ({most} characters): give a shorter name"
            )

    def _say(self, task_id: str, mine: Claim) -> None:
        """Claim it by a comment. Raises where that is not answered, unless another's claim is there meanwhile."""
        try:
            self._board.comment(task_id, author=AUTHOR, text=mine.text())
        except TransientError:
            seen = self._known.look(task_id)
            if seen is None or seen.claim_run in (None, mine.run):
                raise

    def _begun(self, task: Task, now: Task, mine: Claim, before: End | None) -> Task | None:
        """The task that our claim has won, working; None, and the claim let go, where it is not as we saw it.

        `task`: as we saw it, `now`: as it was just read, `before`: the newest end that we knew when we claimed it.
        """
        last = self._ledger.of(task.id).end
        if last is not None and last != before and (before is None or before.run != STORE):
            # Another run came and went before our comment was written: our figures are of before it.
            self._end(now, mine, left=now, attempts=last.attempts, runs=last.runs, not_before=last.not_before)
            return None
        if not _as_seen(now, task):
            self._end(now, mine, left=now, attempts=mine.attempts, runs=mine.runs)
            return None
        wanted = replace(now, status=TaskStatus.WORKING, assigned_to=mine.agent)
        return self._known.of(self._board.change(now, wanted))

    def _end(
        self, task: Task, claim: Claim, *, left: Task, attempts: int = 0, runs: int = 0, not_before: float = 0.0,
        words: str = "The task stands as it was left.",
    ) -> None:  # fmt: skip
        end = End(run=claim.run, attempts=attempts, runs=runs, not_before=not_before, left=Left.of(left))
        self._board.comment(task.id, author=AUTHOR, text=end.text(words))
        self._ledger.put(task.id, Standing(end=end) if left.status is TaskStatus.IDLE else Standing())

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
