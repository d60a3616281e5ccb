"""A pid that was given again belongs to a stranger: whatever names it, the stranger is never signalled."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tsched.state.folder import StateFolder
from tsched.state.wake import wake

STRANGER = "import sys; sys.stdin.read()"  # SIGHUP, like any signal here, would end it
HOLDER = """
import signal, sys
from pathlib import Path
from tsched.state.folder import StateFolder
from tsched.state.lock import RunnerLock
signal.signal(signal.SIGHUP, lambda *_: print("woken", flush=True))
with RunnerLock(StateFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def process(code: str, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def stranger() -> Iterator["subprocess.Popen[str]"]:
    one = process(STRANGER)
    yield one
    assert one.poll() is None, "nobody signalled it"
    one.kill()
    one.communicate()


def test_waking_goes_by_the_lock_and_not_by_the_file(tmp_path: Path, stranger: "subprocess.Popen[str]") -> None:
    folder = StateFolder(tmp_path)
    runner = process(HOLDER, str(tmp_path))
    assert runner.stdout is not None
    assert runner.stdout.readline() == "held\n"
    folder.lock_file.write_text(f"{stranger.pid}\n")  # by hand, or by a runner of the last boot
    assert wake(folder) == runner.pid
    assert runner.stdout.readline() == "woken\n"
    runner.send_signal(signal.SIGKILL)
    runner.communicate()
    folder.lock_file.write_text(f"{stranger.pid}\n")
    assert wake(folder) is None


def test_a_file_that_names_a_stranger_is_nobody_where_nothing_is_locked(
    tmp_path: Path, stranger: "subprocess.Popen[str]"
) -> None:
    folder = StateFolder(tmp_path)
    folder.lock_file.write_text(f"{stranger.pid}\n")
    assert wake(folder) is None
    assert wake(StateFolder(tmp_path / "none")) is None
