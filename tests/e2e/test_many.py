"""Several runners: one state folder has one, one task server has many, and no task is run twice."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.fleets_of_runners import drill
from tests.e2e.world import World, pool, until
from tests.integration.cli_call import Said, caller
from tests.integration.tinytask_servers import OldServer, old_server
from tsched.runner.host import open_host
from tsched.runner.loop import once
from tsched.runner.standing import look
from tsched.settings import Settings, load
from tsched.state.folder import StateFolder
from tsched.state.lock import LockHeld, RunnerLock


@pytest.fixture
def server() -> Iterator[OldServer]:
    with old_server() as one:
        yield one


class Machine(World):
    """A machine of its own, whose passes are made in this process."""

    def settings(self) -> Settings:
        return load(environ=self.environ, cwd=self.root)

    def pass_(self) -> str:
        said = io.StringIO()
        with closing(open_host(self.settings(), echo=said)) as host:
            assert once(host).errors == 0, said.getvalue()
        return said.getvalue()

    def seen(self) -> dict[str, object]:
        return dict(look(self.settings(), now=0.0))


@pytest.fixture
def machines(tmp_path: Path, server: OldServer) -> tuple[Machine, Machine]:
    eu, us = Machine(tmp_path / "eu"), Machine(tmp_path / "us")
    for one, zone in ((eu, "eu"), (us, "us")):
        one.environ |= {
            "TSCHED_REPO": str(eu.remote), "TSCHED_TASKS": f"tinytask+{server.base}/mcp",
            "TSCHED_POOLS": f"zone={zone}", "GATE": str(eu.gates),
        }  # fmt: skip
    eu.fleet(dev=labelled("dev", "ada", "eu"), qa=labelled("qa", "ben", "eu"), docs=labelled("docs", "cy", "us"))
    return eu, us


Tsched = Callable[..., Said]


@pytest.fixture
def tsched(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tsched:
    """The command line on a machine, in this process."""

    def run(machine: Machine, *words: str, **environ: str) -> Said:
        with monkeypatch.context() as there:
            for name, value in {**machine.environ, **environ}.items():
                there.setenv(name, value)
            there.chdir(machine.root)
            return caller(capsys)(*words)

    return run


def labelled(name: str, agent: str, zone: str) -> str:
    return pool(name, agent, extra=f"labels: {{zone: {zone}}}\n")


def ended(machine: Machine, server: OldServer, number: int, status: str) -> None:
    def seen() -> bool:
        machine.pass_()
        return server.tasks[number]["status"] == status and not machine.leases()

    until(seen, f"task {number} is {status}")


def test_a_pool_whose_labels_change_goes_from_one_runner_to_another(
    machines: tuple[Machine, Machine], server: OldServer
) -> None:
    eu, us = machines
    first = server.add("hold", assigned_to="ada")
    eu.pass_()
    us.pass_()
    us.pass_()
    assert (us.seen()["not_served"], eu.seen()["not_served"]) == (["dev", "qa"], ["docs"])
    claimed = us.seen()["elsewhere"]
    assert isinstance(claimed, list)
    assert [(one["task_id"], one["agent"]) for one in claimed] == [(str(first), "ada")]
    assert claimed[0]["runner"] == (eu.state / "runner_id").read_text().strip()
    assert eu.seen()["elsewhere"] == []

    eu.push("ada moves", dev=labelled("dev", "ada", "us"))
    second = server.add("quick", assigned_to="ada")
    log = eu.pass_()
    assert "Agent 'ada' in queue 'dev': cordoned -> draining, 1 runs" in log
    assert server.tasks[second]["status"] == "idle", "the one that loses it takes nothing more"
    us.pass_()
    ended(us, server, second, "complete")
    assert [server.tasks[first][key] for key in ("status", "assigned_to")] == ["working", "ada"], "its run goes on"
    waiting = server.add("hold", assigned_to="ada")
    eu.open(str(first))
    ended(eu, server, first, "complete")
    assert eu.agent("ada") is None
    assert server.tasks[waiting]["assigned_to"] == "ada", "nothing is handed back: ada is in the fleet"


def test_labels_that_choose_nothing_are_named(machines: tuple[Machine, Machine], tsched: Tsched) -> None:
    us = machines[1]
    us.environ["TSCHED_POOLS"] = "docs,zone=us,tier=gpu"
    said = us.pass_()
    shown = "dev (zone=eu), docs (zone=us), qa (zone=eu)"
    assert f"TSCHED_POOLS asks for zone=us,tier=gpu, but the labels of the applied fleet's pools are {shown}" in said
    assert us.seen()["not_served"] == ["dev", "qa"], "the pool that is named is served all the same"
    tables = tsched(us, "status").out
    assert "docs,zone=us,tier=gpu" in tables
    shown_too = json.loads(tsched(us, "config", "--show", "--json").out)
    assert shown_too["pools"] == ["docs", "zone=us", "tier=gpu"]


def test_a_dead_runners_claims_are_freed_and_if_it_lives_it_writes_nothing(
    machines: tuple[Machine, Machine], server: OldServer, tsched: Tsched
) -> None:
    eu, us = machines
    number = server.add("hold", assigned_to="ada")
    eu.pass_()
    us.pass_()
    gone = (eu.state / "runner_id").read_text().strip()

    def runner(*words: str, code: int = 0) -> str:
        done = tsched(us, "runner", *words)
        assert done.code == code, done.err
        return done.out + done.err

    listed = json.loads(runner("list", "--json"))
    ours = (us.state / "runner_id").read_text().strip()
    assert listed == [{"id": ours, "here": True, "tasks": []}, {"id": gone, "here": False, "tasks": [str(number)]}]
    assert "its next pass frees any other" in runner("forget", ours, code=2)
    assert "`tsched runner list` shows who claims" in runner("forget", gone[:5], code=2)
    assert server.tasks[number]["status"] == "working", "nothing was done yet"
    assert f"runner {gone} is forgotten; back in their queues: {number}" in runner("forget", gone[:8])
    assert (server.tasks[number]["status"], server.tasks[number]["assigned_to"]) == ("idle", None)
    assert [one["id"] for one in json.loads(runner("list", "--json"))] == [ours]
    server.tasks[number]["assigned_to"] = "cy"
    us.pass_()
    assert server.tasks[number]["status"] == "working"
    said = len(server.comments)
    (us.gates / str(number)).touch()
    eu.open(str(number))

    def settled() -> bool:
        eu.pass_()
        return not eu.leases()

    until(settled, "the forgotten runner's own run is over")
    assert len(server.comments) == said
    assert (server.tasks[number]["status"], server.tasks[number]["assigned_to"]) == ("working", "cy")
    ended(us, server, number, "complete")


# One state folder, however it is reached


def linked(state: Path, other: Path) -> None:
    other.symlink_to(state)


def mounted(state: Path, other: Path) -> None:
    other.mkdir()
    done = subprocess.run(["mount", "--bind", state, other], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a bind mount needs root")


@pytest.mark.parametrize("way", [linked, mounted])
def test_the_folder_is_one_whatever_its_path(
    tmp_path: Path, way: Callable[[Path, Path], None], tsched: Tsched
) -> None:
    here, there = Machine(tmp_path / "here"), tmp_path / "there"
    here.fleet(dev=pool("dev", "ada"))
    here.state.mkdir()
    way(here.state, there)
    elsewhere = {"TSCHED_STATE": str(there), "TSCHED_LOCK_FILE": str(tmp_path / "another.lock")}
    try:
        with RunnerLock(StateFolder(here.state)):
            for mode in ("--once", "--daemon"):
                refused = tsched(here, "run", mode, **elsewhere)
                assert refused.code == 2
                assert f"holds {there}: stop it" in refused.err
        here.environ |= elsewhere
        here.pass_()
    finally:
        if not there.is_symlink():
            subprocess.run(["umount", there], capture_output=True, check=False)


def test_two_runners_never_share_a_folder_of_leases(tmp_path: Path) -> None:
    leases = tmp_path / "leases"
    one, other = (StateFolder(tmp_path / name, running_dir=leases) for name in ("one", "other"))
    for folder in (one, other):
        folder.create()
    with RunnerLock(one):
        with pytest.raises(LockHeld, match="TSCHED_RUNNING_DIR"), RunnerLock(other):
            pass
        assert not other.lock_file.exists()
    with RunnerLock(other):
        pass


# Cut off


def test_a_machine_that_is_cut_off_keeps_its_runs_and_nobody_else_does_them() -> None:
    apart = ["unshare", "--map-root-user", "--net"]
    if shutil.which("ip") is None or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs iproute2, and to be allowed a network namespace")
    drill = [sys.executable, "-m", "tests.e2e.cut_off", "--tasks", "12", "--cuts", "1"]
    done = subprocess.run([*apart, *drill], capture_output=True, text=True, check=False)
    assert done.stdout == "cuts=1 tasks=12 lost=0 duplicated=0 leaked=0\n", done.stdout + done.stderr


# Killed at random


@pytest.mark.parametrize(("runners", "server"), [(2, "store"), (3, "tinytask")])
def test_runners_that_are_killed_at_random_do_each_task_once(tmp_path: Path, runners: int, server: str) -> None:
    report = drill(tmp_path, runners=runners, tasks=9, kills=2, seed=runners, server=server)
    assert report.good, report
