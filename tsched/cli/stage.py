"""What the demo's steps are made of: pushes, tasks, and passes until the product's own status shows the effect."""

import os
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tsched.model.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from tsched.gitops.worktree import Worktree
    from tsched.observe.status import AgentStatus, Status
    from tsched.runner.host import Host
    from tsched.schedule.plan import Plan
    from tsched.tasks.embedded_operations import OperatedTasks

PATIENCE = 30.0  # seconds until a step that shows nothing has failed
PACE = 0.15  # seconds between two cycles


class NotObservedError(FatalError):
    """A step of the story did not show the effect that it should have."""


class Stage:
    """A remote, a runner's host and a console. `host` is opened once the remote holds a fleet."""

    host: "Host"

    def __init__(self, folder: Path, console: "Console") -> None:
        self.folder = folder
        self._console = console
        self.remote = folder / "fleet.git"
        self._step = 0

    @contextmanager
    def opened(self) -> "Iterator[None]":
        """The runner's machine. What a story that broke off has left running is stopped."""
        with closing(self._open()) as host:
            self.host = host
            try:
                yield
            finally:
                self._leave_nothing()

    def _leave_nothing(self) -> None:
        from tsched.executors.executor import Liveness
        from tsched.model.run import ExitReason

        executor = self.host.executor
        executor.stop(list(executor.poll()), reason=ExitReason.STOPPED, at=0)
        end = time.monotonic() + PATIENCE
        while Liveness.ALIVE in executor.poll().values() and time.monotonic() < end:
            time.sleep(PACE)

    def _open(self) -> "Host":
        from tsched.runner.host import open_host
        from tsched.settings import load

        environ = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.folder),
            "TSCHED_REPO": str(self.remote),
            "TSCHED_STATE": str(self.folder / "state"),
        }
        return open_host(load(environ=environ, cwd=self.folder))

    def change(self, edit: "Worktree", path: str, old: bytes, new: bytes, message: str) -> None:
        """Push a commit that replaces a piece of a file."""
        text = (edit.folder / path).read_bytes()
        self.require(old in text, f"{path} does not hold {old.decode()}")
        edit.write({path: text.replace(old, new, 1)})
        self.push(edit, message)

    def push(self, edit: "Worktree", message: str) -> str:
        """Push what was written, and say what its plan is. Returns the commit."""
        commit = edit.commit(message)
        edit.push()
        self.plan()
        return commit

    def add(self, title: str, queue: str, *, blocked_by: str | None = None, assign: str | None = None) -> str:
        """Add a task. Returns its id."""
        with self._queue() as tasks:
            task = tasks.add(title, queue=queue, blocked_by=blocked_by, assign=assign, created_by="demo")
        self.note(f"task {task.id} → {queue}: {title}")
        return task.id

    @contextmanager
    def _queue(self) -> "Iterator[OperatedTasks]":
        from tsched.tasks.embedded_operations import OperatedTasks

        with closing(OperatedTasks(self.host.folder.tasks_db)) as tasks:
            yield tasks

    def finished(self, task_id: str) -> bool:
        """Whether a task is complete."""
        with self._queue() as tasks:
            return tasks.task(task_id).status == "complete"

    def words_of(self, task_id: str) -> str:
        """The last that the task's agent said."""
        from tsched.state import history

        run = history.of_task(self.host.db, task_id)[-1].run
        return "\n".join(f"  {line}" for line in self.host.executor.tail(run.run_id, lines=9).splitlines())

    def status(self) -> "Status":
        """As `tsched status` has it."""
        from tsched.runner.standing import look

        return look(self.host.settings, now=time.time())

    def until(self, what: str, seen: "Callable[[Status], bool | AgentStatus | None]") -> None:
        """Cycle until the status shows it."""
        from tsched.runner.loop import once

        end = time.monotonic() + PATIENCE
        with self._console.status(f"waiting to see: {what}"):
            while not seen(self.status()):
                self.require(time.monotonic() < end, f"was not observed within {PATIENCE:.0f} s: {what}")
                once(self.host)
                time.sleep(PACE)
        self._console.print(f"  [green]✓[/] {what}")

    def require(self, true: bool, problem: str) -> None:
        """Raises NotObservedError where it is not so."""
        if not true:
            raise NotObservedError(f"demo step {self._step}: {problem}")

    # words

    def say(self, title: str, what: str) -> None:
        """The next step begins."""
        self._step += 1
        self._console.print(f"\n[bold]{self._step}. {title}[/]\n  {what}")

    def note(self, text: str) -> None:
        """A remark on the step."""
        for line in text.splitlines():
            self._console.print(f"  {line}", markup=False, highlight=False, style="dim")

    def plan(self) -> None:
        """What the pushed commit will do, or why it can do nothing."""
        from tsched.model.errors import TschedError
        from tsched.runner.look import plan_against_applied

        try:
            _, found, _ = plan_against_applied(self.host, None)
        except TschedError:
            return  # the step that follows shows why
        self._print_plan(found)

    def _print_plan(self, found: "Plan") -> None:
        for row in found.rows:
            consequence = f" ({row.consequence})" if row.consequence else ""
            self.note(f"plan: {row.kind} {row.subject.partition('/')[2]}: {row.what}{consequence}")

    def show(self) -> None:
        """Agents and runs as they are now."""
        from tsched.observe.tables import show, status_tables

        tables = [one for one in status_tables(self.status()) if one.title in ("Agents", "Runs")]
        show(tables)

    def show_tasks(self) -> None:
        """Every task."""
        from tsched.observe.tables import show, task_table

        with self._queue() as tasks:
            show([task_table(tasks.list())])


def agents(now: "Status") -> "Iterator[AgentStatus]":
    """Every agent that status lists."""
    for pool in now["pools"]:
        yield from pool["agents"]


def agent(now: "Status", name: str, **facts: str | int) -> "AgentStatus | None":
    """The agent of that name, where it is listed with these facts."""
    for one in agents(now):
        if one["name"] == name and all(dict(one)[key] == value for key, value in facts.items()):
            return one
    return None
