"""The runner's lock beside other processes that look, lose and die."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_state import HOLDER, child, end
from tsched.state.folder import StateFolder
from tsched.state.lock import LockHeld, RunnerLock, holder

LOOKER = """
import sys
from pathlib import Path
from tsched.state.folder import StateFolder
from tsched.state.lock import holder
folder = StateFolder(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    holder(folder)
"""

LOSER = """
import sys
from pathlib import Path
from tsched.state.folder import StateFolder
from tsched.state.lock import LockHeld, RunnerLock
try:
    with RunnerLock(StateFolder(Path(sys.argv[1]))):
        print("won")
except LockHeld as error:
    print(error)
"""


def test_one_that_only_looks_never_keeps_a_runner_out(tmp_path: Path) -> None:
    process = child(LOOKER, tmp_path)
    try:
        for _ in range(300):
            with RunnerLock(StateFolder(tmp_path)):
                pass
    finally:
        end(process)


def test_a_loser_is_told_who_holds_it_and_touches_nothing(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with RunnerLock(folder):
        before = folder.lock_file.stat()
        said = subprocess.run(
            [sys.executable, "-c", LOSER, str(tmp_path)], capture_output=True, text=True, check=True
        )
        after = folder.lock_file.stat()
    assert f"pid {os.getpid()} (" in said.stdout
    assert ", since 20" in said.stdout
    assert said.stdout.count("\n") == 1, "one line, whatever the holder's command line holds"
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_the_holder_is_known_while_it_lives_and_no_longer(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    process = child(HOLDER, tmp_path)
    try:
        folder.lock_file.unlink()
        assert holder(folder) is None, "nothing is guessed"
        with pytest.raises(LockHeld, match="another runner holds"), RunnerLock(folder):
            pass
        folder.lock_file.write_text(f"{process.pid}\n")
        assert holder(folder) == process.pid
    finally:
        assert process.stdout is not None
        sleeper = int(process.stdout.readline())
        end(process)
        os.kill(sleeper, 9)
    assert folder.lock_file.read_text() == f"{process.pid}\n", "a dead holder's file stays, and holds nobody up"
    assert holder(folder) is None
    with RunnerLock(folder):
        assert holder(folder) == os.getpid()


def test_a_lock_that_cannot_be_shown_is_let_go(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.lock_file.mkdir()
    with pytest.raises(OSError, match="directory"), RunnerLock(folder):
        pass
    folder.lock_file.rmdir()
    with RunnerLock(folder):
        assert holder(folder) == os.getpid()
