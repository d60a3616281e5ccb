"""`tsched demo`: the whole story in a minute, for real. Fails if a step was not truly observed."""

import os
import shutil
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tsched.cli.output import complain
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

LIMITS = b"""\
# The demo's own: agents are shell commands that do visible work, so that no model is needed.
apiVersion: tsched/v1
kind: Limits
loop_interval: 150ms
heartbeat: 500ms
stop_grace: 2s
runtimes:
  goose: # one named like a built-in replaces it: pools and recipes stay as they are
    evidence: exit
    argv:
      - sh
      - -euc
      - |
        echo "$2 takes task $TSCHED_TASK_ID: $TSCHED_TASK_TITLE"
        echo "its recipe, as of its revision:"; head -n 4 "$1"
        seconds=1; case "$TSCHED_TASK_TITLE" in *"(long)"*) seconds=8;; esac
        for step in $(seq "$seconds"); do echo "step $step of $seconds"; sleep 1; done
        cksum "$TSCHED_TASK_FILE" > "$3/result.txt"; cat "$3/result.txt"
      - agent
      - "{recipe}"
      - "{agent}"
      - "{workspace}"
"""

NOVA = b"""\

  - name: nova # the demo's newcomer
"""


class NotObservedError(FatalError):
    """A step of the story did not show the effect that it should have."""


