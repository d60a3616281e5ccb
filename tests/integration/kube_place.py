"""A state folder whose runs are Jobs of the test's cluster."""

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.integration.executor_contract import WAITS
from tests.integration.kube_cluster import Cluster
from tests.integration.local_runs import Place, shell, wait_for
from tsched.executors.executor import Launch, Liveness
from tsched.executors.kubernetes.executor import KubernetesExecutor
from tsched.executors.local import LocalExecutor
from tsched.model.fleet import Runtime
from tsched.model.placement import Engine, Kubernetes

IMAGE = "agents/goose:1"


class AsPasses(KubernetesExecutor):
    """Attends to its runs before it looks at them, as a runner's passes do."""

    def poll(self) -> Mapping[str, Liveness]:
        self.attend()
        return super().poll()


class KubePlace(Place):
    kind: type[LocalExecutor] = AsPasses

    def __init__(self, root: Path, cluster: Cluster) -> None:
        self.cluster = cluster
        self.run_id = f"7-1-{secrets.token_hex(5)}"
        super().__init__(root, KUBECONFIG=str(cluster.kubeconfig()))

    def launch_of(self, runtime: Runtime, **options: Any) -> Launch:
        wanted = {"engine": Engine.KUBERNETES, "kubernetes": Kubernetes(image=IMAGE), **options}
        return super().launch_of(runtime, **wanted)

    def until_running(self, task_id: str = "7") -> Mapping[str, object]:
        """There is no shim that writes the lease: passes do."""

        def running() -> Mapping[str, object] | None:
            self.executor.poll()
            fields = self.lease(task_id)
            return fields if fields.get("state") == "running" else None

        return wait_for(running)

    def job(self) -> dict[str, Any]:
        (job,) = self.cluster.all("jobs")
        return job

    def pod(self) -> dict[str, Any]:
        (pod,) = self.cluster.all("pods")
        return pod


def running(place: KubePlace, script: str = WAITS) -> str:
    """Launch a run that waits to be let go, and see it run. Returns its id."""
    run_id = place.launch(place.launch_of(shell(script)))
    place.until_running()
    return run_id


def let_go(place: KubePlace) -> None:
    (place.workspaces / place.run_id / "go").touch()


def later(place: KubePlace, seconds: float) -> None:
    """The runner's clock is ahead from now on."""
    place.executor._clock = lambda: time.time() + seconds
