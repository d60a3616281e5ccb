"""A state folder that the test's node can't see: its runs are fetched over HTTP from the web page's own routes."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.integration.nodes import Door
from tests.slurm.cluster import Cluster
from tests.slurm.place import SlurmPlace
from tsched.executors import parcel
from tsched.executors.executor import Launch
from tsched.executors.nodes import Nodes
from tsched.model.fleet import Runtime
from tsched.model.placement import Slurm


class ApartPlace(SlurmPlace):
    """`workspaces` is where the node has the run: it is this machine, though it sees no state folder of ours."""

    def __init__(self, cluster: Cluster) -> None:
        root = cluster.hidden / secrets.token_hex(6)
        root.mkdir(mode=0o700)
        super().__init__(root, cluster)
        self.workspaces = parcel.place(self.run_id) / "workspaces"
        self.nodes = Nodes(runs=self.runs, running=self.running, logs=self.logs)
        self.door = Door(self.nodes)
        self.address = self.door.address
        self.executor = self.another()
        self.door.open()

    def launch_of(self, runtime: Runtime, **options: Any) -> Launch:
        return super().launch_of(runtime, **{"slurm": Slurm(shared=False), **options})


@contextmanager
def apart(cluster: Cluster) -> Iterator[ApartPlace]:
    place = ApartPlace(cluster)
    try:
        yield place
    finally:
        place.door.close()
