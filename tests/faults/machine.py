"""A runner's machine whose processes a test may kill: a daemon that comes back, agents that keep a journal."""

import json
import os
import shutil
import signal
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from tests.e2e.webhook import Webhook
from tests.e2e.world import World, pool
from tests.faults.nursery import Nursery, Started
from tsched.executors.jobs import SHIM
from tsched.model.lifecycle import AgentState
from tsched.model.task import Task
from tsched.state import applied
from tsched.state.applied import Applied
from tsched.state.database import Database
from tsched.state.folder import StateFolder
from tsched.state.operator import ENV_FILE, limits_line
from tsched.tasks.embedded_operations import OperatedTasks

PATIENCE = 60.0  # seconds until an event that should come has failed to
ENDED = ("complete", "parked", "cancelled")

# The lock is held by every process of the run, so that one left over, or a second run, is seen by the next.
AGENT = """\
exec 9>>"$JOURNAL/task_$TSCHED_TASK_ID"
flock -n 9 || echo "overlap $TSCHED_TASK_ID $TSCHED_RUN_ID" >> "$JOURNAL/journal"
echo "start $TSCHED_TASK_ID $TSCHED_RUN_ID" >> "$JOURNAL/journal"
case "$TSCHED_TASK_TITLE" in
  fail*) exit 3;;
  fork*) sleep 300 & setsid sleep 300 &;;
  work*) sleep 0.0$((${TSCHED_TASK_ID%[!0-9]*} % 7));;
  stubborn*) trap '' TERM; sleep 300;;
  hold*) sleep 300 & setsid sleep 300 & until [ -e "$JOURNAL/open_$TSCHED_TASK_ID" ]; do sleep 0.02; done;;
  unsaved*) echo "$TSCHED_RUN_ID" > unsaved; exit 3;;
esac
echo "end $TSCHED_TASK_ID $TSCHED_RUN_ID" >> "$JOURNAL/journal"
"""
# A conversation: the first run on a task fails and leaves work behind, the next goes on with both.
GOOSE = f"""\
#!/bin/sh
agent() {{
{AGENT}}}
said='"role":"assistant","content":[{{"type":"text","text":"Hm."}}]'
model='{{"userVisible":true,"inference":{{"provider":"openai"}}}}'
echo '{{"type":"message","message":{{"id":"m",'"$said"',"metadata":'"$model"'}}}}'
echo '{{"type":"complete","total_tokens":'"$(date +%s%3N)"'}}'  # of the whole conversation: ever more
case "$TSCHED_TASK_TITLE $*" in
  talk*--resume*) ;;
  talk*) TSCHED_TASK_TITLE=unsaved;;
esac
agent
"""
LIMITS = """\
apiVersion: tsched/v1
kind: Limits
loop_interval: 50ms
heartbeat: 200ms
stop_grace: 200ms
spawn_per_cycle: 50
retry: {attempts: ATTEMPTS, backoff: 10ms, max_backoff: 50ms}
guard: {max_agents_removed: 100%}
alerts:
  rules: [{type: revision, name: refused}]
  notify: [{type: command, argv: ["true"]}, {type: webhook, format: generic, url_env: HOOK}, {type: log}]
runtimes:
  work: {argv: [sh, -c, AGENT, agent], evidence: exit}
"""


