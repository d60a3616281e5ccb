"""Changes without an editor: shown, checked, then written, committed, pushed or proposed."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.world import RECIPE, World, pool
from tests.integration.forge_server import GitHubServer

TOKEN = "ghp_canary0123456789"
DEV = """\
# yaml-language-server: $schema=../schemas/pool.schema.json
# Who builds.
apiVersion: tsched/v1
kind: Pool
name: dev
runtime: work

agents:
  # the first
  - name: ada # careful
    limit: 2

  - name: ben
"""


@pytest.fixture
def fleet(world: World) -> World:
    """A fleet in a person's clone, pushed; the commands run in that clone, without a runner's settings."""
    world.file("pools/dev.yaml", DEV)
    world.fleet(qa=pool("qa", "cy"))
    return world


def here(world: World, *arguments: str, check: int | None = 0, **more: str) -> subprocess.CompletedProcess[str]:
    settings = {name: value for name, value in world.environ.items() if not name.startswith("TSCHED_")}
    return world.run(*arguments, check=check, cwd=world.clone, only={**settings, **more})


def read(world: World, path: str) -> str:
    return (world.clone / path).read_text()


def test_each_edit_changes_its_lines_alone(fleet: World) -> None:
    here(fleet, "agent", "limit", "ada", "5")
    assert read(fleet, "pools/dev.yaml") == DEV.replace("limit: 2", "limit: 5")
    here(fleet, "agent", "limit", "ada", "2")
    assert read(fleet, "pools/dev.yaml") == DEV
    here(fleet, "agent", "add", "dot", "--pool", "dev", "--recipe", "ada.yaml", "--limit", "3", "--max-runtime", "5m")
    added = "\n  - name: dot\n    limit: 3\n    recipe: ada.yaml\n    max_runtime: 5m\n"
    assert read(fleet, "pools/dev.yaml").replace("\n\n  - name: dot", "\n  - name: dot") == DEV + added.lstrip("\n")
    here(fleet, "agent", "move", "dot", "qa")
    assert "dot" not in read(fleet, "pools/dev.yaml")
    assert "max_runtime: 5m" in read(fleet, "pools/qa.yaml")
    here(fleet, "agent", "remove", "dot")
    assert read(fleet, "pools/dev.yaml") == DEV
    here(fleet, "pool", "suspend", "dev", "--until", "2027-01-01T00:00:00Z", "--reason", "holiday: all away")
    suspended = 'suspend: {until: "2027-01-01T00:00:00Z", reason: "holiday: all away"}\n'
    assert read(fleet, "pools/dev.yaml").replace(suspended, "") == DEV
    assert "pools/dev.yaml" not in here(fleet, "fmt", "--check", check=None).stdout
    here(fleet, "pool", "resume", "dev")
    assert read(fleet, "pools/dev.yaml") == DEV
    here(fleet, "pool", "add", "docs", "--queue", "pages")
    assert here(fleet, "validate", "--strict", "--ignore", "TS316").returncode == 0
    here(fleet, "pool", "remove", "docs")
    assert fleet.git("status", "--porcelain") == ""


def test_what_would_break_the_rules_is_not_written(fleet: World) -> None:
    said = here(fleet, "agent", "add", "dot", "--pool", "dev", check=1)
    assert "needs recipes/dot.yaml, which is not in the repo" in said.stdout
    assert "nothing is written" in said.stderr
    here(fleet, "agent", "limit", "ada", "--", "-1", check=1)
    assert fleet.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("agent", "limit", "adda", "3"), "there is no agent adda: did you mean ada?"),
        (("agent", "move", "ada", "qaa"), "there is no pool qaa: did you mean qa?"),
        (("agent", "move", "ada", "dev"), "stands in pool dev already"),
        (("agent", "add", "cy", "--pool", "dev"), "stands in pool qa already"),
        (("pool", "add", "qa"), "there is a pool qa already"),
        (("pool", "resume", "qa"), "is not suspended"),
        (("agent", "limit", "ada", "3", "--trailer", "nonsense"), "write KEY: VALUE"),
        (("rollback", "nope"), "names no commit"),
        (("agent", "limit", "ada", "3", "--pr"), "is no repository on a forge"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(fleet: World, arguments: tuple[str, ...], words: str) -> None:
    assert words in here(fleet, *arguments, check=2).stderr
    assert fleet.git("status", "--porcelain") == ""


def test_an_edit_is_shown_with_its_plan_and_a_dry_run_writes_nothing(fleet: World) -> None:
    said = here(fleet, "agent", "remove", "ben", "--with-recipe", "--dry-run").stdout
    assert "-  - name: ben\n" in said
    assert "--- a/recipes/ben.yaml\n+++ /dev/null\n" in said
    assert "idle: deleted at once" in said
    assert fleet.git("status", "--porcelain") == ""
    here(fleet, "agent", "remove", "ben", "--with-recipe")
    assert not (fleet.clone / "recipes/ben.yaml").exists()
    assert here(fleet, "agent", "limit", "ada", "2").stdout == "nothing to change\n"


def test_a_commit_holds_the_edit_alone(fleet: World) -> None:
    fleet.file("README.md", "mine\n")
    fleet.file("recipes/cy.yaml", RECIPE + "# mine\n")
    fleet.git("add", "README.md")
    trailer = ("--trailer", "Tsched-Allow-Removal: yes")
    here(fleet, "agent", "limit", "ada", "4", "--commit", "-m", "More for Ada", *trailer)
    assert fleet.git("show", "--name-only", "--format=%s%n%(trailers)").split("\n") == [
        "More for Ada", "Tsched-Allow-Removal: yes", "", "", "pools/dev.yaml",
    ]  # fmt: skip
    assert fleet.git("status", "--porcelain").splitlines() == ["A  README.md", " M recipes/cy.yaml"]


def test_pushed_it_stands_on_the_newest_revision_and_the_runner_applies_it(fleet: World) -> None:
    fleet.once()
    said = fleet.run("agent", "limit", "ada", "4", "--push", "main", check=0).stdout
    assert "limit 2 → 4" in said
    fleet.once()
    agent = fleet.agent("ada")
    assert agent is not None
    assert agent["limit"] == 4
    assert fleet.git("status", "--porcelain") == "", "a person's clone is their own"
    fleet.run("agent", "limit", "ada", "9", "--push", "try/more", check=0)
    fleet.once()
    assert fleet.agent("ada") == agent, "another branch is no revision of ours"
    fleet.git("fetch", "-q")
    assert "limit: 9" in fleet.git("show", "origin/try/more:pools/dev.yaml")


def test_rollback_returns_the_whole_content_of_a_revision(fleet: World) -> None:
    first = fleet.git("rev-parse", "HEAD")
    fleet.recipes("dot")
    fleet.push("second", qa=pool("qa", "cy", "dot"))
    fleet.push("third", dev=None)
    said = here(fleet, "rollback", first).stdout
    assert "removed from pool qa" in said
    assert fleet.git("diff", first, "HEAD", "--stat") == ""
    assert fleet.git("log", "-1", "--format=%s") == f"Roll back to {first[:12]}"
    assert here(fleet, "rollback", "HEAD").stdout == "nothing to change\n"
    fleet.file("pools/qa.yaml", pool("qa", "cy") + "# mine\n")
    refused = here(fleet, "rollback", "HEAD~1", check=2).stderr
    assert "commit or stash them first" in refused
    assert "# mine" in read(fleet, "pools/qa.yaml")


def test_rollback_pushed_is_what_the_runner_applies(fleet: World) -> None:
    fleet.once()
    before = fleet.agent("ada")
    fleet.push("smaller", dev=DEV.replace("limit: 2", "limit: 0"))
    fleet.once()
    fleet.run("rollback", "--push", "main", check=0)
    fleet.once()
    assert fleet.agent("ada") == before


def test_a_pull_request_is_opened_with_the_plan_as_its_text(fleet: World) -> None:
    server = GitHubServer(TOKEN)
    server.branches.add("tsched/remove-agent-ben")
    try:
        address = "https://forge.example/acme/fleet.git"
        (fleet.root / ".gitconfig").write_text(f'[url "{fleet.remote}"]\n\tinsteadOf = {address}\n')
        fleet.environ |= {
            "TSCHED_REPO": address, "TSCHED_FORGE": "github", "TSCHED_FORGE_API": server.api,
            "TSCHED_FORGE_TOKEN": TOKEN,
        }  # fmt: skip
        said = fleet.run("agent", "remove", "ben", "--pr", check=0)
        (opened,) = server.asked("POST")
        body = opened.json()
        assert (body["head"], body["base"], body["title"]) == ("tsched/remove-agent-ben", "main", "Remove agent ben")
        assert "| agent.removed | agent/ben |" in str(body["body"])
        assert said.stdout.splitlines()[-1].startswith("https://")
        assert TOKEN not in said.stdout + said.stderr
        fleet.git("fetch", "-q", str(fleet.remote), "tsched/remove-agent-ben")
        assert "ben" not in fleet.git("show", "FETCH_HEAD:pools/dev.yaml")
    finally:
        server.close()


def test_fmt_mends_and_validate_config_does_too(fleet: World) -> None:
    untidy = DEV.replace("# yaml-language-server: $schema=../schemas/pool.schema.json\n", "").replace(
        "kind: Pool\nname: dev\n", "name: dev   \nkind: Pool\n"
    )
    fleet.file("pools/dev.yaml", untidy)
    before = os.stat(fleet.clone / "pools/dev.yaml").st_mode
    checked = here(fleet, "fmt", "--check", check=1).stdout
    assert "pools/dev.yaml: " in checked
    assert read(fleet, "pools/dev.yaml") == untidy
    here(fleet, "validate", "--fix")
    assert read(fleet, "pools/dev.yaml") == DEV
    assert os.stat(fleet.clone / "pools/dev.yaml").st_mode == before
    fleet.file("pools/dev.yaml", untidy)
    here(fleet, "validate-config", "--fix", check=None)
    assert read(fleet, "pools/dev.yaml") == DEV
    assert json.loads(here(fleet, "validate", "--json").stdout) == []


def test_nothing_is_left_behind_in_temporary_folders(fleet: World, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    fleet.run("agent", "limit", "ada", "4", "--push", "main", check=0, TMPDIR=str(temporary))
    assert list(temporary.iterdir()) == []
