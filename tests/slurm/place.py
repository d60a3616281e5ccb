"""A state folder whose runs are jobs of the test's cluster."""

import secrets
from pathlib import Path
from typing import Any

from tests.integration.local_runs import Place
from tests.slurm.cluster import Cluster
from tsched.executors.executor import Launch
from tsched.executors.slurm import SlurmExecutor
from tsched.model.fleet import Runtime
from tsched.model.placement import Engine


class SlurmPlace(Place):
    kind = SlurmExecutor

    def __init__(self, root: Path, cluster: Cluster) -> None:
        self.cluster = cluster
        self.run_id = f"r-{secrets.token_hex(6)}"  # Slurm remembers jobs by it for longer than a test takes
        super().__init__(root, **cluster.environ)

    def launch_of(self, runtime: Runtime, **options: Any) -> Launch:
        return super().launch_of(runtime, **{"engine": Engine.SLURM, **options})
