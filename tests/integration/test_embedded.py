"""The embedded queue: the contract, its own operations, many processes at once, and a model to compare with."""

import multiprocessing
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from tests.integration.task_source_contract import TaskSourceContract
from tsched.model.errors import ConfigurationError
from tsched.model.task import Settlement, TaskStatus, Verdict
from tsched.tasks.embedded import EmbeddedTasks
from tsched.tasks.embedded_operations import OperatedTasks


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[OperatedTasks]:
    with closing(OperatedTasks(tmp_path / "tasks.db")) as one:
        yield one


class TestContract(TaskSourceContract):
    @pytest.fixture
    def source(self, tmp_path: Path, queue: OperatedTasks) -> Iterator[EmbeddedTasks]:
        with closing(EmbeddedTasks(tmp_path / "tasks.db")) as one:
            yield one


@pytest.mark.parametrize(
    ("title", "facts", "said"),
    [
        (" ", {}, "needs a title"),
        ("x" * 501, {}, "501 characters, more than 500"),
        ("a\0b", {}, "NUL"),
        ("a\ud800", {}, "not valid Unicode"),
        ("t", {"queue": "Dev"}, "is no queue name"),
        ("t", {"queue": "../x"}, "is no queue name"),
        ("t", {"assign": "-x"}, "is no agent name"),
        ("t", {"blocked_by": "99"}, "no task '99'"),
        ("t", {"blocked_by": "x"}, "no task 'x'"),
        ("t", {"priority": 1 << 40}, "out of range"),
    ],
)
def test_bad_tasks_are_refused_and_nothing_is_added(
    queue: OperatedTasks, title: str, facts: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        queue.add(title, **{"queue": "dev", **facts})  # type: ignore[arg-type]
    assert queue.list() == []


def test_a_cancelled_blocker_no_longer_blocks(queue: OperatedTasks) -> None:
    blocker = queue.add("b", queue="dev")
    task = queue.add("t", queue="dev", blocked_by=blocker.id)
    assert task.blocked
    queue.cancel(blocker.id)
    assert not queue.task(task.id).blocked


def test_reopening_resets_the_attempts(queue: OperatedTasks) -> None:
    task = queue.add("t", queue="dev")
    queue.claim(task, agent="ada", run_id="r", runner_id="me")
    queue.settle(task.id, "r", Settlement(verdict=Verdict.PARK))
    assert queue.task(task.id).attempts == 1
    after = queue.reopen(task.id)
    assert (after.status, after.assigned_to, after.attempts, after.runs) == (TaskStatus.IDLE, None, 0, 0)


def test_a_complete_task_is_not_cancelled_nor_a_working_one_reopened(queue: OperatedTasks) -> None:
    done = queue.add("t", queue="dev")
    queue.complete(done.id)
    with pytest.raises(ConfigurationError, match="is complete"):
        queue.cancel(done.id)
    busy = queue.add("t", queue="dev")
    queue.claim(busy, agent="ada", run_id="r", runner_id="me")
    with pytest.raises(ConfigurationError, match="is working"):
        queue.reopen(busy.id)


def _take_all(path: Path, runner: str) -> list[str]:
    """Claim whatever is to be had, as one runner of several."""
    taken: list[str] = []
    with closing(EmbeddedTasks(path)) as tasks:
        while waiting := tasks.waiting(queues=["dev"], agents=[]):
            taken += [
                task.id
                for task in waiting
                if tasks.claim(task, agent="ada", run_id=f"{runner}-{task.id}", runner_id=runner) is not None
            ]
    return taken


def _add_some(path: Path, who: str) -> list[str]:
    with closing(OperatedTasks(path)) as tasks:
        return [tasks.add(f"{who} {number}", queue="dev").id for number in range(25)]


def test_many_processes_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as workers:
        added = workers.starmap(_add_some, [(path, str(number)) for number in range(4)])
        taken = workers.starmap(_take_all, [(path, str(number)) for number in range(4)])
    ids = sorted(one for part in added for one in part)
    assert len(set(ids)) == 100
    assert sorted(one for part in taken for one in part) == ids


class Model(RuleBasedStateMachine):
    """Random use beside a dict that says what must be."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.queue = OperatedTasks(Path(self.folder.name) / "tasks.db")
        self.claims: dict[str, str] = {}
        self.status: dict[str, str] = {}
        self.runs = 0

    def teardown(self) -> None:
        self.queue.close()
        self.folder.cleanup()

    @rule(target=tasks, assign=st.none() | st.sampled_from(("ada", "ben")))
    def add(self, assign: str | None) -> str:
        task = self.queue.add("t", queue="dev", assign=assign)
        self.status[task.id] = "idle"
        return task.id

    @rule(task=tasks, agent=st.sampled_from(("ada", "ben")))
    def claim(self, task: str, agent: str) -> None:
        self.runs += 1
        run = f"r{self.runs}"
        got = self.queue.claim(self.queue.task(task), agent=agent, run_id=run, runner_id="me")
        free = self.status[task] == "idle" and task not in self.claims
        assert (got is not None) is free
        if free:
            self.claims[task] = run
            self.status[task] = "working"

    @rule(task=tasks, verdict=st.sampled_from(list(Verdict)), own=st.booleans())
    def settle(self, task: str, verdict: Verdict, own: bool) -> None:
        run = self.claims.get(task, "nobody") if own else "stranger"
        taken = self.queue.settle(task, run, Settlement(verdict=verdict))
        assert taken is (own and task in self.claims)
        if taken:
            del self.claims[task]
            if self.status[task] == "working":
                left = {Verdict.COMPLETE: "complete", Verdict.RETRY: "idle", Verdict.PARK: "parked"}
                self.status[task] = left.get(verdict, "working")

    @rule(task=tasks)
    def cancel(self, task: str) -> None:
        if self.status[task] != "complete":
            self.queue.cancel(task)
            self.status[task] = "cancelled"

    @rule(task=tasks)
    def complete(self, task: str) -> None:
        if self.status[task] != "cancelled":
            self.queue.complete(task)
            self.status[task] = "complete"

    @rule(task=tasks)
    def reopen(self, task: str) -> None:
        if self.status[task] != "working":
            self.queue.reopen(task)
            self.status[task] = "idle"

    @invariant()
    def agrees(self) -> None:
        shown = {task.id: task for task in self.queue.list()}
        assert {key: str(task.status) for key, task in shown.items()} == self.status
        assert {key: task.claim_run for key, task in shown.items() if task.claim_run} == self.claims
        assert {task.id for task in self.queue.held("me")} == self.claims.keys()


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestModel = Model.TestCase
