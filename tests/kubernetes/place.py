"""A state folder whose runs are Jobs of a real API server."""

import base64
import secrets
from pathlib import Path

from tests.integration.kube_place import AsPasses, KubePlace
from tests.integration.local_runs import Place
from tests.kubernetes.control import NAMESPACE, RUNNER, Control, Object
from tests.kubernetes.node import Node
from tsched.executors.kubernetes.cluster import Cluster
from tsched.executors.local import LocalExecutor


class AnyVersion(AsPasses):
    """As of a Kubernetes 1.29: none so new can be built here, and an older one is refused (see test_refusals.py)."""

    def _fit(self, cluster: Cluster) -> None:
        if cluster.trouble:
            super()._fit(cluster)


class RealPlace(KubePlace):
    kind: type[LocalExecutor] = AnyVersion

    def __init__(self, root: Path, control: Control, node: Node, *, port: int = 0) -> None:
        self.control, self.node = control, node
        self.run_id = f"7-1-{secrets.token_hex(5)}"
        config = control.kubeconfig("runner", {"token": RUNNER}, port=port)
        Place.__init__(self, root, KUBECONFIG=str(config))
        node.work = lambda run_id: root / "workspaces" / run_id

    def strict(self) -> None:
        """From now on by the executor as it is."""
        self.kind = AsPasses
        self.executor = self.another()

    def secret(self, name: str, **values: str) -> None:
        """A Secret, as somebody else has put it there."""
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.control.ask(
            "POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", {"metadata": {"name": name}, "data": data}
        )

    def all(self, kind: str) -> list[Object]:
        return self.control.all(kind)

    def job(self) -> Object:
        return self.control.ask("GET", f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{self.run_id}")
