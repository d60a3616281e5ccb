"""`tsched demo`: the whole story in a minute, for real. Fails if a step was not truly observed."""

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tsched.cli.output import complain
from tsched.cli.stage import NotObservedError, Stage, agent, agents

if TYPE_CHECKING:
    from tsched.gitops.worktree import Worktree

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


class Demo(Stage):
    """The story. Each step pushes or adds something, then waits until the product's own status shows the effect."""

    def run(self) -> None:
        """Tell it all. Raises NotObservedError at the first step that was not observed."""
        from tsched.gitops.worktree import Worktree, make_bare

        make_bare(self.remote)
        with Worktree.clone(str(self.remote), self.folder / "edit") as edit:
            self._fill(edit)
            with self.opened():
                self._tell(edit)

    def _tell(self, edit: "Worktree") -> None:
        self._first(edit)
        self._limit_up(edit)
        self._newcomer(edit)
        removal = self._removal(edit)
        self._bad_commit(edit)
        self._rollback(edit, removal)
        self._all_done()

    def _fill(self, edit: "Worktree") -> None:
        """The remote's first commit: this repository's own fleet."""
        from tsched.validate.shipped import shipped

        for name in ("pools", "recipes", "schemas"):
            shutil.copytree(shipped(name), edit.folder / name)
        edit.write({"pools/limits.yaml": LIMITS})
        edit.commit("The fleet")
        edit.push()

    def _first(self, edit: "Worktree") -> None:
        self.say(
            "a fleet repo and some tasks", "pushed this repository's own pools, recipes and schemas to a bare remote"
        )
        first = self.add("Write the parser", "dev")
        self.add("Use the parser", "dev", blocked_by=first)
        for title, queue in (
            ("Try the parser", "qa"),
            ("Describe the parser", "docs"),
            ("Plan the next one", "product"),
        ):
            self.add(title, queue)
        self.until("six agents active", lambda now: sum(one["state"] == "active" for one in agents(now)) == 6)
        self.until("work running", lambda now: len(now["runs"]) >= 3)
        self.show()
        self.until("a run's task complete", lambda now: self.finished(first))
        self.until("the blocked task started after its blocker", lambda now: self.finished("2"))
        self.note(f"the agent's own words:\n{self.words_of(first)}")

    def _limit_up(self, edit: "Worktree") -> None:
        self.say("a pushed commit raises a limit", "pools/dev.yaml: vaela 3 → 4")
        self.change(edit, "pools/dev.yaml", b"limit: 3", b"limit: 4", "Vaela can do more")
        self.until("vaela's limit 4", lambda now: agent(now, "vaela", limit=4))

    def _newcomer(self, edit: "Worktree") -> None:
        self.say("a pushed commit adds an agent", "pools/docs.yaml: nova, with a recipe of her own")
        pool = edit.folder / "pools/docs.yaml"
        recipe = (edit.folder / "recipes/atlas.yaml").read_bytes()
        edit.write({"pools/docs.yaml": pool.read_bytes().rstrip() + NOVA, "recipes/nova.yaml": recipe})
        self.push(edit, "Nova joins")
        self.until("nova active", lambda now: agent(now, "nova", state="active"))
        task = self.add("Welcome nova", "docs", assign="nova")
        self.until("nova running her first task", lambda now: agent(now, "nova", running=1))
        self.until("nova's task complete", lambda now: self.finished(task))

    def _removal(self, edit: "Worktree") -> str:
        self.say("a pushed commit removes an agent that holds a running task", "pools/dev.yaml: damien goes")
        task = self.add("Mend the lexer (long)", "dev", assign="damien")
        self.until("damien running it", lambda now: agent(now, "damien", running=1))
        lines = (edit.folder / "pools/dev.yaml").read_bytes().splitlines(keepends=True)
        at = next(number for number, line in enumerate(lines) if b"name: damien" in line)
        edit.write({"pools/dev.yaml": b"".join(lines[:at] + lines[at + 2 :])})
        edit.remove("recipes/damien.yaml")
        removal = self.push(edit, "Damien leaves")
        self.until(
            "damien draining, his run untouched", lambda now: agent(now, "damien", state="draining", running=1)
        )
        self.show()
        late = self.add("Something new for dev", "dev")
        self.until("damien deleted, once his run had ended", lambda now: agent(now, "damien") is None)
        self.require(self.finished(task), "the drained run's task is not complete")
        self.until("new work done by others", lambda now: self.finished(late))
        return removal

    def _bad_commit(self, edit: "Worktree") -> None:
        self.say("a pushed commit that is wrong", 'pools/qa.yaml: limit "many"')
        good = self.status()["revision"]["applied"]
        self.change(edit, "pools/qa.yaml", b"limit: 2", b"limit: many", "As many as you like")
        self.until("the commit rejected", lambda now: now["revision"]["rejected"] is not None)
        rejected = self.status()["revision"]["rejected"]
        found = rejected["diagnostics"] if rejected is not None else []
        for one in found:
            self.note(f"{one['path']}:{one['line']}:{one['column']}: {one['code']} {one['message']} {one['mend']}")
        self.require(
            [one["path"] for one in found] == ["pools/qa.yaml"], "one finding was expected, in pools/qa.yaml"
        )
        self.require(self.status()["revision"]["applied"] == good, "the last good revision did not stay")
        task = self.add("Work goes on", "qa")
        self.until("tasks still done by the last good revision", lambda now: self.finished(task))

    def _rollback(self, edit: "Worktree", removal: str) -> None:
        self.say("git revert is rollback", "the bad commit and damien's removal are reverted and pushed")
        edit.revert("HEAD")
        edit.revert(removal)
        edit.push()
        self.plan()
        self.until("the revert applied", lambda now: now["revision"]["rejected"] is None)
        self.until("damien active again", lambda now: agent(now, "damien", state="active"))
        task = self.add("Welcome back", "dev", assign="damien")
        self.until("damien's task complete", lambda now: self.finished(task))

    def _all_done(self) -> None:
        self.say("nothing is left over", "every task ended, no lease, no process")
        self.until("no run left", lambda now: not now["runs"] and not self.host.executor.poll())
        queues = self.status()["queues"]
        self.require(not queues, f"open tasks are left: {queues}")
        self.show()
        self.show_tasks()


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
