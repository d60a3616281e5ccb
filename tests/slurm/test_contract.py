"""The contract of executors, over jobs of a real Slurm."""

from collections.abc import Iterator

import pytest

from tests.integration.executor_contract import ExecutorContract
from tests.slurm.apart import ApartPlace, apart
from tests.slurm.cluster import Cluster


class TestSlurm(ExecutorContract):
    pass


class TestSlurmApart(ExecutorContract):
    """Over nodes that can't see the state folder."""

    @pytest.fixture
    def place(self, cluster: Cluster) -> Iterator[ApartPlace]:
        with apart(cluster) as one:
            yield one
