"""What several tests start from: a place for runs of the local executor, and a task server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.local_runs import Place, git


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "state")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    git("init", "-q", "-b", "main", str(source), at=tmp_path)
    (source / "gate").write_text("squeaks\n")
    (source / ".gitignore").write_text("*.o\n")
    git("add", ".", at=source)
    git("commit", "-qm", "first", at=source)
    return source


@pytest.fixture(scope="module")
def task_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """`tsched tasks serve` for a module's tests, who empty its queue before they use it: its address, its store."""
    from tests.integration.tinytask_servers import served

    state = tmp_path_factory.mktemp("served")
    with served(state) as address:
        yield address, state / "tasks.db"
