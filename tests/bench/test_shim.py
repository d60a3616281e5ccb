"""A run's overhead: the shim's start beside a bare Python's (processor time), and what it holds of memory."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.bench.test_start import medians
from tests.integration.local_runs import Place, launch_of, shell
from tsched.executors.jobs import SHIM
from tsched.model.task import Task

MOST = 12 * 1024  # KiB


def test_a_shim_starts_in_twice_the_time_of_a_bare_python(tmp_path: Path) -> None:
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
    print(f"\nshim's start: {found['shim'] / found['python']:.2f} times a bare Python's ({found['python']:.1f} ms)")
    assert found["shim"] <= 2 * found["python"]


@pytest.mark.parametrize("runs", [1, 10, 50])
def test_what_a_shim_holds_of_memory(tmp_path: Path, runs: int) -> None:
    place = Place(tmp_path)
    tasks = [Task(id=str(number), title="T", queue="dev") for number in range(runs)]
    started = [place.launch(launch_of(shell("exec sleep inf"), run_id=f"r{task.id}", task=task)) for task in tasks]
    pids = [place.until_running(task.id)["pid"] for task in tasks]
    held = [int(re.findall(r"Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())[0]) for pid in pids]
    for run_id in started:
        place.finish(run_id)
    print(f"\n{runs:3} shims: {max(held) / 1024:.1f} MiB each at most (proportional set)")
    assert max(held) < MOST
