"""A team's world in a temporary folder: a real bare remote, a real git client, the real program, real agents."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.e2e import forked
from tests.e2e.here import look, waiting

PATIENCE = 90.0  # seconds until an event that should come has failed to; more testers than cores share them
T = TypeVar("T")

# quick…: done at once · fail…: exit 3 · hold…: until the test opens the gate · stubborn…: holds and ignores TERM
AGENT = """\
case "$TSCHED_TASK_TITLE" in
  fail*) echo "cannot do it"; exit 3;;
  stubborn*) trap '' TERM;;
esac
case "$TSCHED_TASK_TITLE" in
  hold*|stubborn*) echo holding; until [ -e "$GATE/$TSCHED_TASK_ID" ]; do sleep 0.05; done;;
esac
cat "$1"
"""
LIMITS = f"""\
apiVersion: tsched/v1
kind: Limits
loop_interval: 100ms
heartbeat: 200ms
stop_grace: 500ms
retry: {{attempts: 2, backoff: 50ms}}
runtimes:
  work: {{argv: [sh, -uc, {json.dumps(AGENT)}, agent, "{{recipe}}"], evidence: exit}}
"""
RECIPE = "title: T\ndescription: D\nprompt: Do it.\n"


def until(seen: Callable[[], T], what: str, *, limit: float = PATIENCE) -> T:
    """Wait for an event: the first true thing that `seen` gives.

    What the program is asked meanwhile it answers in this process; the answer that ends the wait is given by the
    program itself, started as its users start it.
    """
    end = time.monotonic() + limit
    while True:
        begun = time.monotonic()
        with waiting() as wait:
            found = seen()
        took = time.monotonic() - begun
        if found and wait.has_looked:
            found = seen()
        if found:
            return found
        assert time.monotonic() < end, f"did not happen within {limit:.0f} s: {what}"
        time.sleep(max(0.05, 2 * took))  # who waits leaves the processor to what is waited for


def pool(name: str, *agents: str, extra: str = "", limit: int = 1) -> str:
    """A pool file; an agent is written `name` or `name, key: value`."""
    lines = "".join(f"  - {{name: {agent}}}\n" for agent in agents)
    body = f"agents:\n{lines}" if agents else ""
    head = f"apiVersion: tsched/v1\nkind: Pool\nname: {name}\nruntime: work\n"
    defaults = "" if "defaults:" in extra else f"defaults: {{limit: {limit}}}\n"
    return head + defaults + extra + body


class World:
    """One remote, one clone to edit it, one runner's state folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.remote = root / "remote.git"
        self.clone = root / "clone"
        self.state = root / "state"
        self.gates = root / "gates"
        self.gates.mkdir(parents=True)
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "LANG": "C.UTF-8",
            "TSCHED_REPO": str(self.remote),
            "TSCHED_STATE": str(self.state),
            "TSCHED_PASS_ENV": "GATE",
            "GATE": str(self.gates),
            "GIT_AUTHOR_NAME": "op", "GIT_AUTHOR_EMAIL": "op@example.org",
            "GIT_COMMITTER_NAME": "op", "GIT_COMMITTER_EMAIL": "op@example.org",
        }  # fmt: skip
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.remote], check=True, env=self.environ)
        subprocess.run(["git", "init", "-q", "-b", "main", self.clone], check=True, env=self.environ)
        self.git("remote", "add", "origin", str(self.remote))

    # the operator at their own machine

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", self.clone, *arguments], env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def push(self, message: str = "change", **files: str | None) -> str:
        """Write (or, by None, remove) files of pools/, commit all, push. `limits` and pools by name."""
        for name, text in files.items():
            self.file(f"pools/{name}.yaml", text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        self.git("push", "-q", "--force", "origin", "HEAD:refs/heads/main")
        return self.git("rev-parse", "HEAD")

    def file(self, path: str, text: str | None) -> None:
        target = self.clone / path
        if text is None:
            target.unlink()
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def recipes(self, *names: str, text: str = RECIPE) -> None:
        for name in names:
            self.file(f"recipes/{name}.yaml", text)

    def fleet(self, **pools: str) -> str:
        """The first commit: these pools, a recipe for each agent that the tests use, our limits."""
        self.recipes("ada", "ben", "cy")
        return self.push("fleet", **{"limits": LIMITS, **pools})

    def revert(self, commit: str = "HEAD") -> str:
        self.git("revert", "--no-edit", commit)
        self.git("push", "-q", "origin", "HEAD:refs/heads/main")
        return self.git("rev-parse", "HEAD")

    # the runner's machine

    def run(
        self, *arguments: str, check: int | None = None, cwd: Path | None = None, only: dict[str, str] | None = None,
        **environ: str,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run the program; `check`: the exit code it must have; `only`: the whole environment instead of ours."""
        settings = {**(self.environ if only is None else only), **environ}
        stand = cwd or self.root
        done = look(arguments, settings, stand) or forked.run(arguments, settings, stand, timeout=120)
        assert "Traceback" not in done.stderr, done.stderr
        assert check is None or done.returncode == check, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def once(self, *flags: str, check: int = 0) -> str:
        return self.run("run", "--once", *flags, check=check).stdout

    @contextmanager
    def daemon(self, **environ: str) -> Iterator[forked.Forked]:
        """A daemon that runs until the block ends; then SIGTERM must end it with exit code 0."""
        log = str(self.root / "daemon.log")
        process = forked.Forked(
            ("run", "--daemon"), environ={**self.environ, **environ}, cwd=self.root, out=log, err=log
        )
        try:
            yield process
        finally:
            running = process.poll() is None
            if running:
                process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=60)
        assert not running or code == 0, (self.root / "daemon.log").read_text()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json", check=0).stdout)
        return found

    def agent(self, name: str, queue: str | None = None) -> dict[str, Any] | None:
        """The agent as status lists it (in that queue)."""
        for one in self.status()["pools"]:
            for agent in one["agents"]:
                if agent["name"] == name and queue in (None, one["queue"]):
                    found: dict[str, Any] = agent
                    return found
        return None

    def state_of(self, name: str, queue: str | None = None) -> str | None:
        found = self.agent(name, queue)
        return None if found is None else str(found["state"])

    def applied(self) -> str | None:
        found: str | None = self.status()["revision"]["applied"]
        return found

    def add(self, title: str, *flags: str, queue: str = "dev") -> str:
        return self.run("task", "add", title, "--queue", queue, *flags, check=0).stdout.strip()

    def task(self, task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("task", "show", task_id, "--json", check=0).stdout)
        return found

    def outcomes(self, task_id: str) -> list[str]:
        return [str(run["outcome"]) for run in self.task(task_id)["runs"]]

    def running(self, task_id: str) -> dict[str, Any] | None:
        """The task's lease once its agent has been started."""
        try:
            lease: dict[str, Any] = json.loads((self.state / f"running/task_{task_id}.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return lease if lease["state"] == "running" else None

    def wait_running(self, task_id: str) -> dict[str, Any]:
        lease = until(lambda: self.running(task_id), f"task {task_id} runs")
        assert lease is not None
        return lease

    def wait_status(self, task_id: str, status: str) -> dict[str, Any]:
        def shown() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] == status else None

        found = until(shown, f"task {task_id} is {status}")
        assert found is not None
        return found

    def open(self, *task_ids: str) -> None:
        """Let held tasks end."""
        for task_id in task_ids:
            (self.gates / task_id).touch()

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        lines = self.run("events", "--json", "--limit", "1000", check=0).stdout.splitlines()
        return [event for event in map(json.loads, lines) if event["kind"].startswith(kind)]

    def leases(self) -> Sequence[str]:
        return sorted(path.name for path in (self.state / "running").iterdir())

    def condition(self, kind: str) -> dict[str, Any]:
        return next(one for one in self.status()["conditions"] if one["type"] == kind)

    def settled(self) -> None:
        """Nothing is left over: no lease, no link, no run folder."""
        until(lambda: not self.leases(), "no lease is left")
        until(lambda: not list((self.state / "runs").iterdir()), "no run folder is left")


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
