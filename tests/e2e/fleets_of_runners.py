"""A drill: several real runners, each on its own state folder, share one task server and are killed at random.

The agents prove the rest themselves: each takes a lock named by its task, and writes down its start and its end.
`python -m tests.e2e.fleets_of_runners --runners 3 --tasks 200 --kills 50 --seed 7 --server served` is the long form.
"""

import argparse
import ctypes
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Protocol

import httpx

from tests.e2e.forked import CHILDREN
from tests.e2e.world import RECIPE, World, pool, until
from tests.integration.tinytask_servers import OldServer, old_server, served
from tsched.cli.main import main
from tsched.tasks.claims import Remark, standing

# Descriptor 9 is the proof: whoever gets the lock not is a second agent on the same task.
AGENT = """\
exec 9>"$GATE/$TSCHED_TASK_ID.lock"
flock -n 9 || { echo "OVERLAP $TSCHED_RUN_ID" >> "$GATE/$TSCHED_TASK_ID.journal"; exit 9; }
echo "start $TSCHED_RUN_ID" >> "$GATE/$TSCHED_TASK_ID.journal"
sleep 0.1
echo "end $TSCHED_RUN_ID" >> "$GATE/$TSCHED_TASK_ID.journal"
"""
LIMITS = f"""\
apiVersion: tsched/v1
kind: Limits
loop_interval: 100ms
heartbeat: 200ms
retry: {{attempts: 20, backoff: 50ms}}
runtimes:
  work: {{argv: [sh, -uc, {json.dumps(AGENT)}], evidence: exit}}
"""
AGENTS = ("ada", "ben", "cy")
SERVED = ("", "dev,qa", "zone=eu")  # what the runners serve, one after the other: each queue is at least two's
CLONE_NEWNET = 0x40000000
PATIENCE = 300.0  # seconds in which all must be done


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a drill came to. `lost`, `duplicated` and `leaked` say in words what is wrong; empty is as it must be."""

    tasks: int
    kills: int
    lost: tuple[str, ...]
    duplicated: tuple[str, ...]
    leaked: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not (self.lost or self.duplicated or self.leaked)


class Server(Protocol):
    """A task server of a drill, as a person uses it."""

    address: str

    def add(self, number: int) -> str:
        """Put in a task; its id."""
        ...

    def ends(self) -> dict[str, str]:
        """Each task's status, by id."""
        ...

    def claims(self) -> Sequence[str]:
        """The tasks that carry a claim."""
        ...


