"""The runner itself: dry runs, locks, signals, kills; and what people do to leases and tasks by hand."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.world import LIMITS, PATIENCE, World, alive, pool, until

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="the guide's own lines need jq: apt-get install jq")


def picture(*roots: Path) -> dict[str, tuple[str, int, int]]:
    """Every file and folder with content, mode and time of change."""

    def walk(root: Path) -> Iterator[tuple[str, tuple[str, int, int]]]:
        for path in sorted([root, *root.rglob("*")]):
            stat = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            yield str(path), (content, stat.st_mode, stat.st_mtime_ns)

    return dict(entry for root in roots if root.exists() for entry in walk(root))


def test_a_dry_run_changes_not_one_byte(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"), qa=pool("qa", "cy"))
    tip = world.push()
    world.once("--dry-run")
    assert not world.state.exists(), "a dry run made the state folder"
    held = world.add("hold")
    with world.daemon():
        world.wait_running(held)
    os.kill(world.wait_running(held)["pid"], signal.SIGSTOP)  # no heartbeat between the two pictures
    try:
        world.add("quick", "--assign", "ben")
        world.push(dev=pool("dev", "ben"))
        before = picture(world.state, world.remote)
        out = world.once("--dry-run")
        assert picture(world.state, world.remote) == before
    finally:
        os.kill(world.wait_running(held)["pid"], signal.SIGCONT)
    assert "[DRY RUN] Would apply revision" in out
    assert "drains: 1 run goes on" in out
    assert "[DRY RUN] Agent 'ada' in queue 'dev': cordoned -> draining, 1 runs" in out
    assert "[DRY RUN] Agent 'ben'" not in out
    assert "[DRY RUN] Would assign task 2 to queue dev agent ben" in out
    assert "Agent 'ben' has 1 available slots" in out
    assert world.applied() == tip
    world.open(held)
    until(lambda: not world.leases(), "the run ended")
    out = world.once("--dry-run")
    assert f"[DRY RUN] Would settle task {held}: its run by agent ada has ended" in out
    assert "[DRY RUN] Agent 'ada' in queue 'dev': cordoned -> deleted, 0 runs" in out
    assert world.task(held)["status"] == "working", "it was only said"


def test_a_dry_run_works_beside_a_daemon(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon():
        world.wait_status(world.add("quick"), "complete")
        for _ in range(3):
            assert "Agent 'ada' has 1 available slots" in world.once("--dry-run")


def test_a_second_runner_is_told_who_holds_the_folder(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon() as first:
        until(world.applied, "the first runner is at work")
        pid_file = world.state / "tinyscheduler.lock"
        for mode in ("--once", "--daemon"):
            refused = world.run("run", mode, check=2)
            assert f"pid {first.pid}" in refused.stderr
            assert pid_file.read_text() == f"{first.pid}\n"
        pid_file.unlink()
        until(pid_file.exists, "the pid file is made anew")
        assert "holds" in world.run("run", "--once", check=2).stderr
    assert not pid_file.exists()


def test_killed_and_restarted_it_finds_its_runs_again(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", limit=4))
    with world.daemon() as first:
        tasks = [world.add(f"hold {number}") for number in range(3)]
        before = [world.wait_running(task) for task in tasks]
        first.kill()
        first.wait()
    world.open(tasks[0])
    until(lambda: f"task_{tasks[0]}.json" not in world.leases(), "one run ended with no runner there")
    with world.daemon():
        world.wait_status(tasks[0], "complete")
        assert [world.running(task) for task in tasks[1:]] == before[1:]
        world.open(*tasks)
        for task in tasks:
            world.wait_status(task, "complete")
            assert world.outcomes(task) == ["complete"]
        world.settled()


def test_sigterm_leaves_runs_alone(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon():
        held = world.add("hold")
        lease = world.wait_running(held)
    assert alive(lease["agent_pid"])
    world.open(held)
    until(lambda: not world.leases(), "the run ended")
    world.once()
    assert world.task(held)["status"] == "complete"


@pytest.mark.parametrize("way", ["sync", "hup"])
def test_it_cycles_at_once_when_asked(world: World, way: str) -> None:
    world.fleet(dev=pool("dev", "ada"), limits=LIMITS.replace("100ms", "10m", 1))
    with world.daemon() as process:
        until(world.applied, "the first pass")
        tip = world.push(dev=pool("dev", "ada", "ben"))
        if way == "sync":
            assert f"pid {process.pid}" in world.run("sync", check=0).stdout
        else:
            process.send_signal(signal.SIGHUP)
        until(lambda: world.applied() == tip, "the next pass, long before its time")


def test_sync_without_a_daemon_is_one_cycle(world: World) -> None:
    tip = world.fleet(dev=pool("dev", "ada"))
    world.run("sync", check=0)
    assert world.applied() == tip


def test_a_lease_removed_by_hand_stops_the_run_and_returns_the_task(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon():
        held = world.add("hold")
        first = world.wait_running(held)
        (world.state / f"running/task_{held}.json").unlink()
        until(lambda: not alive(first["agent_pid"]), "the run is stopped")
        second = until(lambda: world.running(held), "the task runs again")
        assert second is not None
        assert second["run_id"] != first["run_id"]
        assert second["attempt"] == 1, "an operator's stop was charged"
        world.open(held)
        world.wait_status(held, "complete")
        assert world.outcomes(held) == ["interrupted", "complete"]
        world.settled()


@needs_jq
def test_the_guides_kill_stops_the_run_uncharged(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon():
        held = world.add("hold")
        first = world.wait_running(held)
        lease = f"state/running/task_{held}.json"
        subprocess.run(["bash", "-c", f"kill $(jq -r .pid {lease})"], cwd=world.root, check=True)
        until(lambda: world.outcomes(held)[:1] == ["interrupted"], "the run is stopped")
        assert not alive(first["agent_pid"])
        again = until(lambda: world.running(held), "the task runs again")
        assert again is not None
        assert again["attempt"] == 1
        world.open(held)
        world.wait_status(held, "complete")


def test_a_task_cancelled_under_its_run_stays_cancelled(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon():
        held = world.add("hold")
        lease = world.wait_running(held)
        world.run("task", "cancel", held, check=0)
        until(lambda: not alive(lease["agent_pid"]), "the run is stopped")
        until(lambda: world.outcomes(held) == ["cancelled"], "its outcome")
        assert world.task(held)["status"] == "cancelled"
        world.settled()


def test_cancelling_wakes_a_daemon_that_sleeps(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"), limits=LIMITS.replace("100ms", "1h"))
    held = world.add("hold")
    with world.daemon():
        lease = world.wait_running(held)
        world.run("task", "cancel", held, check=0)
        until(lambda: not alive(lease["agent_pid"]), "the run is stopped")


def test_a_failing_task_is_retried_then_parked_and_can_be_reopened(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon():
        task = world.add("fail")
        shown = world.wait_status(task, "parked")
        assert [(run["outcome"], run["attempt"], run["exit_code"]) for run in shown["runs"]] == [
            ("failed", 1, 3),
            ("failed", 2, 3),
        ]
        text = world.run("task", "show", task, check=0).stdout
        assert "Parked for a person" in text
        assert "cannot do it" in text
        world.run("task", "reopen", task, check=0)
        until(lambda: len(world.outcomes(task)) == 4, "two more attempts")
        shown = world.wait_status(task, "parked")
        assert [run["attempt"] for run in shown["runs"]] == [1, 2, 1, 2]


def test_a_missing_program_is_a_clear_error_on_the_run_and_others_go_on(world: World) -> None:
    broken = LIMITS + "  absent: {argv: [no-such-agent, x], evidence: exit}\n"
    world.fleet(dev=pool("dev", "ada, runtime: absent"), qa=pool("qa", "ben"), limits=broken)
    task, other = world.add("quick"), world.add("quick", queue="qa")
    assert "no-such-agent" in world.once(check=1)
    (run,) = world.task(task)["runs"]
    assert run["outcome"] == "failed"
    assert "no-such-agent" in run["reason"]
    assert world.task(task)["status"] == "idle"
    with world.daemon():
        world.wait_status(other, "complete")
        world.wait_status(task, "parked")
    found = world.run("validate", "--host", str(world.clone), check=1).stdout
    assert "TS501" in found
    assert "no-such-agent" in found


def test_an_agent_killed_with_its_shim_is_recovered(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon():
        held = world.add("hold")
        lease = world.wait_running(held)
        os.kill(lease["pid"], signal.SIGKILL)
        until(lambda: world.outcomes(held)[:1] == ["failed"], "the dead shim is noticed")
        assert not alive(lease["agent_pid"])
        world.wait_running(held)
        world.open(held)
        world.wait_status(held, "complete")
        world.settled()


@needs_jq
def test_leases_are_counted_by_the_agents_name(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", limit=3))
    with world.daemon():
        tasks = [world.add(f"hold {number}") for number in range(3)]
        for task in tasks:
            world.wait_running(task)
        command = (
            "ls state/running | grep -c ada; ls state/running/*ada* | wc -l; jq -r .agent state/running/task_1.json"
        )
        until((world.state / f"running/agent_ada.task_{tasks[-1]}").is_symlink, "the link is there")
        out = subprocess.run(
            ["bash", "-c", command], cwd=world.root, check=True, capture_output=True, text=True
        ).stdout
        assert out.split() == ["3", "3", "ada"]
        world.open(*tasks)
        world.settled()


def test_task_text_is_data(world: World) -> None:
    """No title or description becomes a shell word, a flag or a path."""
    world.fleet(dev=pool("dev", "ada"))
    mark = world.root / "mark"
    texts = [
        f"$(touch {mark})",
        f"; touch {mark}",
        "--help",
        "-rf /",
        "../../etc/passwd",
        "a\nb",
        "ünï — 🙂",
        "{recipe}",
    ]
    with world.daemon():
        tasks = [world.run("task", "add", "--queue", "dev", "--", text, check=0).stdout.strip() for text in texts]
        for task in tasks:
            world.wait_status(task, "complete")
    assert not mark.exists()


def test_every_state_a_daemon_shows_fits_the_schema(world: World) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import json

    schema = json.loads((Path(__file__).parent.parent.parent / "schemas/status.schema.json").read_text())
    world.fleet(dev=pool("dev", "ada"))
    jsonschema.validate(world.status(), schema)
    with world.daemon():
        held = world.add("hold")
        world.wait_running(held)
        jsonschema.validate(world.status(), schema)
        world.push(dev=pool("dev", "ada, limit: x"))
        until(lambda: world.status()["revision"]["rejected"], "the rejection")
        jsonschema.validate(world.status(), schema)
        world.push(dev=pool("dev", "ben"))
        until(lambda: world.status()["revision"]["held"], "the hold")
        jsonschema.validate(world.status(), schema)
        world.open(held)
        world.wait_status(held, "complete")


def test_a_daemon_with_nothing_to_do_is_quiet_but_awake(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon():
        first = until(lambda: world.status()["runner"]["last_cycle"], "the first pass")
        until(lambda: world.status()["runner"]["last_cycle"] != first, "another pass")
        log = world.state / "logs" / f"scheduler_{time.strftime('%Y%m%d')}.log"
        assert log.read_text().count("Starting reconciliation pass") > 1


def test_each_run_has_a_fresh_worktree_where_the_pool_names_a_repo(world: World) -> None:
    world.file("src/app.txt", "one\n")
    workspace = f"workspace: {{repo: {world.remote}, ref: main, keep: on-failure}}\n"
    runtime = (
        '  edit: {argv: [sh, -euc, "cat src/app.txt; echo two > src/app.txt; touch new; exit $TSCHED_TASK_TITLE"]}\n'
    )
    edit = LIMITS + runtime.replace("]}", "], evidence: exit}")
    world.fleet(dev=pool("dev", "ada, runtime: edit", extra=workspace), limits=edit)
    good, bad = world.add("0"), world.add("1")
    with world.daemon():
        world.wait_status(good, "complete")
        world.wait_status(bad, "parked")
        world.settled()
    (run,) = world.task(good)["runs"]
    assert (world.state / f"logs/runs/{run['run_id']}.log").read_text().strip().endswith("one")
    kept = sorted(path.name for path in (world.state / "workspaces").iterdir() if not path.name.startswith("."))
    assert kept == sorted(run["run_id"] for run in world.task(bad)["runs"]), "failed runs keep their worktree"
    text = world.run("task", "show", bad, check=0).stdout
    assert f"refs/tsched/salvage/{bad}/1" in text
    (cache,) = (world.state / "workspaces/.repos").glob("*.git")
    saved = world.git(f"--git-dir={cache}", "show", f"refs/tsched/salvage/{bad}/1:src/app.txt")
    assert saved == "two"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("agents: [\n", 1, "Would reject revision"),
        (pool("dev"), 0, "Would hold revision"),
        (None, 1, "Fetch failed"),
    ],
    ids=["rejected", "held", "remote gone"],
)
def test_a_dry_run_after_a_kill_reads_all_and_touches_nothing(
    world: World, text: str | None, code: int, said: str
) -> None:
    """A killed daemon leaves -wal files whose content counts; reading them may not fold them in."""
    world.fleet(dev=pool("dev", "ada, limit: 0"))
    temporary = world.root / "tmp"
    temporary.mkdir()
    with world.daemon() as process:
        until(world.applied, "the first pass")
        process.kill()
        process.wait()
    assert (world.state / "tinyscheduler.lock").exists(), "killed, it had no time to tidy up"
    waiting = world.add("quick", "--assign", "ada")
    if text is None:
        world.remote.rename(world.root / "elsewhere")
    else:
        world.push(dev=text)
    roots = (world.state, world.remote, temporary)
    before = picture(*roots)
    out = world.run("run", "--dry-run", check=code, TMPDIR=str(temporary)).stdout
    after = picture(*roots)
    before.pop(str(temporary)), after.pop(str(temporary))  # its own time of change is all that may differ
    assert after == before
    assert said in out
    assert "Registered agents: ada" in out, "what the killed daemon applied was not seen"
    assert world.task(waiting)["status"] == "idle"


def test_looking_makes_no_state_folder(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    for command in ("status", "plan", "task list", "events", "config --show"):
        world.run(*command.split())
        assert not world.state.exists(), f"`tsched {command}` made the state folder"


def test_a_lease_removed_with_no_runner_there(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    held = world.add("hold")
    world.once()
    lease = world.wait_running(held)
    (world.state / f"running/task_{held}.json").unlink()
    until(lambda: not alive(lease["agent_pid"]) and not alive(lease["pid"]), "the shim stopped its run")
    assert world.running(held) is None, "the shim wrote the lease again"
    world.once()
    assert world.outcomes(held)[:1] == ["interrupted"]
    again = world.wait_running(held)
    assert (again["attempt"], again["run_id"] != lease["run_id"]) == (1, True)


def test_a_daemon_killed_again_and_again_loses_and_doubles_nothing(world: World) -> None:
    """Each run writes that it came and went: every task was done, and no two runs of one overlapped."""
    diary = world.gates / "diary"
    script = f'echo "+ $TSCHED_TASK_ID" >> {diary}; sleep 0.2; echo "- $TSCHED_TASK_ID" >> {diary}'
    runtime = f"  diarist: {{argv: [sh, -euc, {json.dumps(script)}], evidence: exit}}\n"
    world.fleet(dev=pool("dev", "ada, runtime: diarist", "ben, runtime: diarist", limit=2), limits=LIMITS + runtime)
    tasks = [world.add(f"task {number}") for number in range(8)]

    def lines() -> int:
        return len(diary.read_text().splitlines()) if diary.exists() else 0

    def done() -> bool:
        return all(world.task(task)["status"] == "complete" for task in tasks)

    def wait_beyond(before: int) -> None:
        until(lambda: lines() != before or done(), "a run comes or goes")

    for _ in range(6):
        before = lines()
        with world.daemon() as process:  # killed the moment that anything has happened
            wait_beyond(before)
            process.kill()
            process.wait()
    with world.daemon():
        for task in tasks:
            world.wait_status(task, "complete")
        world.settled()
    inside: set[str] = set()
    for line in diary.read_text().splitlines():
        sign, task = line.split()
        assert (sign == "+") != (task in inside), f"two runs of task {task} at once"
        inside ^= {task}
    assert inside == set()
    for task in tasks:  # a kill between the claim and the start costs an attempt that never ran
        assert [one for one in world.outcomes(task) if one != "interrupted"] == ["complete"], task


def test_events_can_be_followed(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with subprocess.Popen(
        [sys.executable, "-m", "tsched", "events", "--follow", "--json", "--limit", "100"], env=world.environ,
        cwd=world.root, stdout=subprocess.PIPE, text=True,
    ) as following:  # fmt: skip
        assert following.stdout is not None
        tip = world.push()
        world.once()
        first = json.loads(following.stdout.readline())
        following.send_signal(signal.SIGINT)
        following.stdout.read()
        assert following.wait(timeout=PATIENCE) == 130
    assert (first["kind"], first["revision"]) == ("change.pool.added", tip)


def test_a_task_nobody_will_take_is_a_warning_with_the_nearest_name(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    assert world.run("task", "add", "early", "--queue", "devv", check=0).stderr == "", "nothing is applied yet"
    world.once()
    near = world.run("task", "add", "x", "--queue", "devv", check=0)
    assert (near.stdout, "serves the queue devv (did you mean dev?)" in near.stderr) == ("2\n", True)
    far = world.run("task", "add", "x", "--queue", "press", "--assign", "adda", check=0).stderr
    assert "serves the queue press; served: dev" in far
    assert "the applied fleet has no agent adda: the task waits until it has (did you mean ada?)" in far
