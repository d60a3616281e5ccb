"""One pass beside TinyScheduler's of the same tasks on the same server: whole processes, processor time and requests.

Its source is public and stays outside of this repository: TINYSCHEDULER names a folder that has its `src/scheduler`,
TINYSCHEDULER_PYTHON a Python with what that imports (`mcp==1.25.0`: with later ones every pass of it dies).

It speaks MCP by server-sent events alone, as TinyTask serves it; here a relay does so for the served queue.
It assigns nothing from queues: no server knows the tool that it asks. So its passes start what agents were assigned.
"""

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.bench.conftest import Figures
from tests.e2e.world import RECIPE, World, pool
from tests.integration.tinytask_servers import Json, OldServer, served
from tests.integration.weather import Weather
from tsched.gitops import refs

SOURCE, PYTHON = os.environ.get("TINYSCHEDULER"), os.environ.get("TINYSCHEDULER_PYTHON")
pytestmark = pytest.mark.skipif(
    not (SOURCE and PYTHON),
    reason="TINYSCHEDULER and TINYSCHEDULER_PYTHON do not name TinyScheduler's source and a Python",
)
SIZES = (10, 100, 300)  # agents
STARTS = (10, 30, 100)  # the same, where each starts a run
PER_POOL = 10
ROUNDS = 3
BOTH = ("application/json", "text/event-stream")
LIMITS = """\
apiVersion: tsched/v1
kind: Limits
max_running: {agents}
spawn_per_cycle: {agents}
heartbeat: 60s
runtimes:
  work: {{argv: [flock, --shared, {gate}, "true"], evidence: exit}}
"""

# What outlives its parent is waited for too, so its processor time is counted. A run that ended while the process
# lives that forked it would be counted nowhere: the gate is held shut until the pass is over.
LAUNCHER = """
import ctypes, fcntl, os, resource, sys
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
gate = open(sys.argv[1], "w")
os.set_inheritable(gate.fileno(), False)
fcntl.flock(gate, fcntl.LOCK_EX)
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
code = None
while True:
    try:
        one, status = os.wait()
    except ChildProcessError:
        break
    if one == pid:
        code = os.waitstatus_to_exitcode(status)
        fcntl.flock(gate, fcntl.LOCK_UN)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print("\\n", code, used.ru_utime + used.ru_stime)
"""


