"""One cluster for all tests of a session, skipped with a plain word where there can be none."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, why_not
from tests.slurm.place import SlurmPlace


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if "TSCHED_TEST_SLURM" not in os.environ:
        pytest.skip("a real Slurm is started by `make test-slurm` alone")
    if words := why_not():
        pytest.skip(words)
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(_cluster: Cluster) -> Iterator[Cluster]:
    """All of it up, and without jobs when the test ends."""
    yield _cluster
    _cluster.revive()


@pytest.fixture
def place(tmp_path: Path, cluster: Cluster) -> SlurmPlace:
    return SlurmPlace(tmp_path, cluster)