class Machine:
    """`until` waits for an event, and starts the daemon again whenever it has been killed.

    `served`: its tasks are on a task server (`tsched tasks serve`, by HTTP) that no test kills.
    """

    def __init__(self, root: Path, nursery: Nursery, *, attempts: int = 3, served: bool = False) -> None:
        self.world = World(root)
        self.state = StateFolder(self.world.state)
        self.journal = root / "journal"
        self.journal.mkdir()
        self.hit, self.then = root / "hit", root / "then"  # what TSCHED_FAILPOINT_FILE names, first and afterwards
        self.log = root / "daemon.log"
        self.kills = 0  # those that were sent, and those at a fail-point
        self.tasks: list[str] = []
        self.late = False  # whether a killed daemon comes back only once its shims have begun
        self._nursery = nursery
        self._daemon: Started | None = None
        self._armed: Mapping[str, str] = self.world.environ
        self._then: list[str] = []
        self._server: Started | None = None
        self._queue: OperatedTasks | None = None
        self._limits = LIMITS.replace("AGENT", json.dumps(AGENT)).replace("ATTEMPTS", str(attempts))
        goose, operator = root / "goose", root / "operator"
        goose.write_text(GOOSE)
        goose.chmod(0o755)
        operator.mkdir()
        (operator / ENV_FILE).write_text(f"{limits_line({})}\n")
        self._hooks = Webhook()
        self.world.environ |= {
            "TSCHED_PASS_ENV": "JOURNAL", "JOURNAL": str(self.journal), "TSCHED_GOOSE_BIN": str(goose),
            "HOOK": self._hooks.url, "TSCHED_OPERATOR_FOLDER": str(operator),
        }  # fmt: skip
        if served:
            self._serve(root / "server")

    def _serve(self, state: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        environ = {**self.world.environ, "TSCHED_STATE": str(state)}
        self._server = self._nursery.start("tasks", "serve", "--port", port, environ=environ, log=self.log)
        self._queue_file = StateFolder(state).tasks_db
        self.world.environ["TSCHED_TASKS"] = f"tinytask+http://127.0.0.1:{port}"

    @property
    def queue(self) -> OperatedTasks:
        """The queue's own file, wherever it is."""
        if self._queue is None:
            file = self.state.tasks_db if self._server is None else self.world.root / "server/tasks.db"
            file.parent.mkdir(mode=0o700, exist_ok=True)
            self._queue = OperatedTasks(file)
        return self._queue

    # the team

    def fleet(self, **pools: str) -> str:
        """The first commit."""
        self.world.recipes("ada", "ben", "cy", "dot", "eve")
        return self.world.push("fleet", limits=self._limits, **pools)

    def add(self, title: str, *, queue: str = "dev", assign: str | None = None, after: str | None = None) -> str:
        """A new task's id."""
        task = self.queue.add(title, queue=queue, assign=assign, blocked_by=after).id
        self.tasks.append(task)
        return task

    def open(self, task: str) -> None:
        """Let a held task end."""
        (self.journal / f"open_{task}").touch()

    def task(self, task: str) -> Task:
        return self.queue.task(task)

    def order(self, *arguments: str) -> None:
        """Give a command of the operator's, again where it was killed."""
        struck = self.hit.exists()
        done = self._nursery.start(*arguments, environ=self._armed, log=self.log)
        self.until(lambda: not done.alive(), f"`tsched {' '.join(arguments)}` ends")
        if self.hit.exists() and not struck and self._armed["TSCHED_FAILPOINT"] != "*":
            self.order(*arguments)

    def applied(self) -> Applied:
        """The applied record, as it is on disk."""
        db = Database.beside(self.state.db)
        if db is None:
            return Applied()
        with closing(db):
            return applied.load(db)

    def revision(self) -> str | None:
        """The applied revision."""
        fleet = self.applied().fleet
        return None if fleet is None else fleet.revision

    def serving(self) -> set[tuple[str, str]]:
        """The active agents, each with its queue."""
        rows = self.applied().lifecycles
        return {key for key, row in rows.items() if row.state is AgentState.ACTIVE}

    def has(self, agent: str) -> bool:
        """Whether the applied record knows an agent of that name, also one on its way out."""
        return any(name == agent for name, _ in self.applied().lifecycles)

    # the machine

    def start(self, *points: str) -> None:
        """Start the daemon, to die at a fail-point where one is given; to die at the next when it has come back."""
        first, *self._then = points or ("",)
        self._armed = {
            **self.world.environ, "TSCHED_FAILPOINT": first, "TSCHED_FAILPOINT_FILE": str(self.hit)
        }  # fmt: skip
        self.again()

    def again(self) -> None:
        """Start it as it was started before."""
        self._daemon = self._nursery.start("run", "--daemon", environ=self._armed, log=self.log)

    def kill(self) -> None:
        """kill -9 to the daemon."""
        if self._daemon is not None:
            self._daemon.send(signal.SIGKILL)
            self.kills += 1

    @property
    def can_reboot(self) -> bool:
        """Whether this machine lets us give it another boot id."""
        return self._nursery.boot_id is not None

    def reboot(self) -> None:
        """Kill every process of the machine, and boot anew."""
        self.kill()
        for _ in range(5):  # a shim may have been starting something
            for pid in processes(self.world.root):
                kill(pid)
        assert self._nursery.boot_id is not None
        self._nursery.boot_id.write_text(f"{uuid.uuid4()}\n")

    def renew(self) -> None:
        """Forget everything: a machine on which tsched has never run."""
        if self._queue is not None:
            self._queue.close()
            self._queue = None
        shutil.rmtree(self.state.root, ignore_errors=True)
        (self.journal / "journal").unlink(missing_ok=True)  # it speaks of tasks whose numbers are given again
        self.tasks.clear()
        self.state.create()
        for day in ("20200101", "20250101"):
            (self.state.logs / f"scheduler_{day}.log").write_text("of old\n")
        (
            self.state.logs / f"scheduler_{time.strftime('%Y%m%d', time.localtime(time.time() - 86_400 * 3))}.log"
        ).touch()

    def stop(self) -> None:
        """End the daemon the quiet way; its runs go on."""
        if self._daemon is not None:
            self._daemon.send(signal.SIGTERM)
            self._wait(lambda: not self.up, "the daemon ends")
            self._daemon = None

    @property
    def up(self) -> bool:
        return self._daemon is not None and self._daemon.alive()

    def until(self, seen: Callable[[], object], what: str) -> None:
        """Wait for an event."""

        def seen_by_a_live_daemon() -> object:
            if self._daemon is not None and not self._daemon.alive():
                if self.late and not all(map(begun, processes(self.world.root))):
                    return False
                self._come_back()
            return seen()

        self._wait(seen_by_a_live_daemon, what)

    def _come_back(self) -> None:
        environ = self.world.environ
        if self._then and self.hit.exists():
            self.then.unlink(missing_ok=True)
            environ = {**environ, "TSCHED_FAILPOINT": self._then.pop(0), "TSCHED_FAILPOINT_FILE": str(self.then)}
        self._daemon = self._nursery.start("run", "--daemon", environ=environ, log=self.log)

    def _wait(self, seen: Callable[[], object], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not seen():
            assert time.monotonic() < end, f"did not happen: {what}\n{self._said()}"
            time.sleep(0.01)

    def _said(self) -> str:
        tasks = [self.task(task) for task in self.tasks[-8:]]
        lines = [f"task {one.id} {one.title}: {one.status}, {one.assigned_to}, {one.claim_run}" for one in tasks]
        events = [line for line in self.log.read_text().splitlines() if "INFO" not in line or "Assign" in line]
        return "\n".join([*lines, *self.left(), *events[-30:]])

    def until_running(self, task: str) -> dict[str, object]:
        """Wait for the task's agent. Returns its lease."""
        found: dict[str, object] = {}

        def running() -> bool:
            found.update(self.world.running(task) or {})
            return bool(found) and f"start {task} {found['run_id']}" in self.said()

        self.until(running, f"task {task} runs")
        return found

    def until_ended(self, *tasks: str) -> None:
        """Wait for the ends of tasks, and until nothing of their runs is left."""
        self.until(
            lambda: all(self.task(one).status in ENDED for one in tasks),
            f"tasks {tasks[-8:]} end, and those before them",
        )
        self.until(lambda: not self.left(), "their runs are gone")

    def said(self) -> str:
        """The agents' journal."""
        file = self.journal / "journal"
        return file.read_text() if file.exists() else ""

    def left(self) -> Sequence[str]:
        """What runs leave behind until they are settled: leases, links, folders of runs and workspaces."""
        return [
            f"{folder.name}/{name}"
            for folder in (self.state.running, self.state.runs, self.state.workspaces)
            if folder.is_dir()
            for name in os.listdir(folder)
            if name not in (".repos", ".kept", ".leaving")
            or (name != ".repos" and {*os.listdir(folder / name)} - {".lock"})
        ]

    def runs(self) -> Sequence[str]:
        """What is left of runs that are not settled."""
        return [one for one in self.left() if not one.startswith("workspaces/")]

    def kept(self) -> Sequence[str]:
        """The runs whose work folders a person has to remove."""
        return sorted(note.stem for note in (self.state.workspaces / ".kept").glob("*.json"))

    def close(self) -> None:
        """End all that is left of it."""
        for started in (self._daemon, self._server):
            if started is not None:
                started.send(signal.SIGKILL)
        for pid in processes(self.world.root):
            kill(pid)
        if self._queue is not None:
            self._queue.close()
        self._hooks.close()


def processes(root: Path) -> Sequence[int]:
    """The processes of the runs below a folder: those that carry a run's id and were given its journal, or shims."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdecimal() and int(name) != os.getpid():
                command = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace")
                environ = Path(f"/proc/{name}/environ").read_bytes().decode(errors="replace")
                below = Path(f"/proc/{name}/cwd").readlink().is_relative_to(root)
                shim = "shim.py" in command and f"{root}/" in command
                if shim or ("TSCHED_RUN_ID=" in environ and (below or f"JOURNAL={root}/" in environ)):
                    found.append(int(name))
        except OSError:
            continue  # it has ended
    return found


def begun(pid: int) -> bool:
    """Whether a process is no shim, or one whose run has passed its fence."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return True
    folder = Path(words[words.index(str(SHIM)) + 1]) if str(SHIM) in words else None
    return folder is None or not folder.exists() or (folder / "started").exists()


def kill(pid: int) -> None:
    """SIGKILL, where it still lives."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


__all__ = ["Machine", "pool", "processes"]
