"""One control plane for all tests of a session, skipped with a plain word where there can be none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("kubernetes", reason="the extra `kubernetes` is not installed")

from tests.kubernetes.control import FOLDER, Control, control_at, why_not
from tests.kubernetes.node import Node
from tests.kubernetes.place import RealPlace
from tests.kubernetes.wire import Wire


@pytest.fixture(scope="session")
def _plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Control, Node]]:
    if not FOLDER:
        pytest.skip("a real API server is started by `make test-kubernetes` alone")
    if words := why_not():
        pytest.skip(words)
    with control_at(tmp_path_factory.mktemp("control")) as control:
        node = Node(control, control.root / "node")
        try:
            node.start()
            yield control, node
        finally:
            node.open = False
            control.stop()  # which ends the node's watch too
            node.close()


@pytest.fixture
def plane(_plane: tuple[Control, Node]) -> Iterator[tuple[Control, Node]]:
    """All of it up, and without Jobs, pods and Secrets of ours when the test ends."""
    control, node = _plane
    yield control, node
    control.revive()
    control.clear()
    node.revive()


@pytest.fixture
def control(plane: tuple[Control, Node]) -> Control:
    return plane[0]


@pytest.fixture
def node(plane: tuple[Control, Node]) -> Node:
    return plane[1]


@pytest.fixture
def place(tmp_path: Path, control: Control, node: Node) -> RealPlace:
    return RealPlace(tmp_path, control, node)


@pytest.fixture
def wire(control: Control) -> Iterator[Wire]:
    made = Wire(control.port)
    try:
        yield made
    finally:
        made.close()
