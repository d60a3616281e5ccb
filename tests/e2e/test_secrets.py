"""A scenario with a canary in every secret, trouble provoked, under a careless umask: nothing shows them or opens."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.world import RECIPE, World, until
from tests.integration.cli_call import Call, caller
from tests.integration.git_server import GitServer, served
from tests.integration.web_server import served as web_served

SECRETS = {
    name: f"canary-{name.lower().replace('_', '-')}-0123456789"
    for name in (
        *("REPO", "TASKS", "HOOK", "MODEL_API_KEY"),
        *("TSCHED_TASKS_TOKEN", "TSCHED_STATUS_TOKEN", "TSCHED_WEBHOOK_SECRET", "TSCHED_SERVE_TOKEN"),
    )
}
# What an agent sees of the machine goes to files beside the state folder; then it tells its own key and fails.
SPY = """\
cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' > "$SEEN/arguments"
tr '\\0' '\\n' < /proc/self/environ > "$SEEN/agent"
tr '\\0' '\\n' < /proc/$PPID/environ > "$SEEN/shim"
echo "my key is $MODEL_API_KEY"
exit 3
"""
LIMITS = """\
apiVersion: tsched/v1
kind: Limits
heartbeat: 200ms
retry: {attempts: 1, backoff: 50ms}
runtimes:
  spy: {argv: [sh, -uc, SPY], env: [MODEL_API_KEY], evidence: exit}
  plain: {argv: [echo, done], evidence: exit}
alerts:
  rules: [{type: depth, name: deep, queue: dev, above: 0, severity: critical}]
  notify: [{type: webhook, url_env: HOOK}]
"""
POOL = "apiVersion: tsched/v1\nkind: Pool\nname: dev\nruntime: spy\nagents: [{name: ada}]\n"
TREES = """\
apiVersion: tsched/v1
kind: Pool
name: trees
runtime: plain
workspace: {repo: REPO, ref: main, keep: always}
agents: [{name: ben}]
"""


@pytest.fixture
def careless() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    """What below a folder (itself included) other users could read, write or enter, were it not for the folder.

    A link has no mode of its own; a workspace's files are an agent's, and follow the umask that it was started with.
    """
    found = []
    for path in (folder, *folder.rglob("*")):
        mode = path.lstat().st_mode
        theirs = folder / "workspaces" in path.parents
        if not stat.S_ISLNK(mode) and not theirs and mode & 0o077:
            found.append(f"{path.relative_to(folder)} {stat.filemode(mode)}")
    return found


def holders(folder: Path, canary: str) -> list[str]:
    """Files below a folder that hold a text."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and canary.encode() in path.read_bytes()]


@pytest.mark.usefixtures("careless")
def test_no_secret_gets_out_and_no_file_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path)
    seen = tmp_path / "seen"
    seen.mkdir()
    world.recipes("ada", "ben", text=RECIPE)
    world.file("pools/limits.yaml", LIMITS.replace("SPY", json.dumps(SPY)))
    world.file("pools/trees.yaml", TREES.replace("REPO", str(world.clone)))
    world.push("fleet", dev=POOL)
    with served(tmp_path, f"bot:{SECRETS['REPO']}") as (host, git), served(tmp_path) as (other, tasks):
        tasks.trouble = 500
        for name, value in world.environ.items():
            monkeypatch.setenv(name, value)
        for name, value in SECRETS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TSCHED_REPO", f"http://bot:{SECRETS['REPO']}@{host}/remote.git")
        monkeypatch.setenv("TSCHED_PASS_ENV", "MODEL_API_KEY,SEEN")
        monkeypatch.setenv("SEEN", str(seen))
        monkeypatch.setenv("HOOK", f"http://{other}/{SECRETS['HOOK']}")
        monkeypatch.chdir(tmp_path)
        said = story(caller(capsys), world, git, tasks, other, monkeypatch)
        said += "\n".join((*git.seen, *tasks.seen))
    for name, canary in SECRETS.items():
        assert [line for line in said.splitlines() if canary in line] == [], name
        assert all(path.endswith(".log") and name == "MODEL_API_KEY" for path in holders(world.state, canary)), name
        for file in ("arguments", "shim", "agent"):
            told = (seen / file).read_text(errors="replace")
            assert (canary in told) is (name == "MODEL_API_KEY" and file == "agent"), (name, file)
    assert holders(world.state, SECRETS["MODEL_API_KEY"]), "the run's own log is the agent's word"
    assert "\n".join(open_to_others(world.state)) == ""


def story(
    call: Call, world: World, git: type[GitServer], tasks: type[GitServer], other: str, patch: pytest.MonkeyPatch
) -> str:
    """What the program said to everybody, in good times and bad."""
    told: list[str] = []

    def say(*arguments: str, code: int | None = None) -> str:
        said = call(*arguments)
        assert code in (None, said.code), said
        told.append(f"{arguments}: {said.out}{said.err}")
        return said.out + said.err

    say("doctor")
    for queue in ("dev", "trees"):
        say("task", "add", f"a task of {queue}", "--queue", queue, code=0)
    say("run", "--once")
    until(lambda: not list((world.state / "running").glob("task_*.json")), "the runs ended")
    say("run", "--once")
    assert "my key is ********" in say("task", "show", "1")
    assert "complete" in say("task", "show", "2", "--json")
    with web_served(world.state, environ=dict(os.environ)) as client:
        bearer = {"authorization": f"Bearer {SECRETS['TSCHED_SERVE_TOKEN']}"}
        pages = [
            "/",
            "/metrics",
            *(f"/api/v1/{one}" for one in ("status", "runs", "events", "errors", "history", "alerts")),
        ]
        runs = client.get("/api/v1/runs", headers=bearer).json()
        pages += [f"/api/v1/runs/{run['run_id']}/log" for run in runs]
        told += [client.get(page, headers=bearer).text for page in pages]
        assert any("my key is ********" in one for one in told[-len(runs) :])
    told.append((world.root / "serve.log").read_text())
    git.trouble = 500
    for trouble in (401, 500):
        tasks.trouble = trouble
        patch.setenv("TSCHED_TASKS", f"tinytask+http://u:{SECRETS['TASKS']}@{other}")
        assert "Fetch failed" in say("run", "--once", code=1)
    for command in ("status", "status --json", "events --json", "config --show", "config --show --json", "doctor"):
        say(*command.split())
    for command in ("alerts", "diff HEAD~1 HEAD", "plan", "why 1", "metrics"):
        say(*command.split())
    for name, bad in (
        ("TSCHED_TASKS", f"tinytask+ftp://u:{SECRETS['TASKS']}@x"),
        ("TSCHED_REPO", f"http://bot:{SECRETS['REPO']}@example.org/x"),
        ("TSCHED_REPO", f"https://bot:{SECRETS['REPO']}@exa mple.org/x"),
        ("TSCHED_BRANCH", "a b"),
    ):
        with patch.context() as patched:
            patched.setenv(name, bad)
            assert name in say("run", "--once", code=2)
    return "\n".join(told)
