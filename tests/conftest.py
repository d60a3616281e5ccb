"""What every test shares: hypothesis settings, a clean environment, and no process left behind."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Two busy cores: deadlines measure the machine, not the code.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started as a background job: what is under test must hear it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several testers each begins with its share of the long tests, so that what is left for the end is short.

    pytest-xdist deals the collection out in slices, one a tester; who has done with theirs takes from the others.
    """
    testers = getattr(config, "workerinput", {}).get("workercount", 1)
    long = [item for item in items if {"e2e", "faults"} & {*item.path.parts}]
    short = [item for item in items if not {"e2e", "faults"} & {*item.path.parts}]
    dealt: list[pytest.Item] = []
    for tester in range(testers):
        size = (len(items) - len(dealt)) // (testers - tester)
        mine = long[tester::testers]
        rest = max(0, size - len(mine))
        dealt += [*mine, *short[:rest]]
        del short[:rest]
    items[:] = dealt


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person running the tests may reach them."""
    for name in list(os.environ):
        if name.startswith(("TSCHED_", "TINYSCHEDULER_", "GIT_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_process_left(tmp_path: Path) -> Iterator[None]:
    """A test that leaves a process working below its temporary folder fails, and the process is ended."""
    yield
    end = time.monotonic() + 10  # a shim that has let go of its lease is on its way out
    while left := list(_working_below(tmp_path)):
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    for pid, _ in left:
        os.kill(pid, 9)
    assert not left, f"the test left processes running: {left}"


def _working_below(folder: Path) -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            below = (entry / "cwd").readlink().is_relative_to(folder)
        except OSError:
            continue
        if below or str(folder) in command:
            yield int(entry.name), command
