"""Decisions of a host, beside git: stop, resume, kill, agent drain, the guide's emergency removal, unlock."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from tests.e2e.world import World, alive, pool, until
from tests.integration.forge_server import GitHubServer

REMOVE = """jq 'del(.[] | select(.agentName=="%s"))' %s > %s; mv -f %s %s"""  # the guide's, with -f: no terminal here


def overrides(world: World) -> list[tuple[str, str]]:
    return [(one["kind"], one["subject"]) for one in world.status()["overrides"]]


def view(world: World) -> list[str]:
    entries: list[dict[str, str]] = json.loads((world.state / "agent-control.json").read_text())
    return [entry["agentName"] for entry in entries]


def holding(world: World, *agents: str) -> list[tuple[str, dict[str, Any]]]:
    """A task held by each agent, with its lease; nothing needs a daemon after that."""
    ids = [world.add("hold", "--assign", agent) for agent in agents]
    world.once()
    return [(one, world.wait_running(one)) for one in ids]


def remarks(world: World, task_id: str) -> str:
    return "\n".join(one["text"] for one in world.task(task_id)["comments"])


def test_a_stop_outlives_a_killed_daemon_until_it_is_resumed(world: World) -> None:
    world.fleet(dev=pool("dev", "ada, limit: 2"))
    with world.daemon() as daemon:
        held = world.add("hold")
        lease = world.wait_running(held)
        said = world.run("stop", "--reason", "the model is down", check=0, USER="alice").stdout
        assert f"the runner with pid {daemon.pid} heeds it now" in said
        assert "going on: 1 run" in said
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
    waiting = world.add("quick")
    assert overrides(world) == [("stop", "fleet")]
    world.once()
    assert world.running(held) == lease, "a stop leaves runs alone"
    assert world.task(waiting)["status"] == "idle"
    status = world.status()
    assert status["pools"][0]["agents"][0]["state"] == "suspended"
    (suspended,) = [one for one in status["conditions"] if one["type"] == "Suspended"]
    assert (suspended["status"], suspended["reason"]) == ("True", "Stopped")
    assert "the model is down" in suspended["message"]
    (override,) = status["overrides"]
    assert (override["by"], override["undo"]) == ("alice", "tsched resume")
    assert "the whole fleet may start runs again" in world.run("resume", check=0).stdout
    world.once()
    assert world.condition("Suspended")["status"] == "False"
    kinds = [(event["kind"], event["subject"]) for event in world.events("override.")]
    assert kinds == [("override.set", "fleet"), ("override.lifted", "fleet")]
    assert [event["subject"] for event in world.events("run.started")] == [f"task/{held}", f"task/{waiting}"]


def test_each_pass_says_once_what_is_overridden(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"), qa=pool("qa", "ben"))
    world.once()
    said = world.run("stop", "--pool", "dev", check=0).stdout
    assert "no runner lives here: the next pass heeds it" in said
    world.add("quick")
    world.add("quick", queue="qa")
    passed = world.once()
    lines = [line for line in passed.splitlines() if "WARNING" in line]
    assert len(lines) == 1
    assert "Overridden on this host: stop of pool/dev (by " in lines[0]
    assert "Agent 'ada' has 0 available slots" in passed
    assert "tasks_spawned=1 " in passed, "qa works on"
    assert "Overridden on this host" in world.run("run", "--once", "--dry-run", check=0).stdout
    assert "tsched resume --pool dev" in world.run("status", check=0).stdout
    assert "stop of pool/dev (by" in world.run("resume", check=2).stderr, "the fleet itself is not stopped"
    world.run("resume", "--pool", "dev", check=0)
    passed = world.once()
    assert "Overridden" not in passed
    assert "tasks_spawned=1 " in passed
    assert "nothing is stopped" in world.run("resume", check=0).stdout


@pytest.mark.parametrize("live", [True, False])
def test_stop_now_ends_processes_and_their_tasks_go_back_uncharged(world: World, live: bool) -> None:
    world.fleet(dev=pool("dev", "ada", "ben"))
    (held, one), (stubborn, two) = (holding(world, "ada")[0], (world.add("stubborn", "--assign", "ben"), None))
    world.once()
    two = world.wait_running(stubborn)
    if live:
        with world.daemon():
            said = world.run("stop", "--now", check=0).stdout
            until(lambda: not world.leases(), "their leases are gone")
            world.wait_status(held, "idle")
            world.wait_status(stubborn, "idle")
    else:
        said = world.run("stop", "--now", check=0).stdout
        until(lambda: not world.leases(), "their leases are gone, without a runner")
        assert world.task(held)["status"] == "working", "nobody was there to tell the queue"
        world.once()
    assert "being stopped: 2 runs: " in said
    for task, lease, agent in ((held, one, "ada"), (stubborn, two, "ben")):
        assert not alive(lease["agent_pid"])
        shown = world.task(task)
        assert (shown["status"], shown["assigned_to"]) == ("idle", agent)
        assert [run["outcome"] for run in shown["runs"]] == ["interrupted"]
    world.settled()
    world.run("resume", check=0)
    world.once()
    assert world.wait_running(held)["attempt"] == 1, "the stop was charged to the task"


def test_stop_drain_waits_until_no_run_is_left(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"), qa=pool("qa", "ben"))
    with world.daemon():
        held, other = world.add("hold"), world.add("hold", queue="qa")
        world.wait_running(held)
        world.wait_running(other)
        waits = subprocess.Popen(
            [sys.executable, "-m", "tsched", "stop", "--pool", "dev", "--drain"], env=world.environ, cwd=world.root,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert waits.stdout is not None
        for line in waits.stdout:
            if line.startswith("waiting for"):
                break
        assert line == f"waiting for 1 run: task {held} (ada)\n"
        world.open(held)
        assert waits.communicate()[0].endswith("no run is left\n")
        assert waits.returncode == 0
        assert world.running(other) is not None


def test_interrupted_a_draining_stop_stays_in_force(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    holding(world, "ada")
    waits = subprocess.Popen(
        [sys.executable, "-m", "tsched", "stop", "--drain"], env=world.environ, cwd=world.root,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert waits.stdout is not None
    until(lambda: "waiting for" in waits.stdout.readline(), "it waits")  # type: ignore[union-attr]
    waits.send_signal(signal.SIGINT)
    assert "no longer waiting; nothing new starts until `tsched resume`" in waits.communicate()[0]
    assert waits.returncode == 130
    assert overrides(world) == [("stop", "fleet")]


@pytest.mark.parametrize(("flags", "status", "assigned_to"), [((), "parked", None), (("--requeue",), "idle", "ada")])
def test_kill_parks_or_requeues_without_a_daemon(
    world: World, flags: Sequence[str], status: str, assigned_to: str | None
) -> None:
    world.fleet(dev=pool("dev", "ada", "ben"))
    ((held, lease), (other, _)) = holding(world, "ada", "ben")
    world.run("kill", held, *flags, "--reason", "it loops", check=0, USER="alice")
    until(lambda: not alive(lease["agent_pid"]), "its run ends without a runner")
    assert [event["subject"] for event in world.events("override.set")] == [f"task/{held}"]
    world.run("stop", check=0)  # or the requeued one would start again
    world.once()
    shown = world.task(held)
    assert (shown["status"], shown["assigned_to"]) == (status, assigned_to)
    assert [run["outcome"] for run in shown["runs"]] == ["interrupted"]
    assert "killed by alice: it loops" in remarks(world, held)
    assert world.running(other) is not None
    assert overrides(world) == [("stop", "fleet")], "the order is followed"


def test_a_killed_task_is_parked_beside_a_daemon_and_its_agent_goes_on(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon():
        held = world.add("stubborn")
        world.wait_running(held)
        following = world.add("hold")
        world.run("kill", held, check=0)
        world.wait_running(following)
        assert world.task(held)["status"] == "parked"
        assert overrides(world) == []
    assert "no run of task '9'" in world.run("kill", "9", check=2).stderr


def test_agent_drain_now_stops_its_runs_and_undrain_brings_it_back(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben"))
    ((held, lease), (_, other)) = holding(world, "ada", "ben")
    with world.daemon():
        said = world.run("agent", "drain", "ada", "--now", check=0).stdout
        assert f"being stopped: 1 run: task {held} (ada)" in said
        assert "git still has the agent: `tsched agent remove ada --pr` makes git agree" in said
        until(lambda: len(world.leases()) == 2, "its lease is gone")
        assert not alive(lease["agent_pid"])
        until(lambda: view(world) == ["ben"], "the view leaves it out")
    world.once()
    shown = world.task(held)
    assert (shown["status"], shown["assigned_to"]) == ("idle", "ada"), "it may come back to its waiting task"
    assert [run["outcome"] for run in shown["runs"]] == ["interrupted"]
    assert world.running(other["task_id"]) == other
    status = world.status()
    assert status["pools"][0]["agents"][0]["state"] == "cordoned"
    found = {one["type"]: one["status"] for one in status["conditions"]}
    assert (found["Draining"], found["Reconciling"]) == ("True", "False")
    world.run("agent", "undrain", "ada", check=0)
    world.once()
    again = world.wait_running(held)
    assert (again["agent"], again["attempt"]) == ("ada", 1), "the stop was charged to the task"
    assert view(world) == ["ada", "ben"]
    assert "is not drained here" in world.run("agent", "undrain", "ada", check=0).stdout


def test_a_local_drain_takes_its_deadline_back_when_it_is_lifted(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", extra="drain: {deadline: 1h}\n"))
    ((held, lease),) = holding(world, "ada")
    world.run("agent", "drain", "ada", check=0)
    (request,) = (world.state / "runs").glob("*/stop")
    assert json.loads(request.read_text())["reason"] == "drain"
    ada = world.agent("ada")
    assert ada is not None
    assert (ada["state"], ada["drain"]["on_deadline"]) == ("draining", "requeue")
    world.once()
    world.run("agent", "undrain", "ada", check=0)
    assert not request.exists(), "taken back without a runner"
    world.once()
    assert not request.exists()
    assert world.running(held) == lease


@pytest.mark.parametrize(("policy", "status"), [("requeue", "idle"), ("fail", "parked")])
def test_a_local_drains_deadline_holds_with_the_runner_down(world: World, policy: str, status: str) -> None:
    world.fleet(dev=pool("dev", "ada", extra=f"drain: {{deadline: 500ms, on_deadline: {policy}}}\n"))
    ((held, lease),) = holding(world, "ada")
    world.run("agent", "drain", "ada", check=0)
    until(lambda: not alive(lease["agent_pid"]), "its shim stops it")
    until(lambda: not world.leases(), "its lease is gone")
    world.once()
    assert world.task(held)["status"] == status
    assert world.state_of("ada") == "cordoned", "git has it, so it is not deleted"


def test_when_git_removes_the_agent_its_override_goes_and_its_task_goes_back(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben"))
    world.once()
    waiting = world.add("hold", "--assign", "ada")
    world.run("agent", "drain", "ada", "--reason", "broken", check=0)
    world.once()
    removal = world.push(dev=pool("dev", "ben"))
    world.once()
    world.once()
    assert overrides(world) == []
    assert world.agent("ada") is None
    assert world.wait_running(waiting)["agent"] == "ben"
    world.revert(removal)
    world.once()
    assert world.state_of("ada") == "active", "added again, it is not drained any more"
    (lifted,) = world.events("override.lifted")
    assert (lifted["subject"], "git" in lifted["message"]) == ("agent/ada", True)


def test_an_agent_that_is_not_there_cannot_be_drained(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    assert "did you mean ada?" in world.run("agent", "drain", "adda", check=2).stderr
    assert "did you mean dev?" in world.run("stop", "--pool", "devs", check=2).stderr
    assert "exclude each other" in world.run("stop", "--drain", "--now", check=2).stderr
    assert world.status()["overrides"] == []


def test_with_pr_the_drain_is_in_force_before_git_is_asked_to_agree(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben"))
    world.once()
    assert "is no repository on a forge" in world.run("agent", "drain", "ada", "--pr", check=2).stderr
    assert overrides(world) == [("drain", "agent/ada")]
    forge = GitHubServer("ghp_s3cret")
    forge.branches.add("tsched/remove-agent-ada")
    try:
        address = "https://forge.example/acme/fleet.git"
        (world.root / ".gitconfig").write_text(f'[url "{world.remote}"]\n\tinsteadOf = {address}\n')
        world.environ |= {
            "TSCHED_REPO": address, "TSCHED_FORGE": "github", "TSCHED_FORGE_API": forge.api,
            "TSCHED_FORGE_TOKEN": forge.token,
        }  # fmt: skip
        world.run("agent", "drain", "ada", "--pr", check=0)
        (opened,) = forge.asked("POST")
        assert opened.json()["title"] == "Remove agent ada"
    finally:
        forge.close()


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq (apt-get install jq)")
def test_the_guides_emergency_removal_drains_the_agent(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben"))
    (held, lease) = holding(world, "ada")[0]
    file, other = world.state / "agent-control.json", world.root / "control.json"
    subprocess.run(["sh", "-c", REMOVE % ("ada", file, other, other, file)], check=True, env=world.environ)
    said = [line for line in world.once().splitlines() if "WARNING" in line]
    assert "Agent 'ada' was deleted from agent-control.json by hand" in said[0]
    assert "`tsched agent undrain ada` takes this back" in said[0]
    assert not any("put back" in line for line in said)
    assert view(world) == ["ben"]
    assert overrides(world) == [("drain", "agent/ada")]
    assert world.running(held) == lease, "the guide waits for its tasks"
    assert len([line for line in world.once().splitlines() if "WARNING" in line]) == 1
    world.run("agent", "undrain", "ada", check=0)
    assert "WARNING" not in world.once()
    assert view(world) == ["ada", "ben"]


def test_other_edits_of_the_view_are_put_back(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    file = world.state / "agent-control.json"
    for text in ("[", "", '[{"agentName": "ada", "agentType": "qa"}]', '{"agentName": "ada"}'):
        file.unlink()
        file.write_text(text)
        assert "agent-control.json was edited by hand and is put back" in world.once()
        assert view(world) == ["ada"]
    assert world.status()["overrides"] == []
    assert "WARNING" not in world.once()


def test_a_new_agent_is_not_taken_for_one_that_was_deleted(world: World) -> None:
    """Killed after the fleet was adopted, before the view was written: the file is only old."""
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    file = world.state / "agent-control.json"
    before = file.read_text()
    world.push(dev=pool("dev", "ada", "ben"))
    world.once()
    file.chmod(0o600)
    file.write_text(before)
    database = world.state / "tsched.db"
    subprocess.run(
        [sys.executable, "-c", "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); "
         "db.execute('UPDATE view SET body = ?', (sys.argv[2],)); db.commit()", database, '[["ada", "dev"]]'],
        check=True,
    )  # fmt: skip
    assert "WARNING" not in world.once()
    assert view(world) == ["ada", "ben"]
    assert world.status()["overrides"] == []


def test_unlock_names_a_live_runner_and_leaves_it_alone(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    assert "nobody holds" in world.run("unlock", check=0).stdout
    command = [sys.executable, "-m", "tsched", "run", "--daemon"]  # as users start it: its command line is shown
    with subprocess.Popen(command, env=world.environ, cwd=world.root, stdout=subprocess.DEVNULL) as daemon:
        until(lambda: world.run("unlock").returncode == 1, "the daemon holds the folder")
        world.wait_status(world.add("quick"), "complete")
        said = world.run("unlock", check=1).stdout
        assert f"held by:         pid {daemon.pid}: " in said
        assert "tsched run --daemon, since 20" in said
        assert "last pass ended: 20" in said
        assert "last line:       20" in said
        (world.state / "tinyscheduler.lock").write_text(f"{os.getpid()}\n")  # a pid that was given again
        said = world.run("unlock", check=1).stdout
        assert f"pid {daemon.pid}: " in said, "the lock says who, not the file"
        assert daemon.poll() is None
        daemon.terminate()


def test_unlock_ends_a_runner_that_hangs_and_its_runs_go_on(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon() as daemon:
        held = world.add("hold")
        lease = world.wait_running(held)
        daemon.send_signal(signal.SIGSTOP)
        said = world.run("unlock", check=1).stdout
        assert "just now:        stopped by a signal" in said
        said = world.run("unlock", "--force", check=0).stdout
        assert "ended: " in said
        daemon.wait()
    assert not (world.state / "tinyscheduler.lock").exists()
    assert world.running(held) == lease
    world.open(held)
    until(lambda: not world.leases(), "it ends")
    world.once()
    assert world.task(held)["status"] == "complete"


def test_unlock_removes_what_a_dead_runner_left_and_no_stranger(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon() as daemon:
        world.wait_status(world.add("quick"), "complete")
        daemon.kill()
        daemon.wait()
    file = world.state / "tinyscheduler.lock"
    file.write_text(f"{os.getpid()}\n")  # given again, to this very test
    assert "removed the file that a dead runner left" in world.run("unlock", "--force", check=0).stdout
    assert not file.exists()
    assert "nobody holds" in world.run("unlock", check=0, TSCHED_STATE=str(world.root / "nowhere")).stdout
    assert not (world.root / "nowhere").exists()
