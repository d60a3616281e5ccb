"""What the tests of the local executor share: a place to run in, launches, and waiting for events."""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from tsched.executors.executor import Launch, Liveness
from tsched.executors.local import LocalExecutor
from tsched.model.fleet import Recipe, RecipeFile, Resources, Runtime, Workspace
from tsched.model.placement import Engine, Kubernetes, Slurm
from tsched.model.run import ExitReason, Lease, LeaseState, Run, RunExit
from tsched.model.task import Task

PATIENCE = 30.0  # seconds; generous, since the machine is shared
R1 = f"r1-{secrets.token_hex(6)}"  # recovery ends every process of a run's id: other tests at this time have others
T = TypeVar("T")


def wait_for(what: Callable[[], T | None], *, seconds: float = PATIENCE) -> T:
    """The first true answer. Fails where there is none in time."""
    until = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < until, f"waited {seconds} s in vain"
        time.sleep(0.01)
    return answer


class Place:
    """The folders of a state folder and an executor over them."""

    run_id = R1
    kind: type[LocalExecutor] = LocalExecutor
    address = ""  # of `tsched serve`, for nodes that share no folder

    def __init__(self, root: Path, **environ: str) -> None:
        self.root = root
        self.runs = root / "runs"
        self.running = root / "running"
        self.logs = root / "logs" / "runs"
        self.workspaces = root / "workspaces"
        self.environ: Mapping[str, str] = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(root), **environ}
        self.executor = self.another()

    def another(
        self, *, pass_env: tuple[str, ...] = (), log_max: int = 64 << 20, agent_user: str | None = None
    ) -> LocalExecutor:
        """An executor over the same folders, as after the runner was started anew."""
        return self.kind(
            runs=self.runs,
            running=self.running,
            logs=self.logs,
            workspaces=self.root / "workspaces",
            environ=self.environ,
            pass_env=pass_env,
            log_max=log_max,
            agent_user=agent_user,
            address=self.address,
        )

    def launch_of(self, runtime: Runtime, **options: Any) -> Launch:
        """A launch for this place's executor; see launch_of."""
        return launch_of(runtime, **{"run_id": self.run_id, **options})

    def launch(self, launch: Launch) -> str:
        """Prepare, write the lease as the runner does, start. Returns the run id."""
        self.prepare(launch)
        self.executor.start(launch.run.run_id)
        return launch.run.run_id

    def prepare(self, launch: Launch) -> None:
        self.executor.prepare(launch)
        self.lease_of(launch.task.id).write_text(json.dumps(asdict(launch.lease), indent=2))

    def lease_of(self, task_id: str = "7") -> Path:
        return self.running / f"task_{task_id}.json"

    def lease(self, task_id: str = "7") -> Mapping[str, object]:
        """The lease's fields, {} where there is none that can be read."""
        try:
            fields: dict[str, object] = json.loads(self.lease_of(task_id).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return fields

    def until_running(self, task_id: str = "7") -> Mapping[str, object]:
        return wait_for(lambda: fields if (fields := self.lease(task_id)).get("state") == "running" else None)

    def until(self, run_id: str, state: Liveness) -> None:
        wait_for(lambda: self.executor.poll()[run_id] is state)

    def ended(self, run_id: str) -> RunExit:
        """The run's end, waited for."""
        self.until(run_id, Liveness.ENDED)
        end = self.executor.exit(run_id)
        assert end is not None
        return end

    def log(self, run_id: str) -> str:
        return (self.logs / f"{run_id}.log").read_text()

    def finish(self, run_id: str) -> RunExit:
        """Stop the run now and see its end."""
        self.executor.stop([run_id], reason=ExitReason.STOPPED, at=0)
        return self.ended(run_id)


def git(*arguments: str, at: Path) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, cwd=at, check=True, capture_output=True, text=True).stdout.strip()


def shell(script: str) -> Runtime:
    """A runtime that runs a shell script; the task reaches it as the environment alone."""
    return Runtime(name="shell", argv=("/bin/sh", "-c", script))


def python(script: str) -> Runtime:
    return Runtime(name="python", argv=(sys.executable, "-I", "-S", "-c", script))


def launch_of(
    runtime: Runtime,
    *,
    run_id: str = R1,
    task: Task | None = None,
    recipe: Recipe | None = None,
    max_runtime: float = 600,
    stop_grace: float = 20,
    heartbeat: float = 0.2,
    stall: float = 0.0,
    workspace: Workspace | None = None,
    attempt: int = 1,
    resources: Resources | None = None,
    engine: Engine = Engine.LOCAL,
    slurm: Slurm | None = None,
    kubernetes: Kubernetes | None = None,
) -> Launch:
    """A launch of agent vaela for task 7."""
    task = task or Task(id="7", title="Mend the gate", queue="dev", description="It squeaks", priority=3)
    recipe = recipe or Recipe(
        path="recipes/vaela.yaml",
        title="Vaela",
        prompt="Do it",
        files=(RecipeFile(path="recipes/vaela.yaml", blob="b" * 40, text="title: Vaela\nprompt: Do it\n"),),
    )
    run = Run(
        run_id=run_id,
        task_id=task.id,
        agent="vaela",
        pool="dev",
        queue="dev",
        attempt=attempt,
        revision="a" * 40,
        executor=str(engine),
        recipe=recipe.path,
        runtime=runtime.name,
        evidence="exit",
        created_at=1_700_000_000.0,
    )
    lease = Lease(
        task_id=task.id,
        agent="vaela",
        pid=0,
        recipe="vaela.yaml",
        started_at="2026-01-20T10:15:00.000Z",
        heartbeat="2026-01-20T10:15:00.000Z",
        host="here",
        state=LeaseState.CLAIMING,
        run_id=run_id,
        attempt=attempt,
        revision="a" * 40,
        pool="dev",
        queue="dev",
        executor=str(engine),
    )
    return Launch(
        run=run,
        task=task,
        lease=lease,
        recipe=recipe,
        runtime=runtime,
        max_runtime=max_runtime,
        stop_grace=stop_grace,
        heartbeat=heartbeat,
        stall=stall,
        resources=resources or Resources(),
        slurm=slurm or Slurm(),
        kubernetes=kubernetes or Kubernetes(),
        workspace=workspace,
    )
