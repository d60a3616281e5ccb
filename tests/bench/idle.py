"""A large fleet at rest, for measuring a pass with nothing new: its runs' locks are held here, by no shims.

A thousand interpreters would only measure the machine's memory; to a pass a held lock is a run that lives.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.world import RECIPE, World
from tsched.executors import processes
from tsched.runner.cycle import cycle
from tsched.runner.host import Host, open_host
from tsched.settings import load
from tsched.state import applied
from tsched.state.lock import RunnerLock
from tsched.tasks.embedded import EmbeddedTasks

PER_POOL = 100
LIMITS = "apiVersion: tsched/v1\nkind: Limits\nmax_running: {running}\nspawn_per_cycle: {running}\n{extra}"
RUNTIME = "runtimes:\n  work: {argv: [sleep, inf], evidence: exit}\n"
POOL = "apiVersion: tsched/v1\nkind: Pool\nname: {name}\nruntime: work\ndefaults: {{limit: 2}}\nagents:\n{agents}"


@dataclass(kw_only=True, slots=True)
class Resting:
    """A host whose fleet is busy to its cap, with tasks waiting."""

    host: Host
    lock: RunnerLock
    remote: str
    world: World
    queues: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)

    def ask_server(self) -> None:
        """All that a pass with nothing new asks of the task server, and nothing else."""
        tasks, me = self.host.tasks, self.host.runner_id
        tasks.held(me)
        tasks.adrift()
        tasks.others(me)
        tasks.waiting(queues=self.queues, agents=self.agents)

    def change(self, number: int) -> None:
        """A commit that gives one agent another limit."""
        self.world.push(f"change {number}", **{self.queues[0]: _pool(self.queues[0], self.agents[:PER_POOL], number)})

    def generation(self) -> int:
        return applied.load(self.host.db).generation


def _pool(queue: str, agents: list[str], limit: int | None = None) -> str:
    """The first agent's own limit, where one is given."""
    lines = [f"  - name: {one}\n" for one in agents]
    if limit is not None:
        lines[0] = f"  - {{name: {agents[0]}, limit: {limit + 3}}}\n"
    return POOL.format(name=queue, agents="".join(lines))


@contextmanager
def resting(
    folder: Path, *, agents: int, running: int, waiting: int, extra: str = "", server: str = ""
) -> Iterator[Resting]:
    """A fleet of that many agents, a hundred a pool, with runs that live and tasks that wait for one to end.

    `server`: host:port of a web server of the folder's repositories, by which the remote is reached.
    """
    world = World(folder)
    names = [f"agent-{number:05d}" for number in range(agents)]
    queues = [f"pool-{start:05d}" for start in range(0, agents, PER_POOL)]
    world.recipes(*names, text=RECIPE)
    pools = {
        queue: _pool(queue, names[start : start + PER_POOL])
        for start, queue in zip(range(0, agents, PER_POOL), queues, strict=True)
    }
    world.push("fleet", limits=LIMITS.format(running=running, extra=extra) + RUNTIME, **pools)
    fill(world, queues, running + waiting)
    environ = {key: value for key, value in world.environ.items() if not key.startswith("GIT_")}
    remote = f"http://{server}/{world.remote.name}" if server else str(world.remote)
    environ["TSCHED_REPO"] = remote
    held: list[int] = []
    with closing(open_host(load(environ=environ, cwd=folder))) as host, RunnerLock(host.folder) as lock:
        _hold_instead_of_start(host, held)
        try:
            cycle(host, lock)
            assert len(held) == running
            yield Resting(host=host, lock=lock, remote=remote, world=world, queues=queues, agents=names)
        finally:
            for handle in held:
                os.close(handle)


def fill(world: World, queues: list[str], number: int) -> None:
    """Tasks by the thousand in one transaction: put in one by one they would take longer than all passes."""
    path = world.state / "tasks.db"
    world.state.mkdir(mode=0o700, exist_ok=True)
    with closing(EmbeddedTasks(path)) as tasks, tasks._writing():
        for count in range(number):
            tasks._db.execute(
                "INSERT INTO tasks (title, queue, created_at, updated_at) VALUES (?, ?, ?, ?)",
                (f"task {count}", queues[count % len(queues)], time.time(), time.time()),
            )


def _hold_instead_of_start(host: Host, held: list[int]) -> None:
    this = processes.look(os.getpid())
    start_of_this = this.start if this is not None else 0

    def start(run_id: str) -> None:
        folder = host.folder.runs / run_id
        handle = os.open(folder / "lock", os.O_RDWR)
        fcntl.flock(handle, fcntl.LOCK_EX)
        held.append(handle)
        spec = json.loads((folder / "spec.json").read_text())
        me = {"pid": os.getpid(), "process_start": start_of_this, "boot_id": processes.boot_id()}
        lease = {**spec["lease_fields"], "state": "running", **me}
        Path(spec["lease"]).write_text(json.dumps(lease, indent=2))
        os.symlink(Path(spec["lease"]).name, spec["link"])

    host.executor.start = start  # type: ignore[method-assign]
