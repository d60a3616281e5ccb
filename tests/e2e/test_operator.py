"""`tsched init --host`: the folder where the operations guide's own commands stand, kept as a view of the fleet."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.world import LIMITS, World, pool, until

TOP = Path(__file__).parents[2]
FLEET = pool("dev", "vaela, limit: 3", "damien, limit: 2, recipe: team/damien.json")
UNITS = ("tinyscheduler.service", "tinyscheduler-once.service", "tinyscheduler.timer")


def guide(heading: str) -> str:
    """The first shell block below a heading of the guide, word for word."""
    text = (Path(__file__).parent / "guide.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", text.partition(f"## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return section.partition("```bash\n")[2].partition("```")[0]


class Desk(World):
    """A fleet repo, and an operator's folder for it, where commands run with its env file sourced."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.desk = root / "desk"
        self.recipes("vaela")
        self.file("recipes/team/damien.json", json.dumps({"title": "T", "description": "D", "prompt": "Do it."}))
        self.push("fleet", limits=LIMITS, dev=FLEET)
        self.run("init", "--host", str(self.desk), check=0)
        self.state = self.desk / "state"
        self.environ["TSCHED_STATE"] = str(self.state)
        self.here = {name: value for name, value in self.environ.items() if not name.startswith("TSCHED_")}
        self.here["TSCHED_PASS_ENV"] = "GATE"

    def shell(self, block: str) -> str:
        done = subprocess.run(
            ["bash", "-c", f"set -a; . ./tinyscheduler.env; set +a\n{block}"], cwd=self.desk, env=self.here,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout

    def env_file(self) -> str:
        return (self.desk / "tinyscheduler.env").read_text()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.open(*(str(number) for number in range(1, 9)))
    until(lambda: not (made.state / "running").exists() or not made.leases(), "all runs end")


def test_the_guides_blocks_see_the_applied_fleet(desk: Desk) -> None:
    task = desk.add("hold", "--assign", "vaela")
    desk.shell("./tinyscheduler run --once")
    desk.wait_running(task)
    health = desk.shell(guide("Agent Pool Health"))
    assert "Pool: dev\n  damien: 0/2 tasks\n  vaela: 1/3 tasks\n" in health
    activity = desk.shell(guide("Agent Activity"))
    assert "vaela: 1 active tasks\n" in activity
    assert "Agent 'vaela' has 2 available slots" in activity
    audit = desk.shell(guide("Configuration Audit"))
    for line in (
        "  ✓ File exists", "  ✓ Valid JSON", "  ✓ 2 agents defined", "  Agents in control file: damien vaela ",
        "  Agents with limits: damien vaela ", "  ✓ recipes/damien.yaml", "  ✓ recipes/vaela.yaml",
    ):  # fmt: skip
        assert line in audit.splitlines(), audit
    desk.shell(guide("Agent Control File Backup"))
    assert len(list(desk.state.glob("agent-control.json.backup.*"))) == 1
    assert desk.shell("./tinyscheduler config --show | grep -A 20 'Agent Limits'").split() == [
        "Agent", "Limits:", "damien:", "2", "vaela:", "3",
    ]  # fmt: skip
    assert (desk.desk / "recipes/vaela.yaml").read_text() == (desk.clone / "recipes/vaela.yaml").read_text()
    assert os.readlink(desk.desk / "recipes/damien.yaml").endswith("state/applied/recipes/team/damien.json")
    assert desk.shell("./tsched task show 1 --json | jq -r .status") == "working\n"


def test_the_view_follows_each_revision_and_nothing_is_said_twice(desk: Desk) -> None:
    first = desk.shell("./tinyscheduler run --once")
    assert "recipes/damien.yaml is a link to a recipe in JSON: team/damien.json" in first
    assert "WARNING" not in first + desk.shell("./tinyscheduler run --once")
    (desk.desk / "recipes/newagent.yaml").write_text("mine")  # the guide's cp
    desk.file("recipes/vaela.yaml", "title: T2\ndescription: D\nprompt: Do it.\n")
    desk.recipes("newagent")
    desk.push(dev=pool("dev", "vaela, limit: 5", "newagent"))
    said = desk.shell("./tinyscheduler run --once")
    assert "recipes/newagent.yaml is a file of its own: it does not show what is applied" in said
    assert sorted(path.name for path in (desk.desk / "recipes").iterdir()) == ["newagent.yaml", "vaela.yaml"]
    assert "T2" in (desk.desk / "recipes/vaela.yaml").read_text()
    assert not (desk.state / "applied/recipes/team/damien.json").exists()
    assert '  "newagent": 1,\n  "vaela": 5\n}\'\n' in desk.env_file()
    assert "WARNING" not in desk.shell("./tinyscheduler run --once")


def test_limits_edited_by_hand_are_put_back_with_a_word_and_other_settings_stay(desk: Desk) -> None:
    desk.shell("./tinyscheduler run --once")
    before = desk.env_file()
    (desk.desk / "tinyscheduler.env").write_text(
        before.replace('"vaela": 3', '"vaela": 9') + "TSCHED_LOG_LEVEL=INFO\n"
    )
    assert "WARNING - The limits in tinyscheduler.env are put back" in desk.shell("./tinyscheduler run --once")
    assert desk.env_file() == before + "TSCHED_LOG_LEVEL=INFO\n"
    assert (desk.desk / "tinyscheduler.env").stat().st_mode & 0o777 == 0o600
    without = before.partition("TINYSCHEDULER_AGENT_LIMITS")[0]
    (desk.desk / "tinyscheduler.env").write_text(without)
    assert "WARNING" not in desk.shell("./tinyscheduler run --once")
    assert desk.env_file() == without


def test_without_the_repo_the_same_folder_goes_on_from_what_it_shows(desk: Desk) -> None:
    desk.shell("./tinyscheduler run --once")
    (desk.desk / "tinyscheduler.env").write_text(re.sub("TSCHED_REPO=.*\n", "", desk.env_file()))
    said = desk.shell("./tinyscheduler run --once")
    assert f"Loaded agent registry from {desk.state}/agent-control.json" in said
    assert "held" not in said
    assert {one["name"]: one["limit"] for one in desk.status()["pools"][0]["agents"]} == {"vaela": 3, "damien": 2}
    desk.shell("mv $TINYSCHEDULER_AGENT_CONTROL_FILE ${TINYSCHEDULER_AGENT_CONTROL_FILE}.disabled")
    assert "Using legacy agent_limits only." in desk.shell("./tinyscheduler run --once --dry-run")
    desk.shell("./tinyscheduler run --once")
    assert not (desk.state / "agent-control.json").exists()  # it is the operator's now: no view is written over it


def test_a_folder_without_a_repo_begins_with_the_old_files(desk: Desk) -> None:
    said = desk.run("init", "--host", str(desk.root / "old"), check=0, TSCHED_REPO="")
    assert "no fleet repo" in said.stderr
    desk.desk = desk.root / "old"
    assert "wrote a default" in desk.shell("./tinyscheduler validate-config --fix || true")
    assert "Agent types (queues): orchestrator, architect" in desk.shell("./tinyscheduler run --once")


def test_ps_finds_the_daemon_by_its_name(desk: Desk) -> None:
    process = subprocess.Popen(
        [desk.desk / "tinyscheduler", "run", "--daemon"], cwd="/", env=desk.here, stdout=subprocess.DEVNULL
    )
    try:
        until((desk.state / "tinyscheduler.lock").exists, "the daemon has its lock")
        checklist = desk.shell(guide("Health Checks"))
        assert re.search(rf"^\S+ +{process.pid} .*/tinyscheduler run --daemon$", checklist, re.MULTILINE), checklist
        until(lambda: "Loaded agent registry" in desk.shell(guide("Health Checks")), "the registry is in the log")
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0


def test_the_launcher_works_by_a_link_from_anywhere_and_a_flag_wins(desk: Desk) -> None:
    (desk.root / "link").symlink_to(desk.desk / "tsched")
    shown = json.loads(subprocess.check_output([desk.root / "link", "config", "--json"], cwd="/", env=desk.here))
    assert (shown["base_path"], shown["state"]) == (str(desk.desk), str(desk.state))
    said = subprocess.check_output([desk.root / "link", "--base-path", "/tmp", "config", "--json"], env=desk.here)
    assert json.loads(said)["base_path"] == "/tmp"


def test_a_used_folder_keeps_what_it_has(desk: Desk) -> None:
    before = desk.env_file()
    said = desk.run("init", "--host", str(desk.desk), check=2)
    assert "holds tinyscheduler, tinyscheduler.env, deploy/cron/tinyscheduler already" in said.stderr
    assert desk.env_file() == before
    assert "plain letters" in desk.run("init", "--host", str(desk.root / "a b"), check=2).stderr
    assert "--repo belongs to --host" in desk.run("init", str(desk.root / "x"), "--repo", "y", check=2).stderr


def test_the_units_start_this_folder_and_leave_runs_alone(desk: Desk) -> None:
    for name in UNITS[:2]:
        unit = (desk.desk / "deploy/systemd" / name).read_text()
        lines = set(unit.splitlines())
        assert {
            "KillMode=process",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            f"WorkingDirectory={desk.desk}",
        } <= lines
        assert f"ReadWritePaths={desk.desk}" in lines
        assert not any(line.startswith(("PrivateTmp=", "ProtectHome=")) for line in lines)
        start = next(line for line in lines if line.startswith("ExecStart="))
        assert Path(start.removeprefix("ExecStart=").split()[0]).samefile(desk.desk / "tinyscheduler")
    cron = (desk.desk / "deploy/cron/tinyscheduler").read_text()
    user, _, command = cron.splitlines()[-1].removeprefix("* * * * * ").partition(" ")
    assert user == subprocess.check_output(["id", "-un"], text=True).strip()
    subprocess.run(["sh", "-c", command], cwd="/", env=desk.here, check=True)  # as cron does
    assert desk.applied() is not None


def test_systemd_takes_the_units(desk: Desk) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: the units are checked for their lines alone")
    units = [str(desk.desk / "deploy/systemd" / name) for name in UNITS]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    newer = "'DelegateSubgroup'"  # than this systemd may be, which then passes it over
    said = [line for line in (done.stdout + done.stderr).splitlines() if newer not in line]
    ours = [line for line in said if "tinyscheduler" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_wheel_holds_the_units() -> None:
    included = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert included["force-include"]["deploy"] == "tsched/shipped/deploy"
    names = {path.relative_to(TOP / "deploy").as_posix() for path in (TOP / "deploy").rglob("*") if path.is_file()}
    assert names >= {"cron/tinyscheduler", *(f"systemd/{name}" for name in UNITS)}


def test_the_program_beside_the_interpreter_is_started(desk: Desk) -> None:
    assert str(Path(sys.executable).with_name("tinyscheduler")) in (desk.desk / "tinyscheduler").read_text()
