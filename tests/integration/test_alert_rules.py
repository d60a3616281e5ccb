"""The shipped alerts by Prometheus's own tool: they are well formed, and fire when they should."""

import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent.parent / "deploy/prometheus"


@pytest.mark.parametrize("words", ["check rules tsched.rules.yaml", "test rules tsched.rules.test.yaml"])
def test_promtool_agrees(words: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool is installed (Debian: apt-get install prometheus)")
    done = subprocess.run([promtool, *words.split()], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
