"""The holder of the state folder: known by its lock, ended only as itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_state import HOLDER, child, end
from tsched.state import holder
from tsched.state.folder import StateFolder
from tsched.state.holder import Holder
from tsched.state.lock import LockHeld, RunnerLock

STUBBORN = """
import signal, sys, time
from pathlib import Path
from tsched.state.folder import StateFolder
from tsched.state.lock import RunnerLock
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with RunnerLock(StateFolder(Path(sys.argv[1]))):
    print("ready", flush=True)
    sys.stdin.read()
"""
FORKED = """
import os, sys, time
from pathlib import Path
from tsched.state.folder import StateFolder
from tsched.state.lock import RunnerLock
with RunnerLock(StateFolder(Path(sys.argv[1]))):
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            time.sleep(0.01)
        os._exit(0)
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_it_is_found_without_the_file_and_despite_it(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    assert (holder.held(folder), holder.find(folder)) == (False, None)
    process = child(STUBBORN, tmp_path)
    try:
        for text in (f"{process.pid}\n", f"{os.getpid()}\n", "nonsense\n", None):
            if text is None:
                folder.lock_file.unlink()
            else:
                folder.lock_file.write_text(text)
            found = holder.find(folder)
            assert found is not None
            assert found.pid == process.pid
            assert "since 20" in found.what
        with pytest.raises(LockHeld):
            folder.lock_file.write_text("1\n")
            holder.clear(folder)
        assert folder.lock_file.exists()
    finally:
        end(process)
    assert holder.clear(folder)
    assert not holder.clear(folder)


def test_what_it_waits_for_is_named(tmp_path: Path) -> None:
    process = child(HOLDER, tmp_path)
    assert process.stdout is not None
    sleeper = int(process.stdout.readline())
    try:
        found = holder.find(StateFolder(tmp_path))
        assert found is not None
        assert "running sleep 60, since 20" in found.doing
    finally:
        end(process)
        os.kill(sleeper, signal.SIGKILL)


@pytest.mark.parametrize(("code", "by"), [(STUBBORN, signal.SIGKILL), (FORKED, signal.SIGTERM)])
def test_one_that_does_not_go_is_killed(tmp_path: Path, code: str, by: int) -> None:
    folder = StateFolder(tmp_path)
    process = child(code, tmp_path)
    try:
        found = holder.find(folder)
        assert found is not None
        assert holder.end(folder, found, patience=0.2)
        assert process.wait() == -by
        with RunnerLock(folder):
            pass
    finally:
        end(process)


def test_a_stranger_with_its_pid_is_never_signalled(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    process = child(STUBBORN, tmp_path)
    stranger = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        known = Holder(pid=stranger.pid, what="", doing="")
        assert not holder.end(folder, known, patience=0.0)
        assert stranger.poll() is None
        assert process.poll() is None
    finally:
        end(process)
        stranger.kill()
        stranger.communicate()
    gone = Holder(pid=stranger.pid, what="", doing="")
    assert holder.end(folder, gone, patience=0.0), "it is gone and so is the holder"
