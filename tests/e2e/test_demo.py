"""`tsched demo` tells the whole story, says so, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tsched.cli import stage
from tsched.cli.main import main

STEPS = (
    "six agents active",
    "the blocked task started after its blocker", "vaela's limit 4", "nova running her first task",
    "damien draining, his run untouched", "damien deleted, once his run had ended", "the commit rejected",
    "tasks still done by the last good revision", "damien active again", "no run left",
)  # fmt: skip


def start(folder: Path) -> subprocess.Popen[str]:
    """The demo as a process of its own, its temporary folder below ours."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}
    return subprocess.Popen(
        [sys.executable, "-m", "tsched", "demo"], cwd=folder, env=environ, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.slow
def test_the_story_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        out, _ = process.communicate(timeout=180)
    assert process.returncode == 0, out
    for step in STEPS:
        assert f"✓ {step}" in out
    assert "pools/qa.yaml:5:19: TS203" in out
    assert "All of it was observed" in out
    assert list(tmp_path.glob("tsched-*")) == []


@pytest.mark.slow
def test_interrupted_it_leaves_nothing_either(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "work running" in line:
                break
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(timeout=60) == 130
    end = time.monotonic() + 30
    while list(tmp_path.glob("tsched-*")) and time.monotonic() < end:
        time.sleep(0.1)
    assert list(tmp_path.glob("tsched-*")) == []


def test_a_step_that_shows_nothing_fails_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(stage, "PATIENCE", 0.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["demo"]) == 1
    assert "demo step 1: was not observed within 0 s: six agents active" in capsys.readouterr().err
