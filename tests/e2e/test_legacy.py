"""A host without a fleet repo: control file and limits, or limits alone ("Rollback Queue Integration")."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.world import AGENT, RECIPE, World, until

GOOSE = f"""\
#!/bin/sh
set -- "$3"
{AGENT}
echo '{{"type":"complete","total_tokens":7}}'
"""


class Installation(World):
    """A folder as TinyScheduler's operators have it: control file, limits in an env file, recipes, a goose."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        del self.environ["TSCHED_REPO"]
        self.control_file = root / "docs/technical/agent-control.json"
        self.control_file.parent.mkdir(parents=True)
        self.goose = root / "goose"
        self.goose.write_text(GOOSE)
        self.goose.chmod(0o755)
        self.limits(vaela=1, damien=1, oscar=1)
        self.control(vaela="dev", damien="dev", oscar="qa")
        for name in ("vaela", "damien", "oscar"):
            self.recipe(name)

    def control(self, **queues: str) -> None:
        rows = [{"agentName": agent, "agentType": queue} for agent, queue in queues.items()]
        self.control_file.write_text(json.dumps(rows, indent=2))

    def limits(self, **limits: int) -> None:
        lines = [f"TINYSCHEDULER_AGENT_LIMITS='{json.dumps(limits)}'", f"TINYSCHEDULER_GOOSE_BIN={self.goose}"]
        lines += ["TINYSCHEDULER_LOOP_INTERVAL_SEC=0.1", "TINYSCHEDULER_HEARTBEAT_SEC=0.2"]
        (self.root / "tinyscheduler.env").write_text("\n".join(lines) + "\n")

    def recipe(self, name: str, text: str = RECIPE) -> None:
        (self.root / "recipes").mkdir(exist_ok=True)
        (self.root / f"recipes/{name}.yaml").write_text(text)

    def settled_after_passes(self) -> None:
        """Pass after pass until one finds nothing that runs, and starts nothing: each run's result is told then."""

        def settled() -> bool:
            before = self.leases()
            return "tasks_spawned" in self.once() and not before and not self.leases()

        until(settled, "all runs have ended")

    def shell(self, block: str) -> str:
        """A block of the guide, as bash runs it in the folder."""
        launcher = self.root / "tinyscheduler"
        if not launcher.exists():
            launcher.symlink_to(Path(sys.executable).with_name("tinyscheduler"))
        environ = {**self.environ, "TINYSCHEDULER_AGENT_CONTROL_FILE": str(self.control_file)}
        done = subprocess.run(
            ["bash", "-e", "-c", block], cwd=self.root, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    yield made
    made.open(*(str(number) for number in range(1, 30)))
    if (made.state / "running").exists():
        until(lambda: not made.leases(), "all runs end once their gates are open")


def test_control_file_and_limits_run_a_task_to_its_end(host: Installation) -> None:
    first = host.add("quick")
    other = host.add("quick too", queue="qa")
    said = host.once()
    assert f"INFO - Loaded agent registry from {host.control_file}\n" in said
    assert "INFO - Registered agents: vaela, damien, oscar\n" in said
    assert "INFO - Agent types (queues): dev, qa\n" in said
    assert f"Assigning task {first} to queue dev agent damien" in said
    with host.daemon():
        done = host.wait_status(first, "complete")
        host.wait_status(other, "complete")
        host.settled()
    assert [run["outcome"] for run in done["runs"]] == ["complete"]
    assert str(host.applied()).startswith("local-")
    assert "no change" in host.run("plan", check=0).stdout


def test_editing_the_files_adds_and_drains_agents_while_the_daemon_runs(host: Installation) -> None:
    held = [host.add("hold", queue="qa"), host.add("hold 2")]
    with host.daemon():
        lease = host.wait_running(held[0])
        assert lease["agent"] == "oscar"
        own = host.add("quick", "--assign", "oscar", queue="qa")
        host.recipe("newagent")
        host.limits(vaela=1, damien=1, newagent=2)
        host.control(vaela="dev", damien="dev", newagent="qa")
        until(lambda: host.state_of("oscar") == "draining", "oscar drains")
        added = until(lambda: host.agent("newagent"), "newagent is there")
        assert added is not None and added["limit"] == 2
        other = host.add("quick, by the new one", queue="qa")
        assert host.wait_status(other, "complete")["runs"][0]["agent"] == "newagent"
        host.open(held[0])
        until(lambda: host.agent("oscar") is None, "oscar is deleted")
        assert host.wait_status(held[0], "complete")["runs"][0]["outcome"] == "complete"
        assert host.wait_status(own, "complete")["runs"][0]["agent"] == "newagent"  # handed back, then matched
        host.open(held[1])
        host.settled()


def test_an_emptied_control_file_is_held_and_drains_nobody(host: Installation) -> None:
    host.once()
    host.control()
    assert "held: it removes 3 of 3 agents" in host.once()
    assert host.state_of("vaela") == "active"
    host.run("accept", str(host.status()["revision"]["held"]["revision"]), check=0)
    assert host.agent("vaela") is None


ROLLBACK = """
# 1. Backup current agent control file
mv $TINYSCHEDULER_AGENT_CONTROL_FILE \\
   ${TINYSCHEDULER_AGENT_CONTROL_FILE}.disabled

# 2. Scheduler will automatically fall back to legacy mode
./tinyscheduler run --once --dry-run

# 3. Verify legacy mode active
# Should see: "Queue-based processing will be disabled. Using legacy agent_limits only."
"""
RESTORE = """
# 4. To restore queue integration
mv ${TINYSCHEDULER_AGENT_CONTROL_FILE}.disabled \\
   $TINYSCHEDULER_AGENT_CONTROL_FILE
"""


def test_rollback_of_queue_integration_and_back_leaves_every_run_alone(host: Installation) -> None:
    host.limits(vaela=2, damien=0, oscar=1)
    held = host.add("hold")
    with host.daemon():
        pid = host.wait_running(held)["pid"]
        said = host.shell(ROLLBACK)
        assert f"WARNING - Agent control file not found: {host.control_file}\n" in said
        assert "INFO - Queue-based processing will be disabled. Using legacy agent_limits only.\n" in said
        until(lambda: "own_only False → True" in host.run("events").stdout, "the daemon is in legacy mode")
        unassigned = host.add("quick, for anybody")
        assigned = host.add("quick, for vaela", "--assign", "vaela")
        host.wait_status(assigned, "complete")
        assert host.task(unassigned)["status"] == "idle"  # it waited beside the other one and is still there
        assert (host.wait_running(held)["pid"], host.state_of("vaela")) == (pid, "active")
        host.shell(RESTORE)
        host.wait_status(unassigned, "complete")
        assert host.wait_running(held)["pid"] == pid
        host.open(held)
        assert host.wait_status(held, "complete")["runs"] == host.task(held)["runs"]
        assert host.outcomes(held) == ["complete"]
        host.settled()
    assert not host.events("agent.")  # nobody was cordoned on the way


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[\n  {"agentName": "vaela", // first\n', ":2:26: TS101 It is no JSON"),
        ("{}", "It is no list of agents"),
        ('[{"agentName": "vaela"}]', "Entry 1 lacks agentName or agentType"),
    ],
)
def test_a_broken_control_file_is_one_error_line_and_legacy_mode(host: Installation, text: str, words: str) -> None:
    host.once()
    host.control_file.write_text(text)
    task = host.add("quick", queue="qa")
    said = host.once(check=1)
    (line,) = [line for line in said.splitlines() if "ERROR" in line]
    assert f"ERROR - Failed to load agent registry: {host.control_file}" in line
    assert words in line
    assert "Using legacy agent_limits only." in said
    assert host.task(task)["status"] == "idle"
    host.control(vaela="dev", damien="dev", oscar="qa")
    assert f"Assigning task {task} to queue qa agent oscar" in host.once()
    host.settled_after_passes()


def test_limits_alone_are_legacy_mode_from_the_beginning(host: Installation) -> None:
    host.control_file.unlink()
    mine, anybodys = host.add("quick", "--assign", "oscar"), host.add("quick 2", queue="legacy")
    said = host.once("--agent-limit", "oscar=3")
    assert "Agent 'oscar' has 3 available slots" in said
    assert "Found 1 idle tasks for agent 'oscar'" in said
    assert "Processing queue" not in said
    host.settled_after_passes()
    assert (host.task(mine)["status"], host.task(anybodys)["status"]) == ("complete", "idle")
    host.control(oscar="dev")
    host.once()
    assert host.state_of("oscar", "dev") == "active"


def test_an_agent_without_a_usable_recipe_stays_idle_and_the_others_work(host: Installation) -> None:
    (host.root / "recipes/vaela.yaml").unlink()
    host.recipe("damien", "title: T\nprompt: [\n")
    task = host.add("quick")
    other = host.add("quick too", queue="qa")
    said = host.once()
    assert f"WARNING - Recipe not found: {host.root}/recipes/vaela.yaml\n" in said
    assert "recipes/damien.yaml:" in said and "TS101" in said
    assert "Agent 'vaela' has 0 available slots" in said
    assert f"Assigning task {other} to queue qa agent oscar" in said
    host.recipe("vaela")
    assert f"Assigning task {task} to queue dev agent vaela" in host.once()
    host.settled_after_passes()


def test_from_a_fleet_repo_to_the_hosts_own_files_and_back(host: Installation) -> None:
    host.recipes("vaela")
    pool = "apiVersion: tsched/v1\nkind: Pool\nname: dev\nagents: [{name: vaela}]\n"
    revision = host.push("fleet", dev=pool)
    repo = str(host.remote)
    host.run("run", "--once", check=0, TSCHED_REPO=repo)
    assert host.applied() == revision
    own = host.state / "agent-control.json"  # the view's place, where an operator may well have the host's own file
    own.unlink()
    own.write_text('[{"agentName": "oscar", "agentType": "qa"}]')
    host.once()
    assert (host.state_of("oscar"), host.state_of("vaela")) == ("active", "active")
    assert "held: it removes 2 of 3 agents" in host.run("run", "--once", check=0, TSCHED_REPO=repo).stdout
    host.run("accept", revision, check=0, TSCHED_REPO=repo)
    assert (host.applied(), host.agent("oscar")) == (revision, None)
    assert host.status()["overrides"] == [], "what the file said while it was no view was no order about vaela"


def test_nothing_that_names_an_agent_is_an_error_with_its_mend(host: Installation) -> None:
    (host.root / "tinyscheduler.env").unlink()
    host.control_file.unlink()
    said = host.run("run", "--once", check=2)
    assert "no fleet repo is set: set TSCHED_REPO" in said.stderr
