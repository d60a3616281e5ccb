"""A run's overhead: the shim's start beside a bare Python's (processor time), and what it holds of memory."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.bench.conftest import Figures
from tests.bench.test_start import medians
from tests.integration.local_runs import Place, launch_of, shell
from tsched.executors.jobs import SHIM
from tsched.model.task import Task
from tsched.model.units import count

MOST = 12  # MiB


def test_a_shim_starts_in_twice_the_time_of_a_bare_python(tmp_path: Path, figure: Figures) -> None:
    """Until it has tried to take its fence: with another there before it, it goes home."""
    (tmp_path / "lock").touch()
    (tmp_path / "started").touch()
    spec = {
        "run_id": "r",
        "lease": "/",
        "link": "/",
        "lease_fields": {},
        "log": "/",
        "heartbeat": 1,
        "max_runtime": 1,
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    bare = [sys.executable, "-I", "-S"]
    found = medians({"python": [*bare, "-c", "pass"], "shim": [*bare, str(SHIM), str(tmp_path)]}, {})
    assert figure("a shim's start / a bare Python's", "", found["shim"] / found["python"], most=2)


@pytest.mark.parametrize("runs", [1, 10, 50])
def test_what_a_shim_holds_of_memory(tmp_path: Path, runs: int, figure: Figures) -> None:
    place = Place(tmp_path)
    tasks = [Task(id=str(number), title="T", queue="dev") for number in range(runs)]
    started = [place.launch(launch_of(shell("exec sleep inf"), run_id=f"r{task.id}", task=task)) for task in tasks]
    pids = [place.until_running(task.id)["pid"] for task in tasks]
    held = [int(re.findall(r"Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())[0]) for pid in pids]
    for run_id in started:
        place.finish(run_id)
    place.executor.close()
    assert figure("a shim's proportional set", count(runs, "shim"), max(held) / 1024, most=MOST, unit="MiB")
