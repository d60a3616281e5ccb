"""The promises of tsched/tasks/source.py, one test each. An implementation's test module subclasses this.

`source` gives the client; `queue` gives the same store as people and agents use it (add, cancel, reopen, …).
"""

import threading
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from tsched.model.task import Comment, Settlement, Task, TaskStatus, Verdict
from tsched.tasks.source import TaskSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Queue(Protocol):
    """The task server as people and agents use it."""

    def add(
        self, title: str, *, queue: str, assign: str | None = None, blocked_by: str | None = None, priority: int = 0
    ) -> Task: ...

    def task(self, task_id: str) -> Task: ...

    def assign(self, task_id: str, agent: str | None) -> Task: ...

    def move(self, task_id: str, queue: str) -> Task: ...

    def complete(self, task_id: str) -> Task: ...

    def cancel(self, task_id: str) -> Task: ...

    def reopen(self, task_id: str) -> Task: ...

    def comments(self, task_id: str) -> "Sequence[Comment]": ...


def claim(source: TaskSource, task: Task, run: str = "r1", agent: str = "ada") -> Task | None:
    return source.claim(task, agent=agent, run_id=run, runner_id="me")


def race(opened: "Callable[[str], TaskSource]", tasks: "Sequence[Task]", runners: int = 4) -> list[tuple[str, str]]:
    """That many runners at once claim each of the tasks. Gives what they won: task and run."""
    won: list[tuple[str, str]] = []
    gate = threading.Barrier(runners)

    def take(runner: str) -> None:
        with closing(opened(runner)) as source:
            gate.wait()
            for task in tasks:
                run = f"{runner}-{task.id}"
                if source.claim(task, agent="ada", run_id=run, runner_id=runner) is not None:
                    won.append((task.id, run))

    several = [threading.Thread(target=take, args=(f"r{number}",)) for number in range(runners)]
    for one in several:
        one.start()
    for one in several:
        one.join()
    return won


def retry(**facts: object) -> Settlement:
    return Settlement(verdict=Verdict.RETRY, **facts)  # type: ignore[arg-type]


