"""The children of a shim: setup commands, hooks, checks and the agent, one after another."""

import os
import resource

from .bare import record, signal
from .child import become
from .files import failpoint, write_atomically
from .kernel import read_boot_id, since_boot, stat_of
from .locks import try_lock, unlock
from .stop import TICK, Stoppable

TYPE_CHECKING = False  # typing itself would slow the start
if TYPE_CHECKING:
    from typing import Any

TOGETHER = 0.2  # seconds: Slurm's TERM comes to all of a job at once, and an agent may end of it before we hear it
SWEEP_GRACE = 2.0  # what an agent leaves behind when it ends by itself is given this long after TERM


class Parent(Stoppable):
    """Starts one child at a time, and sees it to its end with all that it leaves behind."""

    __slots__ = ("late", "main")

    def __init__(self, folder: str, spec: "dict[str, Any]") -> None:
        super().__init__(folder, spec)
        self.main = 0  # the child whose end counts: a setup command, a hook, the agent
        self.late = False  # a hook took longer than it may

    def set_up(self) -> str:
        """Run the setup commands, one run at a time in each `setup_lock`. Returns what went wrong, "" for nothing."""
        if not self.spec["setup"]:
            return ""
        self.look()
        lock = os.open(self.spec["setup_lock"], os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not self.reason and not try_lock(lock):
                self.look()
                self.listen(0.1)
            unlock(self.spec["setup_cache"])
            for step in self.spec["setup"]:
                if self.reason:
                    return ""
                problem = self.spawn(step["argv"], self.spec["setup_env"], "/", agent=False, limited=False)
                if not problem and self.watch() != 0:
                    problem = self.complaint()
                if problem:
                    return f"{step['what']} failed: {problem}"
            return ""
        finally:
            os.close(lock)

    def hook(self, name: str) -> str:
        """Run a hook of the workspace, where it has that one. Returns what went wrong, "" for nothing."""
        script = self.spec["hooks"].get(name)
        problem = self.shell(script, self.spec["hook_limit"]) if script and not self.reason else ""
        return f"hook {name} failed: {problem}" if problem else ""

    def unmet(self) -> str:
        """The first of the recipe's checks that fails, and how; "" where none does. The run may still be stopped."""
        self.progress = None
        for command in self.spec["checks"]:
            self.over = False
            problem = self.shell(command, self.spec["check_limit"])
            if self.reason:
                return ""
            if problem:
                return f"`{command}`: {problem}"
        return ""

    def shell(self, script: str, limit: float) -> str:
        """Run a script in the run's folder, with its environment. Returns what went wrong, "" for nothing."""
        before, shell = self.log.heard, ["/bin/sh", "-c", script]
        problem = self.spawn(shell, self.spec["env"], self.spec["cwd"], agent=False, limited=True)
        code = 0 if problem else self.watch(limit=limit)
        if self.late:
            return f"it took longer than {limit:g} s"
        return problem or (f"exit status {code}: {self.complaint(before)}" if code else "")

    def aftermath(self, name: str) -> None:
        """A hook whose failure changes nothing: it is said in the log."""
        self.reason = ""  # nothing stops it but its own limit
        if (problem := self.hook(name)) and self.log.file >= 0:
            self.log.write(f"tsched: {problem}\n".encode("utf-8", "replace"))

    def complaint(self, since: int = 0) -> str:
        """What the log's end says of a failure: the line that a person should read first."""
        try:
            lines = self.log.last(since).decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        except OSError as error:
            return f"{error}"
        return next((line for line in lines if line.startswith("fatal: ")), lines[-1])[:500]

    def spawn(self, argv: "list[str]", env: "dict[str, str]", cwd: str, *, agent: bool, limited: bool) -> str:
        """Start a child in a session of its own. Returns why it could not be started, "" where it was.

        The child waits until its pid is on record, so that a shim killed right here leaves no stranger behind.
        """
        try:
            self.log.open()
        except OSError as error:
            return f"its log {self.log.path} could not be opened: {error.strerror}"
        report, reporter = os.pipe()
        gate, opener = os.pipe()
        shim = os.getpid()
        failpoint("child to be started")
        pid = os.fork()
        if pid == 0:
            caps = self.caps() if limited else []
            become(
                argv, env, cwd, out=self.log.sink, group=self.group, caps=caps, user=self.spec.get("user"),
                gate=gate, reporter=reporter, opener=opener, shim=shim,
            )  # fmt: skip
        os.close(gate)
        os.close(reporter)
        problem = b""
        try:
            if agent:
                self.record_agent(pid)
            failpoint("child to be let go")
            os.write(opener, b".")
            failpoint("child let go")
        except OSError as error:
            problem = f"its record could not be written: {error.strerror}".encode()
        os.close(opener)
        with os.fdopen(report, "rb") as answer:
            problem = problem or answer.read()
        if problem:
            os.waitpid(pid, 0)
            return problem.decode("utf-8", "replace")
        self.main = pid
        return ""

    def caps(self) -> "list[tuple[int, int]]":
        """The limits that a process is held to by itself: those that the group does not hold all of the run to."""
        limits = [
            limit for limit in self.spec.get("limits", ()) if limit["rlimit"] and limit["name"] not in self.group.held
        ]
        return [(getattr(resource, limit["rlimit"]), limit["most"]) for limit in limits]

    def record_agent(self, pid: int) -> None:
        stat = stat_of(pid)
        agent = {"agent_pid": pid, "agent_start": stat[1] if stat else 0, "boot_id": read_boot_id()}
        kept = {**agent, "output": os.readlink(f"/proc/self/fd/{self.log.sink}")}
        write_atomically(os.path.join(self.folder, "agent.json"), record(kept), durable=False)
        own = stat_of(os.getpid())
        if self.spec.get("elsewhere"):
            self.lease.fields["host"] = os.uname().nodename
        self.lease.fields.update(agent, pid=os.getpid(), state="running", process_start=own[1] if own else 0)

    def watch(self, *, limit: float = 0.0) -> int:
        """Wait until the child and whatever it left behind have ended. Returns its exit code (signal N: 128 + N).

        `limit`: seconds that it may take, 0 for as long as the run may.
        """
        code: int | None = None
        until = since_boot() + limit
        self.late = False
        while True:
            ended, alone = self.reap()
            code = ended if code is None else code
            if ended and self.running and self.lease.alarm and signal.sigtimedwait((signal.SIGTERM,), TOGETHER):
                self.stop("stopped")
            if alone:
                self.log.empty()
                self.kill_at = None
                return code if code is not None else 255
            if code is None:
                self.look()
                if limit and self.kill_at is None and since_boot() >= until:
                    self.late = True
                    self.terminate(min(SWEEP_GRACE, self.spec["stop_grace"]))
            elif self.kill_at is None:  # it ended by itself: what it left behind has to go too
                self.over = self.running
                self.terminate(min(SWEEP_GRACE, self.spec["stop_grace"]))
            self.beat()
            pause = self.kill_or_pause(since_boot())
            self.listen(min(pause, TICK) if limit else pause)

    def reap(self) -> "tuple[int | None, bool]":
        """Collect every ended child. Returns the main one's exit code, and whether no child is left at all."""
        code = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return code, True
            if pid == 0:
                return code, False
            if pid == self.main:
                code = os.waitstatus_to_exitcode(status)
                code = 128 - code if code < 0 else code