class Events(OldServer):
    """The served queue by server-sent events, as TinyTask 2.0.0 offers it to TinyScheduler."""

    def __init__(self, behind: str) -> None:
        self._behind = httpx.Client(base_url=behind, headers={"accept": ", ".join(BOTH)})
        super().__init__()

    def close(self) -> None:
        super().close()
        self._behind.close()

    def answer(self, body: Json) -> Json | None:
        self.calls.append(str(body["method"]))
        if "id" not in body:
            return None
        said = self._behind.post("/mcp", json=body).text
        found: Json = json.loads(said.partition("data: ")[2])
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of a pass and all that it started: seconds of processor time, and requests to the task server."""

    processor: float
    requests: int


@dataclass(kw_only=True, slots=True)
class Beside:
    """Both schedulers with the same agents, before the same task server."""

    folder: Path
    agents: Sequence[str]
    world: World
    weather: Weather
    events: Events
    said: dict[str, str] = field(default_factory=dict)

    def ours(self) -> Cost:
        environ = {**self.world.environ, "TSCHED_TASKS": f"tinytask+{self.weather.base}"}
        command = [sys.executable, "-m", "tsched", "run", "--once"]
        return self._cost("ours", command, self.world.root, environ, lambda: self.weather.requests)

    def theirs(self) -> Cost:
        assert SOURCE and PYTHON
        limits = json.dumps(dict.fromkeys(self.agents, 1))
        environ = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": SOURCE,
            "TINYSCHEDULER_BASE_PATH": str(self.folder / "theirs"), "TINYSCHEDULER_AGENT_LIMITS": limits,
            "TINYSCHEDULER_GOOSE_BIN": "/bin/true", "TINYSCHEDULER_MCP_ENDPOINT": self.events.base,
        }  # fmt: skip
        command = [PYTHON, "-m", "src.scheduler.cli", "run", "--once"]
        return self._cost("theirs", command, self.folder / "theirs", environ, lambda: len(self.events.calls))

    def _cost(
        self, who: str, command: Sequence[str], stand: Path, environ: Mapping[str, str], requests: Callable[[], int]
    ) -> Cost:
        before = requests()
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(self.folder / "gate"), *command]
        done = subprocess.run(
            launcher, cwd=stand, env=environ, capture_output=True, text=True, check=True, timeout=600
        )
        self.said[who] = done.stdout + done.stderr
        code, processor = done.stdout.split()[-2:]
        assert code == "0", self.said[who]
        return Cost(processor=float(processor), requests=requests() - before)

    def change(self, statement: str, *rows: Sequence[object]) -> None:
        """Of the served queue: what would take thousands of requests."""
        with closing(sqlite3.connect(self.folder / "served/tasks.db")) as db, db:
            db.executemany(statement, rows or [()])

    def assign(self, *, blocked_by: int | None = None) -> None:
        """Every agent gets a task of its own."""
        self.change(
            "INSERT INTO tasks (title, queue, assigned_to, blocked_by, created_at, updated_at)"
            " VALUES ('t', ?, ?, ?, 1, 1)",
            *[(queue_of(number), name, blocked_by) for number, name in enumerate(self.agents)],
        )


def queue_of(number: int) -> str:
    return f"q{number // PER_POOL:03d}"


@contextmanager
def beside(folder: Path, agents: int) -> Iterator[Beside]:
    world, theirs = World(folder / "ours"), folder / "theirs"
    names = [f"agent-{number:03d}" for number in range(agents)]
    world.recipes(*names, text=RECIPE)
    queues = dict.fromkeys(queue_of(number) for number in range(agents))
    pools = {one: pool(one, *(n for k, n in enumerate(names) if queue_of(k) == one)) for one in queues}
    world.push("fleet", limits=LIMITS.format(agents=agents, gate=folder / "gate"), **pools)
    for below in ("recipes", "scripts", "docs/technical"):
        (theirs / below).mkdir(parents=True)
    for name in names:
        (theirs / f"recipes/{name}.yaml").write_text(RECIPE)
    (theirs / "scripts/run_agent.py").write_text("")  # a run that is over at once
    control = [{"agentName": name, "agentType": queue_of(number)} for number, name in enumerate(names)]
    (theirs / "docs/technical/agent-control.json").write_text(json.dumps(control))
    with (
        served(folder / "served") as base,
        closing(Weather(base)) as weather,
        closing(Events(base)) as events,
    ):
        one = Beside(folder=folder, agents=names, world=world, weather=weather, events=events)
        one.ours()  # adopts the fleet
        one.theirs()  # compiles its modules
        while refs.mark(str(world.remote), "main") is None:  # as for a remote that nobody pushed to just now
            time.sleep(0.1)
        yield one


def compared(figure: Figures, what: str, costs: Sequence[tuple[Cost, Cost]], agents: int) -> bool:
    """Medians of ours and theirs, as a row each of requests and of processor time. Whether ours is not the slower."""
    ours, theirs = zip(*costs, strict=True)
    asked = [statistics.median(one.requests for one in costs) for costs in (ours, theirs)]
    used = [statistics.median(one.processor for one in costs) for costs in (ours, theirs)]
    size = f"{agents} agents"
    figure(f"requests of {what} / TinyScheduler's", f"{size} ({asked[0]:.0f}, {asked[1]:.0f})", asked[0] / asked[1])
    return figure(
        f"{what} / TinyScheduler's", f"{size} ({used[0]:.2f}, {used[1]:.2f} s)", used[0] / used[1], most=1.0
    )


@pytest.mark.parametrize("agents", SIZES)
def test_a_pass_with_nothing_to_do(tmp_path: Path, figure: Figures, agents: int) -> None:
    """Each agent has a free slot and a task of its own, which waits for another."""
    with beside(tmp_path, agents) as one:
        one.change("INSERT INTO tasks (title, queue, created_at, updated_at) VALUES ('blocker', 'elsewhere', 1, 1)")
        one.assign(blocked_by=1)
        costs = [(one.ours(), one.theirs()) for _ in range(ROUNDS)]
        assert f"Blocked tasks skipped: {agents}" in one.said["ours"]
        assert f"Blocked tasks skipped: {agents}" in one.said["theirs"]
    assert compared(figure, "a pass with nothing to do", costs, agents)


@pytest.mark.parametrize("agents", STARTS)
def test_a_pass_that_starts_every_agents_task(tmp_path: Path, figure: Figures, agents: int) -> None:
    """Until the last run is over: ours an agent that does nothing, theirs a wrapper that starts not even that."""
    costs = []
    with beside(tmp_path, agents) as one:
        for _ in range(ROUNDS):
            one.assign()
            theirs = one.theirs()
            assert f"Total tasks spawned: {agents}" in one.said["theirs"]
            one.change("UPDATE tasks SET status = 'complete'")
            for lease in (tmp_path / "theirs/state/running").iterdir():
                lease.unlink()
            one.assign()
            costs.append((one.ours(), theirs))
            assert f"tasks_spawned={agents}" in one.said["ours"]
            one.ours()  # settles
            assert not one.world.leases()
    assert compared(figure, "a pass that starts every agent's task", costs, agents)
