"""What is shipped: the same bits from the same files, typed, and complete."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(folder: Path, umask: int, **environ: str) -> dict[str, bytes]:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, env={**os.environ, **environ},
        check=True, capture_output=True, umask=umask,
    )  # fmt: skip
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_builds_are_the_same_and_hold_what_an_installed_tsched_needs(tmp_path: Path) -> None:
    first = build(tmp_path / "a", 0o022, TZ="UTC", LANG="C.UTF-8")
    assert build(tmp_path / "b", 0o077, TZ="Asia/Tokyo", LANG="C") == first
    wheel, archive = sorted(first)
    assert (wheel[-4:], archive[-7:]) == (".whl", ".tar.gz")
    names = zipfile.ZipFile(tmp_path / "a" / wheel).namelist()
    assert {"tsched/py.typed", "tsched/shipped/schemas/pool.schema.json"} <= set(names)
    assert not [name for name in names if not name.startswith(("tsched/", "tsched-"))]
