"""Doctor, audit and gc, asked as an operator asks: a host that is well, then each fault for real."""

import gzip
import json
import os
import signal
import socket
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.world import LIMITS, World, alive, pool, until

ORDER = ("ok", "warn", "fail")
Found = list[dict[str, str]]


def ask(world: World, command: str = "doctor", *, code: int = 0, **environ: str) -> Found:
    """All findings of one call. Each that is not ok has its mend."""
    done = world.run(command, "--json", check=code, only={**world.environ, **environ})
    answer = json.loads(done.stdout)
    found: Found = answer["checks"]
    assert all(bool(one["mend"]) == (one["status"] != "ok") for one in found)
    assert answer["status"] == max((one["status"] for one in found), key=ORDER.index)
    return found


def not_ok(found: Found) -> dict[str, str]:
    """The status of each check that is not ok; of several findings of one the weightiest."""
    status: dict[str, str] = {}
    for one in found:
        if one["status"] != "ok":
            status[one["check"]] = max(status.get(one["check"], "ok"), one["status"], key=ORDER.index)
    return status


def said(found: Found) -> str:
    return "\n".join(one["evidence"] for one in found)


def whole(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder: sizes and times."""
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_healthy_host_is_all_ok_and_is_not_touched(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben"))
    world.add("hold it")
    world.once()
    lease = world.wait_running("1")
    os.kill(lease["pid"], signal.SIGSTOP)  # no heartbeat: what changes now, doctor or audit has changed
    try:
        before = whole(world.state)
        assert not_ok(ask(world)) == {}
        assert not_ok(ask(world, "audit")) == {}
        assert "compressed" not in world.run("gc", "--dry-run", check=0).stdout
        assert whole(world.state) == before
    finally:
        os.kill(lease["pid"], signal.SIGCONT)
    told = world.run("doctor", check=0).stdout
    assert told.startswith("STATUS")
    assert "2 agents in 1 queue: dev" in told


def test_a_host_where_nothing_was_ever_started_says_so(world: World) -> None:
    assert not_ok(ask(world, code=1)) == {"runner": "fail", "revision": "fail", "registry": "fail", "folders": "fail"}
    assert not world.state.exists()


def test_a_killed_daemon_and_a_killed_shim_are_seen_until_the_next_pass(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.add("hold it")
    with world.daemon() as daemon:
        lease = world.wait_running("1")
        daemon.kill()
        daemon.wait()
    found = ask(world, code=1)
    assert not_ok(found) == {"runner": "fail"}
    assert f"{daemon.pid} was killed" in said(found)
    os.kill(lease["pid"], signal.SIGKILL)
    until(lambda: not alive(lease["pid"]), "the shim is dead")
    assert not_ok(ask(world, code=1)) == {"runner": "fail", "leases": "fail"}
    world.once()
    assert not_ok(ask(world)) == {}


def test_a_remote_that_is_gone_and_a_revision_that_breaks_rules(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    world.remote.rename(world.root / "away.git")
    world.once(check=1)
    assert not_ok(ask(world)) == {"remote": "warn", "errors": "warn"}
    world.run("doctor", "--strict", check=1)
    assert not_ok(ask(world, "audit", code=1)) == {"tip": "fail"}
    (world.root / "away.git").rename(world.remote)
    world.push("bad", dev=pool("dev", "ada", extra="colour: red\n"))
    world.once(check=1)
    found = ask(world, code=1)
    assert not_ok(found) == {"revision": "fail", "errors": "warn"}
    assert "1 commit behind; the newest is rejected: pools/dev.yaml" in said(found)


def test_a_task_server_that_is_down_or_silent(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    with socket.socket() as silent:  # it takes connections, and says nothing
        silent.bind(("127.0.0.1", 0))
        address = f"tinytask+http://127.0.0.1:{silent.getsockname()[1]}"
        assert not_ok(ask(world, code=1, TSCHED_TASKS=address)) == {"task server": "fail"}
        silent.listen()
        found = ask(world, code=1, TSCHED_TASKS=address)
        assert not_ok(found) == {"task server": "fail"}
        assert "it gave no answer within 3 s" in said(found)


def test_what_agents_start_has_to_be_here(world: World) -> None:
    limits = LIMITS.replace("argv: [sh,", "env: [SECRET_KEY], argv: [no-such-agent,")
    world.fleet(dev=pool("dev", "ada"), limits=limits)
    world.once()
    assert not_ok(ask(world, code=1)) == {"programs": "fail"}
    found = ask(world, "audit", code=1)
    assert not_ok(found) == {"programs": "fail"}
    assert "`no-such-agent`" in said(found)
    assert "SECRET_KEY" in said(found)


def test_an_override_a_folder_that_others_may_write_and_a_clock_that_was_set_back(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    world.run("stop", "--reason", "the model is down", check=0)
    found = ask(world)
    assert not_ok(found) == {"overrides": "warn"}
    assert "the model is down" in said(found)
    world.run("resume", check=0)
    world.state.chmod(0o777)
    ahead = time.time() + 3600
    os.utime(world.state / "tsched.db", (ahead, ahead))
    assert not_ok(ask(world, code=1)) == {"folders": "fail", "clock": "fail"}


def test_a_damaged_database_is_one_finding(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    (world.state / "tsched.db").write_bytes(b"no database at all" * 100)
    assert not_ok(ask(world, code=1)) == {"state": "fail"}


def test_what_drifted_is_named_and_a_pass_mends_what_it_can(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben, limit: 0"))
    world.once()
    world.push("more slots", dev=pool("dev", "ada, limit: 3", "ben"))
    view = world.state / "agent-control.json"
    view.chmod(0o600)
    view.write_text(json.dumps([{"agentName": "ada", "agentType": "qa"}]))
    world.add("lost", queue="dve")
    world.add("nobody's", "--assign", "adda")
    found = said(ask(world, "audit", code=1, TINYSCHEDULER_AGENT_LIMITS='{"ada": 9}'))
    for words in (
        "agent.changed agent/ada: limit 1 → 3",
        "ada is shown in qa but serves dev",
        "ben is applied but not shown",
        "1 task in queue 'dve', which nobody serves: is 'dev' meant?",
        "1 task assigned to 'adda', which is no agent: is 'ada' meant?: 2",
        "TINYSCHEDULER_AGENT_LIMITS is not used",
        "ben has limit 0",
    ):
        assert words in found
    world.once()
    world.run("task", "cancel", "1", check=0)
    world.run("task", "cancel", "2", check=0)
    assert not_ok(ask(world, "audit")) == {}


def old_log(world: World, days: int, text: str) -> Path:
    day = datetime.now().astimezone() - timedelta(days=days)
    path = world.state / "logs" / f"scheduler_{day:%Y%m%d}.log"
    path.write_text(text)
    return path


def test_gc_beside_a_live_daemon(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.add("quick")
    with world.daemon():
        world.wait_status("1", "complete")
        world.add("hold it")
        world.wait_running("2")
        until(lambda: len(list((world.state / "runs").iterdir())) == 1, "the first run is settled")
        for log in (world.state / "logs/runs").iterdir():
            os.utime(log, (time.time() - 2 * 86_400,) * 2)
        plain, gone = old_log(world, 3, "three days\n"), old_log(world, 40, "forty days\n")
        done = json.loads(world.run("gc", "--json", check=0).stdout)
        assert (done["compressed"][0], len(done["compressed"])) == (f"logs/{plain.name}", 2)
        assert done["removed"] == [f"logs/{gone.name}"]
        assert done["problems"] == []
        assert gzip.decompress(plain.with_suffix(".log.gz").read_bytes()) == b"three days\n"
        assert "runs, last pass" in said(ask(world))
        assert "title: T" in world.run("task", "show", "1", check=0).stdout  # the end of its log
        world.push("after", dev=pool("dev", "ada", limit=2))
        until(lambda: (world.agent("ada") or {})["limit"] == 2, "the daemon goes on with its mirror")
        world.open("2")
        world.wait_status("2", "complete")
    assert world.run("gc", "--dry-run", check=0).stdout.count("compressed") == 0
    assert not_ok(ask(world)) == {}


def test_the_runner_keeps_house_by_itself_once_an_hour(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    first = old_log(world, 3, "x\n")
    world.once()
    assert first.exists(), "it was done within the hour"
    stamp = world.state / "logs/.cared"
    os.utime(stamp, (time.time() - 3601,) * 2)
    world.once()
    assert not first.exists()
    assert first.with_suffix(".log.gz").exists()
    second = old_log(world, 4, "x\n")
    second.with_suffix(".log.gz").write_bytes(b"no gzip")
    os.utime(stamp, (time.time() + 3601,) * 2)  # the clock was set back
    assert "WARNING - Keeping house:" in world.once()
    assert second.exists()
    last = json.loads(world.run("history", "--json", "-n", "1", check=0).stdout)
    assert "care" in last["steps"]


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_the_runner_may_speak_json_and_its_file_stays_text(world: World, how: str) -> None:
    world.fleet(dev=pool("dev", "ada"))
    if how == "flag":
        out = world.run("--log-format", "json", "run", "--once", check=0).stdout
    else:
        out = world.run("run", "--once", check=0, TSCHED_LOG_FORMAT="JSON").stdout
    lines: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert lines[-1]["counters"]["errors"] == 0
    assert len({line["pass"] for line in lines if "pass" in line}) == 1
    (file,) = (world.state / "logs").glob("scheduler_*.log")
    assert [line.partition(" - ")[2] for line in file.read_text().splitlines()] == [line["message"] for line in lines]
    assert "write text or json" in world.run("--log-format", "yaml", "run", "--once", check=2).stderr
