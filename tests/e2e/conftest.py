"""A world for each test, whose held agents are let go at its end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.world import World, until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A team's world; see tests/e2e/world.py."""
    made = World(tmp_path)
    yield made
    made.open(*(str(number) for number in range(1, 30)))
    if (made.state / "running").exists():
        until(lambda: not made.leases(), "all runs end once their gates are open")
