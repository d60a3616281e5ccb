"""The agents' real programs, fetched once with npm by the names and versions of package.json."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".agents"
PROGRAMS = {
    "goose": "@aaif/goose-binary-linux-x64/bin/goose",
    "claude": "@anthropic-ai/claude-code/bin/claude.exe",
    "codex": "@openai/codex/bin/codex.js",
    "opencode": "opencode-linux-x64/bin/opencode",
}


@pytest.fixture(scope="session")
def programs() -> Path:
    """A folder with a link to each agent's program, for PATH."""
    wanted = (HERE / "package.json").read_text()
    links = CACHE / "bin"
    if not (CACHE / "package.json").exists() or (CACHE / "package.json").read_text() != wanted or not links.is_dir():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed (apt-get install npm): no agent's program can be fetched")
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.mkdir()
        (CACHE / "package.json").write_text(wanted)
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", CACHE],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            (CACHE / "package.json").unlink()
            pytest.skip(f"npm can't fetch {sorted(json.loads(wanted)['dependencies'])}: {done.stderr.strip()[-500:]}")
        links.mkdir()
        for name, path in PROGRAMS.items():
            (links / name).symlink_to(CACHE / "node_modules" / path)
    for name in PROGRAMS:
        if not os.access(links / name, os.X_OK):
            pytest.skip(f"npm brought no program for {name} on this machine")
    return links