class Demo:
    """The story. Each step pushes or adds something, then waits until the product's own status shows the effect."""

    def __init__(self, folder: Path, console: "Console") -> None:
        self._folder = folder
        self._console = console
        self._remote = folder / "fleet.git"
        self._step = 0

    def run(self) -> None:
        """Tell it all. Raises NotObservedError at the first step that was not observed."""
        from tsched.gitops.worktree import Worktree, make_bare

        make_bare(self._remote)
        with Worktree.clone(str(self._remote), self._folder / "edit") as edit:
            self._fill(edit)
            with closing(self._open()) as host:
                self._host = host
                try:
                    self._tell(edit)
                finally:
                    self._leave_nothing()

    def _tell(self, edit: "Worktree") -> None:
        self._first(edit)
        self._limit_up(edit)
        self._newcomer(edit)
        removal = self._removal(edit)
        self._bad_commit(edit)
        self._rollback(edit, removal)
        self._all_done()

    def _leave_nothing(self) -> None:
        """Stop what a story that broke off has left running."""
        from tsched.executors.executor import Liveness
        from tsched.model.run import ExitReason

        executor = self._host.executor
        executor.stop(list(executor.poll()), reason=ExitReason.STOPPED, at=0)
        end = time.monotonic() + PATIENCE
        while Liveness.ALIVE in executor.poll().values() and time.monotonic() < end:
            time.sleep(PACE)

    def _open(self) -> "Host":
        from tsched.runner.host import open_host
        from tsched.settings import load

        environ = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self._folder),
            "TSCHED_REPO": str(self._remote),
            "TSCHED_STATE": str(self._folder / "state"),
        }
        return open_host(load(environ=environ, cwd=self._folder))

    # the steps

    def _fill(self, edit: "Worktree") -> None:
        """The remote's first commit: this repository's own fleet."""
        from tsched.validate.shipped import shipped

        for name in ("pools", "recipes", "schemas"):
            shutil.copytree(shipped(name), edit.folder / name)
        edit.write({"pools/limits.yaml": LIMITS})
        edit.commit("The fleet")
        edit.push()

    def _first(self, edit: "Worktree") -> None:
        self._say(
            "a fleet repo and some tasks", "pushed this repository's own pools, recipes and schemas to a bare remote"
        )
        first = self._add("Write the parser", "dev")
        self._add("Use the parser", "dev", blocked_by=first)
        for title, queue in (
            ("Try the parser", "qa"),
            ("Describe the parser", "docs"),
            ("Plan the next one", "product"),
        ):
            self._add(title, queue)
        self._until("six agents active", lambda now: sum(one["state"] == "active" for one in agents(now)) == 6)
        self._until("work running", lambda now: len(now["runs"]) >= 3)
        self._show()
        self._until("a run's task complete", lambda now: self._finished(first))
        self._until("the blocked task started after its blocker", lambda now: self._finished("2"))
        self._note(f"the agent's own words:\n{self._log_of(first)}")

    def _limit_up(self, edit: "Worktree") -> None:
        self._say("a pushed commit raises a limit", "pools/dev.yaml: vaela 3 → 4")
        self._edit(edit, "pools/dev.yaml", b"limit: 3", b"limit: 4", "Vaela can do more")
        self._until("vaela's limit 4", lambda now: agent(now, "vaela", limit=4))

    def _newcomer(self, edit: "Worktree") -> None:
        self._say("a pushed commit adds an agent", "pools/docs.yaml: nova, with a recipe of her own")
        pool = edit.folder / "pools/docs.yaml"
        recipe = (edit.folder / "recipes/atlas.yaml").read_bytes()
        edit.write({"pools/docs.yaml": pool.read_bytes().rstrip() + NOVA, "recipes/nova.yaml": recipe})
        self._push(edit, "Nova joins")
        self._until("nova active", lambda now: agent(now, "nova", state="active"))
        task = self._add("Welcome nova", "docs", assign="nova")
        self._until("nova running her first task", lambda now: agent(now, "nova", running=1))
        self._until("nova's task complete", lambda now: self._finished(task))

    def _removal(self, edit: "Worktree") -> str:
        self._say("a pushed commit removes an agent that holds a running task", "pools/dev.yaml: damien goes")
        task = self._add("Mend the lexer (long)", "dev", assign="damien")
        self._until("damien running it", lambda now: agent(now, "damien", running=1))
        lines = (edit.folder / "pools/dev.yaml").read_bytes().splitlines(keepends=True)
        at = next(number for number, line in enumerate(lines) if b"name: damien" in line)
        edit.write({"pools/dev.yaml": b"".join(lines[:at] + lines[at + 2 :])})
        edit.remove("recipes/damien.yaml")
        removal = self._push(edit, "Damien leaves")
        self._until(
            "damien draining, his run untouched", lambda now: agent(now, "damien", state="draining", running=1)
        )
        self._show()
        late = self._add("Something new for dev", "dev")
        self._until("damien deleted, once his run had ended", lambda now: agent(now, "damien") is None)
        self._require(self._finished(task), "the drained run's task is not complete")
        self._until("new work done by others", lambda now: self._finished(late))
        return removal

    def _bad_commit(self, edit: "Worktree") -> None:
        self._say("a pushed commit that is wrong", 'pools/qa.yaml: limit "many"')
        good = self._status()["revision"]["applied"]
        self._edit(edit, "pools/qa.yaml", b"limit: 2", b"limit: many", "As many as you like")
        self._until("the commit rejected", lambda now: now["revision"]["rejected"] is not None)
        rejected = self._status()["revision"]["rejected"]
        found = rejected["diagnostics"] if rejected is not None else []
        for one in found:
            self._note(f"{one['path']}:{one['line']}:{one['column']}: {one['code']} {one['message']} {one['mend']}")
        self._require(
            [one["path"] for one in found] == ["pools/qa.yaml"], "one finding was expected, in pools/qa.yaml"
        )
        self._require(self._status()["revision"]["applied"] == good, "the last good revision did not stay")
        task = self._add("Work goes on", "qa")
        self._until("tasks still done by the last good revision", lambda now: self._finished(task))

    def _rollback(self, edit: "Worktree", removal: str) -> None:
        self._say("git revert is rollback", "the bad commit and damien's removal are reverted and pushed")
        edit.revert("HEAD")
        edit.revert(removal)
        edit.push()
        self._plan()
        self._until("the revert applied", lambda now: now["revision"]["rejected"] is None)
        self._until("damien active again", lambda now: agent(now, "damien", state="active"))
        task = self._add("Welcome back", "dev", assign="damien")
        self._until("damien's task complete", lambda now: self._finished(task))

    def _all_done(self) -> None:
        self._say("nothing is left over", "every task ended, no lease, no process")
        self._until("no run left", lambda now: not now["runs"] and not self._host.executor.poll())
        queues = self._status()["queues"]
        self._require(not queues, f"open tasks are left: {queues}")
        self._show()
        self._tasks()

    # what the steps are made of

    def _edit(self, edit: "Worktree", path: str, old: bytes, new: bytes, message: str) -> None:
        text = (edit.folder / path).read_bytes()
        self._require(old in text, f"{path} does not hold {old.decode()}")
        edit.write({path: text.replace(old, new, 1)})
        self._push(edit, message)

    def _push(self, edit: "Worktree", message: str) -> str:
        commit = edit.commit(message)
        edit.push()
        self._plan()
        return commit

    def _add(self, title: str, queue: str, *, blocked_by: str | None = None, assign: str | None = None) -> str:
        with self._queue() as tasks:
            task = tasks.add(title, queue=queue, blocked_by=blocked_by, assign=assign, created_by="demo")
        self._note(f"task {task.id} → {queue}: {title}")
        return task.id

    @contextmanager
    def _queue(self) -> "Iterator[OperatedTasks]":
        from tsched.tasks.embedded_operations import OperatedTasks

        with closing(OperatedTasks(self._host.folder.tasks_db)) as tasks:
            yield tasks

    def _finished(self, task_id: str) -> bool:
        with self._queue() as tasks:
            return tasks.task(task_id).status == "complete"

    def _log_of(self, task_id: str) -> str:
        from tsched.state import history

        run = history.of_task(self._host.db, task_id)[-1].run
        return "\n".join(f"  {line}" for line in self._host.executor.tail(run.run_id, lines=9).splitlines())

    def _status(self) -> "Status":
        from tsched.runner.standing import look

        return look(self._host.settings, now=time.time())

    def _until(self, what: str, seen: "Callable[[Status], bool | AgentStatus | None]") -> None:
        """Cycle until the status shows it."""
        from tsched.runner.loop import once

        end = time.monotonic() + PATIENCE
        with self._console.status(f"waiting to see: {what}"):
            while not seen(self._status()):
                self._require(time.monotonic() < end, f"was not observed within {PATIENCE:.0f} s: {what}")
                once(self._host)
                time.sleep(PACE)
        self._console.print(f"  [green]✓[/] {what}")

    def _require(self, true: bool, problem: str) -> None:
        if not true:
            raise NotObservedError(f"demo step {self._step}: {problem}")

    # words

    def _say(self, title: str, what: str) -> None:
        self._step += 1
        self._console.print(f"\n[bold]{self._step}. {title}[/]\n  {what}")

    def _note(self, text: str) -> None:
        for line in text.splitlines():
            self._console.print(f"  {line}", markup=False, highlight=False, style="dim")

    def _plan(self) -> None:
        """What the pushed commit will do, or why it can do nothing."""
        from tsched.model.errors import TschedError
        from tsched.runner.look import plan_against_applied

        try:
            _, found, _ = plan_against_applied(self._host, None)
        except TschedError:
            return  # the step that follows shows why
        self._print_plan(found)

    def _print_plan(self, found: "Plan") -> None:
        for row in found.rows:
            consequence = f" ({row.consequence})" if row.consequence else ""
            self._note(f"plan: {row.kind} {row.subject.partition('/')[2]}: {row.what}{consequence}")

    def _show(self) -> None:
        from tsched.observe.tables import show, status_tables

        tables = [one for one in status_tables(self._status()) if one.title in ("Agents", "Runs")]
        show(tables)

    def _tasks(self) -> None:
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


def demo() -> None:
    """Play the whole story, for real, in a temporary folder: add, drain, reject, revert."""
    from tsched.observe.tables import console

    out = console()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tsched-demo-") as folder:
        tempfile.tempdir = folder  # whatever any part of us makes goes with it, also when interrupted
        try:
            Demo(Path(folder), out).run()
        except NotObservedError as error:
            complain(str(error))
            raise typer.Exit(1) from None
        finally:
            tempfile.tempdir = None
    out.print(
        f"\n[bold green]All of it was observed[/], in {time.monotonic() - began:.0f} s. Nothing is left behind."
    )
    sys.stdout.flush()
