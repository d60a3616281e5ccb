"""How many runs a pass looks at one by one: each twice after a restart, then none, as the kernel tells their ends."""

import fcntl
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.bench.conftest import Figures
from tests.integration.local_runs import Place, launch_of, shell
from tests.integration.test_state import lease
from tsched.executors import processes
from tsched.executors.executor import Liveness
from tsched.executors.locks import locked
from tsched.executors.watch import SHARE
from tsched.model.task import Task


@contextmanager
def living(place: Place, number: int) -> Iterator[list[str]]:
    """Runs whose shim is this very process."""
    me = processes.look(os.getpid())
    assert me is not None
    place.running.mkdir()
    names, held = [f"{one}-1-aa" for one in range(number)], []
    for one, name in enumerate(names):
        (place.runs / name).mkdir(parents=True)
        held.append(os.open(place.runs / name / "lock", os.O_RDWR | os.O_CREAT))
        fcntl.flock(held[-1], fcntl.LOCK_EX)
        own = {"pid": os.getpid(), "process_start": me.start, "boot_id": processes.boot_id(), "run_id": name}
        (place.running / f"task_{one}.json").write_text(json.dumps({**asdict(lease(str(one))), **own}))
        launch = launch_of(shell("true"), run_id=name, task=Task(id=str(one), title="t", queue="dev"))
        (place.runs / name / "run.json").write_text(json.dumps(asdict(launch.run)))
    try:
        yield names
    finally:
        for handle in held:
            os.close(handle)


@pytest.mark.parametrize("number", [10, 100, 1_000])
def test_runs_that_are_watched_are_not_looked_at(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, figure: Figures
) -> None:
    looked: list[str] = []
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most[0] // SHARE < number:
        pytest.skip(f"this shell may have {most[0]} descriptors: a part of the runs would be watched")

    def counted(path: Path | str) -> bool:
        looked.append(str(path))
        return locked(path)

    monkeypatch.setattr("tsched.executors.local.locked", counted)
    place = Place(tmp_path)
    with living(place, number) as names:
        counts = []
        for _ in range(4):
            looked.clear()
            assert place.executor.poll() == dict.fromkeys(sorted(names), Liveness.ALIVE)
            counts.append(len(looked))
    after = figure("locks looked at after a restart", f"{number:,} runs", sum(counts[:2]), most=3 * number, unit="")
    assert figure("locks looked at in later passes", f"{number:,} runs", sum(counts[2:]), most=0, unit="") and after
