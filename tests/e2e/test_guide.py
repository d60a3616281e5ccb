"""The operations guide by heading: the situation for real, the guide's own commands, then ours; the facts agree."""

import json
import os
import re
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.operator import GUIDE, Operator, block, headings
from tests.e2e.world import LIMITS, pool, until

MISSING = [name for name in ("jq", "curl", "ps") if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the guide's own lines need {MISSING}: apt-get has them")
ORIGINAL = Path(__file__).parents[3] / "shared/operations-guide.md"


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    made = Operator(tmp_path)
    yield made
    made.open(*(str(number) for number in range(1, 30)))
    if (made.state / "running").exists():
        until(lambda: not made.leases(), "all runs end once their gates are open")


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def objects(text: str) -> Iterator[dict[str, Any]]:
    """What jq prints: one object after another, each over several lines."""
    while text := text.strip():
        found, end = json.JSONDecoder().raw_decode(text)
        yield found
        text = text[end:]


def ours(operator: Operator, *arguments: str, check: int | None = 0) -> Any:
    """A command of ours as JSON: one object or array."""
    return json.loads(operator.run(*arguments, "--json", check=check).stdout)


def busy(operator: Operator) -> None:
    """Three held runs in dev and qa, and a task that waits for the first."""
    for title, queue in (("hold a", "dev"), ("hold b", "dev"), ("hold c", "qa")):
        operator.add(title, queue=queue)
    operator.add("waits for it", "--blocked-by", "1")
    operator.once()
    for task in ("1", "2", "3"):
        operator.wait_running(task)


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def served(operator: Operator) -> Iterator[None]:
    """`tsched tasks serve` on a free port, as the guide's localhost:3000."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        operator.port = free.getsockname()[1]
    with subprocess.Popen(
        [operator.folder / "tinyscheduler", "tasks", "serve", "--port", str(operator.port)], cwd=operator.folder,
        env=operator.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            until(lambda: listens(operator.port), "the task server listens")
            yield
        finally:
            process.terminate()


def test_the_blocks_are_the_guides_own() -> None:
    if not ORIGINAL.exists():
        pytest.skip("the guide itself is not beside this checkout")
    original = re.sub(r"^ +", "", ORIGINAL.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings()
    for heading in headings():
        assert f"# {heading}\n" in original
    for body in re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        assert re.sub(r"^ +", "", body, flags=re.MULTILINE) in original


# --- Daily Operations ---


def test_health_checks(operator: Operator) -> None:
    with operator.daemon() as daemon:
        until(operator.applied, "the first pass")
        operator.push("broken", dev="nonsense")
        until(lambda: operator.status()["revision"]["rejected"], "the bad revision is rejected")
        said = operator.guide("Health Checks")
        assert re.search(rf"^\S+ +{daemon.pid} .*tinyscheduler", said, re.MULTILINE), "1. it is running"
        assert "Starting reconciliation pass" in said, "2. recent activity"
        assert "running/task_" not in said, "3. no stale lease"
        errors = operator.sh("grep ERROR state/logs/scheduler_$(date +%Y%m%d).log | wc -l")
        assert int(errors) >= 1
        assert "Loaded agent registry from" in said.splitlines()[-1], "5. the registry"
        checks = {one["check"]: one for one in ours(operator, "doctor", check=None)["checks"]}
        assert checks["runner"]["status"] == "ok"
        assert str(daemon.pid) in checks["runner"]["evidence"]
        assert checks["leases"]["status"] == "ok"
        assert checks["revision"]["status"] in ("warn", "fail")


def test_reconciliation_status(operator: Operator) -> None:
    busy(operator)
    operator.once()
    said = operator.guide("Reconciliation Status").splitlines()
    passes = lines(operator.run("history", "--json", check=0).stdout)
    assert sum("Starting reconciliation" in line for line in said) == len(passes) == 2
    spawned = [int(found[1]) for line in said if (found := re.search(r"tasks_spawned=(\d+)", line))]
    assert spawned == [one["counters"]["tasks_spawned"] for one in passes] == [3, 0]
    assigned = sorted(re.findall(r"Assigning task (\d+)", "\n".join(said)))
    events = lines(operator.run("events", "--grep", r"run\.started", "--json", check=0).stdout)
    assert assigned == sorted(one["subject"].removeprefix("task/") for one in events) == ["1", "2", "3"]


def test_agent_activity(operator: Operator) -> None:
    busy(operator)
    said = operator.guide("Agent Activity")
    counted = {name: int(number) for name, number in re.findall(r"^(\w+): (\d+)", said, re.MULTILINE)}
    free = {name: int(number) for name, number in re.findall(r"Agent '(\w+)' has (\d+) available slots", said)}
    agents = {one["name"]: one for one in ours(operator, "agents")}
    assert counted == {name: agents[name]["running"] for name in ("vaela", "damien", "oscar", "kalis")}
    assert free == {name: one["limit"] - one["running"] for name, one in agents.items()}


# --- Queue Monitoring ---


def test_queue_status_overview(operator: Operator) -> None:
    busy(operator)
    said = operator.guide("Queue Status Overview")
    found = dict(re.findall(r"Found (\d+) unassigned tasks in queue '(\w+)'", said))
    assert {queue: int(number) for number, queue in found.items()}.keys() <= {"dev", "qa", "product"}
    last = {queue: int(number) for number, queue in re.findall(r"Found (\d+) unassigned .* '(\w+)'", said)}
    assert last == {"dev": 3, "qa": 1, "product": 0}, "as the pass found them"
    assert "Agent types (queues): dev, product, qa" in said
    queues = {one["name"]: one for one in ours(operator, "queues")["queues"]}
    assert queues.keys() >= last.keys()
    assert (queues["dev"]["idle"], queues["dev"]["blocked"], queues["dev"]["working"]) == (1, 1, 2)


def test_per_queue_metrics(operator: Operator) -> None:
    busy(operator)
    said = operator.guide("Per-Queue Metrics")
    assigned = dict(re.findall(r"Queue: (\w+)\n.*\n  Tasks assigned: (\d+)", said))
    queues = {one["name"]: one for one in ours(operator, "queues")["queues"]}
    assert {name: int(assigned[name]) for name in ("dev", "qa", "product")} == {
        name: queues[name]["assigned"] for name in ("dev", "qa", "product")
    }


def test_queue_depth_tracking(operator: Operator) -> None:
    busy(operator)
    operator.add("one more", queue="qa")
    with served(operator):
        script = block("Queue Depth Tracking").replace("tinytask queue list dev --status idle", "")
        depths = [int(one) for one in operator.sh(script).split()]
    queues = {one["name"]: one for one in ours(operator, "queues")["queues"]}
    assert depths == [queues["dev"]["idle"], queues["qa"]["idle"]] == [1, 1]


def test_alert_conditions(operator: Operator) -> None:
    rule = "{type: depth, name: deep, queue: dev, above: 10}"
    operator.push(limits=f"{LIMITS}alerts: {{rules: [{rule}]}}\n")
    operator.once()
    assert operator.guide("Alert Conditions") == ""
    assert operator.run("alerts", check=0).stdout == ""
    for number in range(17):
        operator.add(f"hold {number}")
    operator.once()
    assert "ALERT: Queue 'dev' depth is 17 (threshold: 10)" in operator.guide("Alert Conditions")
    (alert,) = lines(operator.run("alerts", "--json", check=1).stdout)
    assert (alert["rule"], alert["subject"]) == ("deep", "queue/dev")


# --- Agent Pool Management ---


def test_adding_agents_to_a_pool(operator: Operator) -> None:
    """The guide edits three files on the server; here one command makes the commit, and the guide's checks see it."""
    operator.once()
    operator.run(
        "agent",
        "add",
        "newagent",
        "--pool",
        "dev",
        "--limit",
        "2",
        "--recipe",
        "vaela.yaml",
        "--push",
        "main",
        check=0,
    )
    assert "newagent" in operator.guide("Adding Agents to a Pool", 5), "5. dry run"
    operator.guide("Adding Agents to a Pool", 4)
    operator.once()
    assert "newagent" in operator.sh("jq -r '.[].agentName' $TINYSCHEDULER_AGENT_CONTROL_FILE")
    assert operator.sh("ls recipes/newagent.yaml") == "recipes/newagent.yaml\n"
    assert operator.agent("newagent") is not None


def test_removing_agents_from_a_pool(operator: Operator) -> None:
    operator.add("hold it", "--assign", "damien")
    operator.once()
    operator.wait_running("1")
    assert "agent_damien.task_1" in operator.sh(block("Removing Agents from a Pool", 1).replace("newagent", "damien"))
    operator.run("agent", "remove", "damien", "--push", "main", check=0)
    operator.once()
    assert operator.state_of("damien") in ("cordoned", "draining")
    operator.open("1")
    until(lambda: operator.once() and operator.agent("damien") is None, "damien is deleted when its run has ended")
    assert operator.sh("ls state/running/*damien* 2>/dev/null || true") == ""
    operator.guide("Removing Agents from a Pool", 4)


def test_adjusting_agent_capacity(operator: Operator) -> None:
    busy(operator)
    watched = block("Adjusting Agent Capacity", 2)
    look = re.search(r"watch -n 5 '(.*)'", watched)
    assert look is not None
    assert operator.sh(look[1]).strip() == str(operator.agent("vaela")["running"])  # type: ignore[index]
    operator.run("agent", "limit", "vaela", "5", "--push", "main", check=0)
    operator.once()
    assert operator.agent("vaela")["limit"] == 5  # type: ignore[index]
    assert '"vaela": 5' in operator.sh("cat tinyscheduler.env"), "what the guide edits shows what is applied"
    assert not operator.guide("Adjusting Agent Capacity", 1, check=None).strip()


def test_rebalancing_agent_pools(operator: Operator) -> None:
    busy(operator)
    counted = dict(re.findall(r"(\w+): (\d+) tasks", operator.guide("Rebalancing Agent Pools", 1)))
    agents = {one["name"]: one for one in ours(operator, "agents")}
    assert {name: int(number) for name, number in counted.items()} == {
        name: agents[name]["running"] for name in ("vaela", "damien")
    }
    said = operator.guide("Rebalancing Agent Pools", 3)
    pattern = {name: int(number) for number, name in re.findall(r"(\d+) (\w+)", said)}
    assert pattern == Counter(str(operator.running(task)["agent"]) for task in ("1", "2", "3"))  # type: ignore[index]
    operator.run("report", "--balance", check=0)


def test_agent_pool_health(operator: Operator) -> None:
    busy(operator)
    said = re.findall(r"^  (\w+): (\d+)/(\d+) tasks", operator.guide("Agent Pool Health"), re.MULTILINE)
    agents = {one["name"]: (str(one["running"]), str(one["limit"])) for one in ours(operator, "agents")}
    assert {name: (running, limit) for name, running, limit in said} == agents


# --- Troubleshooting ---


def test_tasks_not_being_assigned(operator: Operator) -> None:
    operator.push(dev=pool("dev", "vaela, limit: 0", "damien, limit: 0"))
    operator.add("waits")
    operator.once()
    said = operator.guide("Issue: Tasks Not Being Assigned", check=None)
    assert "Loaded agent registry" in said
    assert "dev\nproduct\nqa\n" in said
    assert "Processing queue 'dev'" in said
    why = operator.run("why", "task", "1", check=None).stdout
    assert "limit" in why and "vaela" in why


def test_load_imbalance(operator: Operator) -> None:
    busy(operator)
    said = operator.guide("Issue: Load Imbalance")
    limits = dict(re.findall(r"^  (\w+): (\d+)$", said, re.MULTILINE))
    agents = {one["name"]: one for one in ours(operator, "agents")}
    assert {name: int(limit) for name, limit in limits.items()} == {name: a["limit"] for name, a in agents.items()}
    counted = {name: int(number) for number, name in re.findall(r"(\d+) agent (\w+)", said)}
    assert counted == {name: a["running"] for name, a in agents.items() if a["running"]}


def test_queue_not_being_processed(operator: Operator) -> None:
    operator.once()
    operator.run("task", "add", "nobody's", "--queue", "infra", check=0)
    operator.once()
    said = operator.guide("Issue: Queue Not Being Processed", check=None, queue_name="infra")
    assert said == "", "no agent type, no agent, no line in the log"
    served_too = operator.guide("Issue: Queue Not Being Processed", check=None, queue_name="qa")
    assert {"qa", "oscar", "kalis"} <= set(served_too.split())
    why = operator.run("why", "queue", "infra", check=None).stdout
    assert "infra" in why and "no" in why


def test_agent_control_file_wont_load(operator: Operator) -> None:
    operator.once()
    assert '"agentName": "vaela"' in operator.guide("Issue: Agent Control File Won't Load")
    operator.sh("chmod u+w $TINYSCHEDULER_AGENT_CONTROL_FILE; echo '[{' > $TINYSCHEDULER_AGENT_CONTROL_FILE")
    assert (
        operator.sh("python3 -m json.tool $TINYSCHEDULER_AGENT_CONTROL_FILE >/dev/null 2>&1 || echo broken")
        == "broken\n"
    )
    assert "put back" in operator.once(), "it only shows the applied fleet"
    operator.guide("Issue: Agent Control File Won't Load")
    operator.guide("Adding Agents to a Pool", 4)


def test_agent_not_recognized(operator: Operator) -> None:
    operator.once()
    said = operator.guide("Issue: Agent Not Recognized", agent_name="oscar")
    assert "oscar" in said.splitlines()[:5]
    assert "oscar: 2" in said
    assert said.splitlines()[-1] == "recipes/oscar.yaml"
    assert (
        operator.sh(block("Issue: Agent Not Recognized").replace("<agent_name>", "oskar"), check=None).count("oskar")
        == 0
    )
    assert (
        "did you mean"
        in operator.run("task", "add", "x", "--queue", "qa", "--assign", "oskar", check=0).stderr.lower()
    )


def test_slow_reconciliation(operator: Operator) -> None:
    busy(operator)
    operator.once()
    said = operator.guide("Issue: Slow Reconciliation", check=None)
    shown = [float(one) for one in re.findall(r"Reconciliation completed in ([\d.]+)s", said)]
    passes = lines(operator.run("history", "--json", check=0).stdout)
    assert len(shown) == len(passes) == 2
    slow = lines(operator.run("history", "--slow", "--json", check=0).stdout)
    assert slow[0]["steps"]
    assert slow[0]["seconds"] == max(one["seconds"] for one in passes)


def test_high_error_rate(operator: Operator) -> None:
    operator.once()
    operator.remote.rename(operator.root / "away.git")
    operator.once(check=1)
    operator.once(check=1)
    (operator.root / "away.git").rename(operator.remote)
    said = operator.guide("Issue: High Error Rate").splitlines()
    hours = [line.split() for line in said if re.fullmatch(r" *\d+ \d{4}-\d\d-\d\dT\d\d", line)]
    assert sum(int(number) for number, _ in hours) == 2
    kinds = [
        json.loads(line) for line in operator.run("errors", "--by", "kind", "--json", check=0).stdout.splitlines()
    ]
    assert sum(int(one["number"]) for one in kinds) == 2
    assert any("Fetch failed" in line for line in said)
    assert kinds[0]["kind"] == "remote"


def test_tasks_not_spawning_despite_available_capacity(operator: Operator) -> None:
    operator.once()
    operator.add("hold it")
    operator.add("waits", "--blocked-by", "1")
    with served(operator):
        said = operator.guide("Issue: Tasks Not Spawning Despite Available Capacity", check=None)
    assert "Filtered out 1 blocked task(s)" in said
    assert "Blocked tasks skipped: 1" in said
    tasks = {one["id"]: one for one in objects(said[said.index("{") :])}
    assert tasks[2]["is_currently_blocked"] is True
    assert tasks[2]["blocked_by_task_id"] == 1
    why = operator.run("why", "task", "2", check=None).stdout
    assert "blocked" in why and "1" in why
    assert "Filtered out" not in operator.run("run", "--once", check=0, TINYSCHEDULER_DISABLE_BLOCKING="1").stdout


def test_wrong_tasks_being_prioritized(operator: Operator) -> None:
    operator.push(dev=pool("dev", "vaela"), qa=None, product=None)
    operator.add("urgent", "--priority", "9")
    operator.add("hold, it blocks two")
    for _ in range(2):
        operator.add("waits", "--blocked-by", "2")
    operator.run("accept", "main", check=None)
    operator.once()
    said = operator.guide("Issue: Wrong Tasks Being Prioritized")
    assert "Prioritizing 1 blocker task(s)" in said
    assert "Task 2 blocks 2 task(s)" in said
    assert operator.wait_running("2"), "before the urgent one"


def test_blocked_tasks_accumulating(operator: Operator) -> None:
    operator.add("hold it")
    operator.add("waits", "--blocked-by", "1")
    operator.add("waits for that", "--blocked-by", "2")
    operator.once()
    watched = re.search(r"watch -n 30 '(.*)'", block("Issue: Blocked Tasks Accumulating"))
    assert watched is not None
    assert "Blocked tasks skipped: 2" in operator.sh(watched[1])
    assert "Task 1 blocks 1 task(s)" in operator.sh(
        block("Issue: Blocked Tasks Accumulating").partition("# Monitor")[0]
    )
    why = operator.run("why", "task", "3", check=None).stdout
    assert re.search(r"\b3\b.*\b2\b.*\b1\b", why, re.DOTALL), "the whole chain"


# --- Performance Tuning, Maintenance ---


def test_optimization_guidelines(operator: Operator) -> None:
    """With a fleet repo git decides the figures; without one, the guide's variables do."""
    operator.once()
    for number in (1, 2, 3):
        operator.guide("Optimization Guidelines", number, check=None)
    shown = ours(operator, "config", "--show")
    assert shown["loop_interval_sec"] == 0.1
    host = {"TSCHED_REPO": "", "TINYSCHEDULER_LOOP_INTERVAL_SEC": "30", "TINYSCHEDULER_HEARTBEAT_SEC": "10"}
    alone = json.loads(operator.run("config", "--show", "--json", check=0, cwd=operator.root, **host).stdout)
    assert (alone["loop_interval_sec"], alone["heartbeat_interval_sec"]) == (30.0, 10.0)


def test_capacity_planning(operator: Operator) -> None:
    for number in range(6):
        operator.add(f"quick {number}")
    until(lambda: operator.once() and operator.task("6")["status"] == "complete", "all are complete")
    said = operator.run("capacity", "--since", "1h", check=0).stdout
    assert "dev" in said


def test_log_rotation(operator: Operator) -> None:
    """Nothing to install: old days are compressed and then removed by the runner itself."""
    operator.once()
    old = operator.state / "logs/scheduler_20200101.log"
    old.write_text("2020-01-01T00:00:00.000Z|INFO - old\n")
    os.utime(old, (1_577_836_800, 1_577_836_800))
    operator.run("gc", check=0)
    assert not old.exists()
    today = operator.sh("ls state/logs/scheduler_$(date +%Y%m%d).log")
    assert today.strip()


def test_state_directory_cleanup(operator: Operator) -> None:
    busy(operator)
    before = operator.leases()
    assert "Cleaned up leases older than 7 days" in operator.guide("State Directory Cleanup")
    assert operator.leases() == before, "a live run's heartbeat keeps its lease young"
    operator.run("gc", "--dry-run", check=0)


def test_agent_control_file_backup(operator: Operator) -> None:
    operator.once()
    operator.guide("Agent Control File Backup")
    (backup,) = operator.state.glob("agent-control.json.backup.*")
    assert backup.read_text() == (operator.state / "agent-control.json").read_text()
    operator.once()
    assert operator.git("log", "--oneline"), "git is the backup"


def test_configuration_audit(operator: Operator) -> None:
    operator.once()
    said = operator.guide("Configuration Audit")
    assert "✗" not in said
    assert "✓ 5 agents defined" in said
    assert said.count("✓ recipes/") == 5
    operator.run("audit", check=0)
    operator.push("unseen yet", dev=pool("dev", "vaela, limit: 9"))
    assert operator.run("audit", check=1).stdout


# --- Emergency Procedures ---


def test_stop_all_task_processing(operator: Operator) -> None:
    busy(operator)
    script = block("Stop All Task Processing").partition("# List active tasks")[2].replace("1234", "1")
    operator.sh(script)
    until(lambda: operator.once() and "interrupted" in operator.outcomes("1"), "the guide's kill and rm are handled")
    operator.run("stop", check=0)
    operator.add("quick", queue="product")
    assert "tasks_spawned=0" in operator.once()
    operator.run("stop", "--now", check=0)
    until(lambda: operator.once() and operator.task("2")["status"] == "idle", "all runs are stopped")
    assert not operator.leases()
    operator.run("resume", check=0)
    assert "tasks_spawned=0" not in operator.once()


def test_emergency_agent_removal(operator: Operator) -> None:
    operator.add("hold it", "--assign", "damien")
    operator.once()
    operator.wait_running("1")
    edit, _, wait = block("Emergency Agent Removal").replace("<agent>", "damien").partition("# 2.")
    control = operator.root / "control.json"
    operator.sh(edit.replace("/tmp/control.json", str(control)))
    assert "damien" in operator.once()
    assert operator.state_of("damien") in ("cordoned", "draining")
    operator.open("1")
    operator.sh(wait.partition("# 3.")[0].replace("sleep 10", "sleep 0.1"))
    assert "damien" not in operator.sh("jq -r '.[].agentName' $TINYSCHEDULER_AGENT_CONTROL_FILE")
    operator.run("agent", "undrain", "damien", check=0)
    operator.once()
    assert operator.state_of("damien") == "active"
    assert "damien" in operator.sh("jq -r '.[].agentName' $TINYSCHEDULER_AGENT_CONTROL_FILE")


def test_recover_from_stuck_reconciliation(operator: Operator) -> None:
    with operator.daemon() as daemon:
        until(operator.applied, "the first pass")
        assert operator.sh("cat state/tinyscheduler.lock").strip() == str(daemon.pid)
        assert "tinyscheduler" in operator.sh("ps aux | grep $(cat state/tinyscheduler.lock)")
        held = operator.run("unlock", check=1)
        assert str(daemon.pid) in held.stdout + held.stderr
        operator.sh("kill $(cat state/tinyscheduler.lock)")
        assert daemon.wait(timeout=60) == 0
    operator.sh("rm -f state/tinyscheduler.lock")
    operator.run("unlock", check=0)
    operator.once()


def test_rollback_queue_integration(operator: Operator) -> None:
    """Its `mv` is legacy mode, which is for hosts without a fleet repo."""
    operator.once()
    control = operator.state / "agent-control.json"
    body = control.read_text()
    environ = (operator.folder / "tinyscheduler.env").read_text()
    kept = [line for line in environ.splitlines() if not line.startswith("TSCHED_REPO=")]
    (operator.folder / "tinyscheduler.env").write_text("\n".join(kept) + "\n")
    steps = block("Rollback Queue Integration")
    first, _, last = steps.partition("# 4.")
    said = operator.sh(first, check=None)
    assert "Queue-based processing will be disabled. Using legacy agent_limits only." in said
    operator.sh(f"# 4.{last}")
    assert control.read_text() == body
    assert "Loaded agent registry from" in operator.run("run", "--once", "--dry-run").stdout