def drill(root: Path, *, runners: int, tasks: int, kills: int, seed: int, server: str) -> Report:
    """Let `runners` do `tasks` while `kills` of them die by SIGKILL, each started again at once.

    `server`: `served` (tsched tasks serve, over HTTP), `store` (the same, its first runner on the store itself) or
    `tinytask` (TinyTask 1.0.0's wire: no conditional claim, no queues). `root` must be an empty folder.
    """
    chance = random.Random(seed)
    with ExitStack() as opened:
        shared = opened.enter_context(SERVERS[server](root / "server"))
        team = [Runner(root, number, shared, first_on_store=server == "store") for number in range(runners)]
        fleet(team[0].world)
        ids = [shared.add(number) for number in range(max(1, tasks // 2))]  # all start with a race for these
        for one in team:
            opened.callback(one.stop)
            one.start()
        for number in range(kills):
            chance.choice(team).kill(after=chance.uniform(0.0, 0.6))
            due = tasks * (number + kills + 1) // (2 * kills)
            ids += [shared.add(number) for number in range(len(ids), due)]
        ids += [shared.add(number) for number in range(len(ids), tasks)]
        wait(shared, team)
        return judge(root, ids, shared, team, kills)


def _daemon(environ: Mapping[str, str], root: Path, namespace: str | None) -> None:
    """A process's whole life: `tsched run --daemon`, in that network namespace where one is named."""
    if namespace is not None:
        with open(namespace, "rb") as net:
            assert ctypes.CDLL(None).setns(net.fileno(), CLONE_NEWNET) == 0, "it may not enter the namespace"
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(root)
    log = os.open("daemon.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.exit(main(["run", "--daemon"]))


@dataclass
class Runner:
    """One machine's runner."""

    root: Path
    number: int
    server: Server
    first_on_store: bool = False
    namespace: str | None = None  # the file of its network namespace, None for the one that we are in
    world: World = field(init=False)
    process: ForkServerProcess | None = None

    def __post_init__(self) -> None:
        self.world = World(self.root / f"machine-{self.number}")
        environ = self.world.environ
        environ["TSCHED_REPO"] = str(self.root / "machine-0/remote.git")
        environ["GATE"] = str(self.root / "machine-0/gates")
        environ["TSCHED_POOLS"] = SERVED[self.number % len(SERVED)]
        environ["TSCHED_TASKS"] = self.server.address
        if self.first_on_store and self.number == 0:
            self.world.state = self.root / "server"
            environ |= {"TSCHED_STATE": str(self.world.state), "TSCHED_TASKS": "embedded"}

    def start(self) -> None:
        self.process = CHILDREN.Process(target=_daemon, args=(self.world.environ, self.world.root, self.namespace))
        self.process.start()

    def kill(self, *, after: float) -> None:
        """SIGKILL, so many seconds after it is at work, then start it again."""
        assert self.process is not None
        pid = f"{self.process.pid}\n"
        until(lambda: self._shown() == pid, f"runner {self.number} is at work")
        time.sleep(after)  # no wait for anything: the moment is what is drawn
        self.process.kill()
        self.process.join()
        self.start()

    def _shown(self) -> str:
        try:
            return (self.world.state / "tinyscheduler.lock").read_text()
        except FileNotFoundError:
            return ""

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.join(60)
            assert self.process.exitcode == 0, (self.world.root / "daemon.log").read_text()

    def left(self) -> Sequence[str]:
        """Leases and run folders; one half made when its runner died goes as the next run is made."""
        found = [one for name in ("running", "runs") for one in (self.world.state / name).glob("*")]
        return [f"{self.world.root.name}: {one.name}" for one in found if not one.name.startswith(".new_")]


def fleet(world: World) -> None:
    """The first commit."""
    world.recipes(*AGENTS, text=RECIPE)
    world.push(
        "fleet", limits=LIMITS,
        dev=pool("dev", "ada", "ben", limit=3, extra="labels: {zone: eu}\n"), qa=pool("qa", "cy", limit=3),
        docs=pool("docs", extra="labels: {zone: eu}\n"),
    )  # fmt: skip


def wait(server: Server, team: Sequence[Runner]) -> None:
    """Until all is done and put away; what is not by then is what the report names."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        done = all(status == "complete" for status in server.ends().values())
        if done and not server.claims() and not any(one.left() for one in team):
            return
        time.sleep(0.1)


def judge(root: Path, ids: Sequence[str], server: Server, team: Sequence[Runner], kills: int) -> Report:
    """What the agents wrote down, held against what the server says."""
    ends = server.ends()
    lost, duplicated = [], []
    for task_id in ids:
        journal = root / f"machine-0/gates/{task_id}.journal"
        lines = journal.read_text().splitlines() if journal.exists() else []
        story = f"task {task_id}: {ends.get(task_id)}; {', '.join(lines)}"
        if ends.get(task_id) != "complete" or not any(line.startswith("end ") for line in lines):
            lost.append(story)
        if len(lines) > 2:
            duplicated.append(story)
    leaked = [f"claim of task {one}" for one in server.claims()]
    leaked += [left for one in team for left in one.left()]
    return Report(
        tasks=len(ids), kills=kills, lost=tuple(lost), duplicated=tuple(duplicated), leaked=tuple(leaked)
    )  # fmt: skip


def shown(report: Report, faults: str) -> int:
    """Print what a drill came to, `faults` first. Returns the exit status."""
    counts = [f"tasks={report.tasks}"]
    for what in ("lost", "duplicated", "leaked"):
        found = getattr(report, what)
        print("".join(f"{what}: {one}\n" for one in found), end="")
        counts.append(f"{what}={len(found)}")
    print(faults, *counts)
    return 0 if report.good else 1


@dataclass
class Served:
    """`tsched tasks serve`."""

    base: str
    token: str = ""

    def __post_init__(self) -> None:
        self.address = f"tinytask+{self.base}"
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        self.http = httpx.Client(base_url=f"{self.base}/api/v1", headers=headers, timeout=30)

    def add(self, number: int) -> str:
        body: dict[str, object] = {"title": f"task {number}", "queue_name": ("dev", "qa")[number % 2]}
        if number % 5 == 0:
            body["assigned_to"] = "ada" if number % 2 == 0 else "cy"
        return str(self.http.post("/tasks", json=body).raise_for_status().json()["id"])

    def ends(self) -> dict[str, str]:
        return {str(one["id"]): one["status"] for one in self.http.get("/tasks").raise_for_status().json()}

    def claims(self) -> Sequence[str]:
        found = []
        for task_id in self.ends():
            said = self.http.get(f"/tasks/{task_id}").raise_for_status().json()["comments"]
            if standing(Remark(id=one["id"], text=one["content"]) for one in said).claim is not None:
                found.append(task_id)
        return found


@dataclass
class Recorded:
    """TinyTask 1.0.0 as it was recorded."""

    server: OldServer

    def __post_init__(self) -> None:
        self.address = f"tinytask+{self.server.base}/mcp"

    def add(self, number: int) -> str:
        return str(self.server.add(f"task {number}", assigned_to=AGENTS[number % len(AGENTS)]))

    def ends(self) -> dict[str, str]:
        return {str(number): str(task["status"]) for number, task in list(self.server.tasks.items())}

    def claims(self) -> Sequence[str]:
        said: dict[str, list[Remark]] = {}
        for number, one in enumerate(list(self.server.comments), start=1):
            said.setdefault(str(one["task_id"]), []).append(Remark(id=number, text=str(one["content"])))
        return [task_id for task_id, remarks in said.items() if standing(remarks).claim is not None]


@contextmanager
def _served(state: Path) -> Iterator[Server]:
    with served(state) as base:
        server = Served(base)
        with closing(server.http):
            yield server


@contextmanager
def _recorded(state: Path) -> Iterator[Server]:
    with old_server() as server:
        yield Recorded(server)


SERVERS = {"served": _served, "store": _served, "tinytask": _recorded}


def long_form() -> int:
    """The long form."""
    known = argparse.ArgumentParser(description=__doc__)
    for name, number in (("runners", 3), ("tasks", 200), ("kills", 50), ("seed", 1)):
        known.add_argument(f"--{name}", type=int, default=number)
    known.add_argument("--root", type=Path, help="an empty folder to work in, which stays")
    known.add_argument("--server", choices=sorted(SERVERS), default="served")
    given = known.parse_args()
    figures = {name: value for name, value in vars(given).items() if name != "root"}
    with tempfile.TemporaryDirectory() as root:
        report = drill(given.root or Path(root), **figures)
    return shown(report, f"kills={report.kills}")


if __name__ == "__main__":
    sys.exit(long_form())