class TaskSourceContract:
    """Subclass it with fixtures `source` and `queue` over one store."""

    def test_who_has_claimed_what_is_known(self, source: TaskSource, queue: Queue) -> None:
        mine, theirs, nobodys = (queue.add("t", queue="dev") for _ in range(3))
        assert claim(source, mine) is not None
        assert source.claim(theirs, agent="ben", run_id="r2", runner_id="other") is not None
        for asker, others in (("me", [(theirs.id, "other")]), ("other", [(mine.id, "me")])):
            source.held(asker)
            source.adrift()
            seen = source.others(asker)
            assert [(task.id, task.claim_runner) for task in seen] == others
            source.waiting(queues=["dev"], agents=[])
        claimed = {task.id: (task.claim_runner, task.claim_run) for task in source.claims()}
        assert claimed == {mine.id: ("me", "r1"), theirs.id: ("other", "r2")}
        assert nobodys.id not in claimed
        assert source.settle(theirs.id, "r2", Settlement(verdict=Verdict.RETRY, charged=False))
        assert [task.id for task in source.claims()] == [mine.id]

    def test_waiting_gives_idle_tasks_of_the_queues_and_of_the_agents(self, source: TaskSource, queue: Queue) -> None:
        mine = queue.add("in my queue", queue="dev")
        ours = queue.add("mine elsewhere", queue="qa", assign="ada")
        queue.add("not ours", queue="qa")
        blocked = queue.add("blocked", queue="dev", blocked_by=mine.id)
        done = queue.add("done", queue="dev")
        queue.complete(done.id)
        found = {task.id: task for task in source.waiting(queues=["dev"], agents=["ada"])}
        assert found.keys() == {mine.id, ours.id, blocked.id}
        assert found[blocked.id].blocked
        assert not found[mine.id].blocked

    def test_a_claim_takes_the_task(self, source: TaskSource, queue: Queue) -> None:
        task = queue.add("t", queue="dev")
        taken = claim(source, task)
        assert taken is not None
        assert (taken.status, taken.assigned_to, taken.claim_run) == (TaskStatus.WORKING, "ada", "r1")
        assert source.waiting(queues=["dev"], agents=["ada"]) == []
        assert [one.id for one in source.held("me")] == [task.id]
        assert source.held("another") == []

    def test_a_second_claim_loses_and_changes_nothing(self, source: TaskSource, queue: Queue) -> None:
        task = queue.add("t", queue="dev")
        claim(source, task)
        before = queue.task(task.id)
        assert claim(source, task, run="r2", agent="ben") is None
        assert queue.task(task.id) == before

    def test_the_same_claim_asked_again_is_given_again(self, source: TaskSource, queue: Queue) -> None:
        task = queue.add("t", queue="dev")
        assert claim(source, task) == claim(source, task)

    def test_a_claim_of_a_task_that_has_changed_loses(self, source: TaskSource, queue: Queue) -> None:
        seen = queue.add("t", queue="dev")
        queue.assign(seen.id, "ben")
        assert claim(source, seen) is None
        queue.assign(seen.id, None)
        queue.move(seen.id, "qa")
        assert claim(source, seen) is None
        queue.move(seen.id, "dev")
        queue.cancel(seen.id)
        assert claim(source, seen) is None

    def test_a_task_that_was_blocked_meanwhile_is_not_given(self, source: TaskSource, queue: Queue) -> None:
        blocker = queue.add("b", queue="dev")
        queue.complete(blocker.id)
        task = queue.add("t", queue="dev", blocked_by=blocker.id)
        queue.reopen(blocker.id)
        assert claim(source, replace(task, blocked=False)) is None

    def test_completing(self, source: TaskSource, queue: Queue) -> None:
        task = queue.add("t", queue="dev")
        claim(source, task)
        assert source.settle(task.id, "r1", Settlement(verdict=Verdict.COMPLETE))
        after = queue.task(task.id)
        assert (after.status, after.claim_run, after.attempts) == (TaskStatus.COMPLETE, None, 1)

    def test_going_back_restores_the_assignee_and_waits(self, source: TaskSource, queue: Queue) -> None:
        task = queue.add("t", queue="dev")
        claim(source, task)
        assert source.settle(task.id, "r1", retry(charged=False, not_before=12345.0, assigned_to=None))
        (after,) = source.waiting(queues=["dev"], agents=[])
        assert (after.assigned_to, after.not_before, after.attempts, after.runs) == (None, 12345.0, 0, 1)

    def test_parking(self, source: TaskSource, queue: Queue) -> None:
        task = queue.add("t", queue="dev")
        claim(source, task)
        assert source.settle(task.id, "r1", Settlement(verdict=Verdict.PARK))
        assert queue.task(task.id).status is TaskStatus.PARKED
        assert source.waiting(queues=["dev"], agents=["ada"]) == []

    def test_a_strangers_or_a_repeated_result_changes_nothing(self, source: TaskSource, queue: Queue) -> None:
        task = queue.add("t", queue="dev")
        claim(source, task)
        assert not source.settle(task.id, "r2", Settlement(verdict=Verdict.COMPLETE))
        assert queue.task(task.id).status is TaskStatus.WORKING
        assert source.settle(task.id, "r1", retry())
        before = queue.task(task.id)
        assert not source.settle(task.id, "r1", Settlement(verdict=Verdict.COMPLETE))
        assert queue.task(task.id) == before

    def test_the_agents_own_word_stands(self, source: TaskSource, queue: Queue) -> None:
        words: Sequence[tuple[Callable[[str], Task], tuple[str, str | None, str]]] = (
            (queue.complete, ("complete", "ada", "dev")),
            (queue.cancel, ("cancelled", "ada", "dev")),
            (lambda one: queue.move(one, "qa"), ("idle", None, "qa")),
            (lambda one: queue.assign(one, "ben"), ("working", "ben", "dev")),
        )
        for number, (word, expected) in enumerate(words):
            task = queue.add("t", queue="dev")
            claim(source, task, run=f"run{number}")
            word(task.id)
            assert source.settle(task.id, f"run{number}", Settlement(verdict=Verdict.PARK))
            after = queue.task(task.id)
            assert (after.status, after.assigned_to, after.queue) == expected
            assert after.claim_run is None

    def test_work_without_a_claim_is_named(self, source: TaskSource, queue: Queue) -> None:
        left = queue.add("the agent's word was to go on", queue="dev")
        claim(source, left)
        queue.assign(left.id, "ben")
        assert source.settle(left.id, "r1", Settlement(verdict=Verdict.PARK))
        claim(source, queue.add("ours", queue="dev"), run="r2")
        queue.add("idle", queue="dev")
        assert [task.claim_run for task in source.held("me")] == ["r2"]
        for _ in range(2):
            assert [(task.id, task.assigned_to) for task in source.adrift()] == [(left.id, "ben")]
        queue.complete(left.id)
        source.held("me")
        assert source.adrift() == []

    def test_a_comment_with_a_tag_is_written_once(self, source: TaskSource, queue: Queue) -> None:
        task = queue.add("t", queue="dev")
        for text in ("first", "second"):
            source.comment(task.id, author="tsched", text=text, tag="r1")
        source.comment(task.id, author="tsched", text="third", tag="r2")
        assert [one.text for one in queue.comments(task.id)] == ["first", "third"]
        assert [(one.text, one.tag) for one in source.comments(task.id)] == [("first", "r1"), ("third", "r2")]
        assert source.comments("999999") == source.comments("no-number") == []

    def test_handing_back_touches_idle_tasks_of_that_queue_alone(self, source: TaskSource, queue: Queue) -> None:
        back = queue.add("back", queue="dev", assign="ada")
        other_queue = queue.add("other queue", queue="qa", assign="ada")
        other_agent = queue.add("other agent", queue="dev", assign="ben")
        busy = queue.add("busy", queue="dev", assign="ada")
        claim(source, busy)
        assert source.hand_back(agent="ada", queue="dev") == 1
        owners = [queue.task(one.id).assigned_to for one in (back, other_queue, other_agent, busy)]
        assert owners == [None, "ada", "ben", "ada"]

    def test_depths_count_what_is_open(self, source: TaskSource, queue: Queue) -> None:
        first = queue.add("a", queue="dev")
        queue.add("b", queue="dev", blocked_by=first.id)
        claim(source, queue.add("c", queue="dev"))
        queue.complete(queue.add("d", queue="done").id)
        assert [(one.name, one.idle, one.blocked, one.working) for one in source.depths()] == [("dev", 2, 1, 1)]

    def test_only_tasks_that_exist_are_given(self, source: TaskSource, queue: Queue) -> None:
        task = queue.add("t", queue="dev")
        assert source.get([task.id, "999999", "no-number"]).keys() == {task.id}
        assert not source.settle("no-number", "r1", retry())
