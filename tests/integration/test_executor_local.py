"""The contract of executors, over processes of this machine."""

from pathlib import Path

import pytest

from tests.integration.executor_contract import ExecutorContract
from tests.integration.local_runs import Place


class TestLocal(ExecutorContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(tmp_path)
