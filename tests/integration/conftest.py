"""What several tests of the local executor start from."""

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
