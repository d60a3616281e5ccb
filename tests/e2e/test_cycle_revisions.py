"""Commits become the running fleet; bad ones do not; a remote in trouble changes nothing."""

import json
import shutil
import subprocess

import pytest

from tests.e2e.world import RECIPE, World, pool, until
from tests.integration.forge_server import GitHubServer


def test_an_added_agent_gets_work(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    tip = world.push(dev=pool("dev", "ada, limit: 0", "ben"))
    with world.daemon():
        done = world.wait_status(world.add("quick"), "complete")
    assert done["assigned_to"] == "ben"
    assert done["runs"][0]["revision"] == tip


def test_a_raised_limit_takes_effect(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    first, second = world.add("hold 1"), world.add("hold 2")
    with world.daemon():
        world.wait_running(first)
        assert world.running(second) is None
        world.push(dev=pool("dev", "ada", limit=2))
        world.wait_running(second)
        world.open(first, second)
        world.wait_status(second, "complete")


def test_a_lowered_limit_stops_nothing_and_starts_nothing(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", limit=2))
    first, second = world.add("hold 1"), world.add("hold 2")
    with world.daemon():
        leases = [world.wait_running(task) for task in (first, second)]
        world.push(dev=pool("dev", "ada", limit=1))
        until(lambda: world.condition("OverLimit")["status"] == "True", "it is over its limit")
        third = world.add("quick")
        assert [world.running(task) for task in (first, second)] == leases
        world.open(first)
        world.wait_status(first, "complete")
        until(lambda: world.condition("OverLimit")["status"] == "False", "it is within its limit")
        assert world.task(third)["status"] == "idle"
        world.open(second)
        world.wait_status(third, "complete")


def test_a_recipe_change_reaches_the_next_run_alone(world: World) -> None:
    old = world.fleet(dev=pool("dev", "ada"))
    with world.daemon():
        held = world.add("hold")
        run = world.wait_running(held)
        pinned = world.state / "runs" / run["run_id"] / "recipe"
        world.recipes("ada", text=RECIPE.replace("Do it.", "Do it well."))
        new = world.push()
        until(lambda: world.applied() == new, "the new recipe is applied")
        assert [file.read_text() for file in pinned.rglob("ada.yaml")] == [RECIPE]
        world.open(held)
        world.wait_status(held, "complete")
        following = world.add("quick")
        world.wait_status(following, "complete")
    logs = world.state / "logs/runs"
    assert "Do it." in (logs / f"{run['run_id']}.log").read_text()
    assert "Do it well." in (logs / f"{world.task(following)['runs'][0]['run_id']}.log").read_text()
    assert [world.task(task)["runs"][0]["revision"] for task in (held, following)] == [old, new]


def test_a_bad_revision_is_rejected_whole_and_remembered_and_a_good_one_follows(world: World) -> None:
    good = world.fleet(dev=pool("dev", "ada"))
    world.once()
    bad = world.push(dev=pool("dev", "ada, limt: 2", "ben"))
    out = world.once(check=1)
    assert "ERROR - Revision" in out
    status = world.status()
    (found,) = status["revision"]["rejected"]["diagnostics"]
    assert (found["path"], found["line"], found["code"]) == ("pools/dev.yaml", 7, "TS201")
    assert (status["revision"]["rejected"]["revision"], status["revision"]["applied"]) == (bad, good)
    assert status["revision"]["fetched"] == bad
    assert world.agent("ben") is None
    task = world.add("quick")
    with world.daemon():
        assert world.wait_status(task, "complete")["runs"][0]["revision"] == good
    assert len(world.events("revision.rejected")) == 1, "it was checked and told again"
    fixed = world.push(dev=pool("dev", "ada", "ben"))
    world.once()
    assert (world.applied(), world.status()["revision"]["rejected"]) == (fixed, None)
    assert world.condition("Ready")["status"] == "True"


def test_a_remote_that_is_gone_keeps_the_fleet_and_the_work_going(world: World) -> None:
    tip = world.fleet(dev=pool("dev", "ada"))
    world.once()
    shutil.move(world.remote, world.root / "elsewhere")
    with world.daemon():
        world.wait_status(world.add("quick"), "complete")
        failed = world.condition("FetchFailed")
        assert (failed["status"], world.applied()) == ("True", tip)
        assert world.state_of("ada") == "active"
        shutil.move(world.root / "elsewhere", world.remote)
        until(lambda: world.condition("Ready")["status"] == "True", "the remote is back")


def test_a_deleted_branch_is_named_and_changes_nothing(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    world.git("push", "-q", "origin", "HEAD:refs/heads/other")
    world.git(f"--git-dir={world.remote}", "update-ref", "-d", "refs/heads/main")
    assert "has no branch main (it has other)" in world.once(check=1)
    assert world.state_of("ada") == "active"


def test_an_empty_remote_is_named(world: World) -> None:
    assert "holds no commit" in world.once(check=1)
    assert world.status()["pools"] == []


def test_rewritten_history_is_held_until_accepted(world: World) -> None:
    first = world.fleet(dev=pool("dev", "ada"))
    world.push(dev=pool("dev", "ada", "ben"))
    world.once()
    world.git("reset", "-q", "--hard", first)
    tip = world.push("another way", dev=pool("dev", "ada", limit=3))
    world.once()
    held = world.status()["revision"]["held"]
    assert held["revision"] == tip
    assert "history was rewritten" in held["reason"]
    assert world.state_of("ben") == "active"
    world.run("accept", tip, check=0)
    assert world.applied() == tip


def test_going_back_to_an_earlier_commit_by_force_is_a_rewrite_too(world: World) -> None:
    first = world.fleet(dev=pool("dev", "ada"))
    second = world.push(dev=pool("dev", "ada", "ben"))
    world.once()
    world.git("push", "-q", "--force", "origin", f"{first}:refs/heads/main")
    world.once()
    assert world.status()["revision"]["held"]["revision"] == first
    assert world.applied() == second


def test_plan_and_diff_tell_what_a_revision_does(world: World) -> None:
    first = world.fleet(dev=pool("dev", "ada", "ben"))
    with world.daemon():
        held = world.add("hold", "--assign", "ada")
        world.wait_running(held)
    world.push(dev=pool("dev", "ben, limit: 4"))
    plan = world.run("plan", check=0).stdout
    assert "agent/ada" in plan
    assert "drains: 1 run goes on for at most 1h, then its task requeued" in plan
    assert "limit 1 → 4" in plan
    markdown = world.run("diff", first, "main", "--format", "markdown", check=0).stdout
    assert markdown.startswith("| change | subject | what | consequence |")
    assert "| agent.removed | agent/ada |" in markdown
    assert world.run("plan", first, check=0).stdout.strip() == "no change"
    as_json = json.loads(world.run("diff", first, "main", "--json", check=0).stdout)
    assert [one["kind"] for one in as_json["changes"]] == ["agent.removed", "agent.changed", "recipe.removed"]
    assert (as_json["removed_agents"], as_json["held"]) == (["ada"], None)
    assert "names no commit" in world.run("diff", "nope", "main", check=2).stderr
    world.open(held)
    until(lambda: not world.leases(), "the run ended")


def test_every_name_of_a_pool_can_change_at_once(world: World) -> None:
    """A rename of a pool is a relabel: nothing drains."""
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon():
        held = world.add("hold")
        lease = world.wait_running(held)
        world.push(dev=None, build=pool("build", "ada", extra="queue: dev\n"))
        until(lambda: [one["name"] for one in world.status()["pools"]] == ["build"], "the pool has its new name")
        assert (world.state_of("ada"), world.running(held)) == ("active", lease)
        world.open(held)
        world.wait_status(held, "complete")


def test_a_bad_revision_is_rolled_back_by_git_revert(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon():
        held = world.add("hold")
        lease = world.wait_running(held)
        bad = world.push(dev="agents: [\n")
        until(lambda: world.status()["revision"]["rejected"], "the rejection")
        assert world.condition("Valid")["status"] == "False"
        back = world.revert(bad)
        until(lambda: world.applied() == back, "the revert is applied")
        assert world.status()["revision"]["rejected"] is None
        assert world.condition("Valid")["status"] == "True"
        assert world.running(held) == lease
        world.open(held)
        world.wait_status(held, "complete")


def test_a_branch_that_comes_back_is_followed_again(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with world.daemon():
        held = world.add("hold")
        lease = world.wait_running(held)
        world.git(f"--git-dir={world.remote}", "update-ref", "-d", "refs/heads/main")
        until(lambda: world.condition("FetchFailed")["status"] == "True", "the branch is missed")
        world.wait_status(world.add("quick", "--assign", "ben"), "idle")
        assert (world.state_of("ada"), world.running(held)) == ("active", lease)
        tip = world.push(dev=pool("dev", "ada", "ben"))
        until(lambda: world.applied() == tip, "the branch is followed again")
        until(lambda: world.condition("FetchFailed")["status"] == "False", "all is well")
        world.open(held)
        world.wait_status(held, "complete")


@pytest.mark.parametrize("trouble", ["emptied", "corrupt", "another"])
def test_a_remote_replaced_under_a_busy_fleet_drains_nobody(world: World, trouble: str) -> None:
    tip = world.fleet(dev=pool("dev", "ada"))
    held = world.add("hold")
    world.once()
    lease = world.wait_running(held)
    match trouble:
        case "emptied":
            shutil.rmtree(world.remote)
            world.git("init", "-q", "--bare", "-b", "main", str(world.remote))
            world.once(check=1)
            assert "holds no commit" in world.condition("FetchFailed")["message"]
        case "corrupt":
            world.push(dev=pool("dev", "ben"))
            shutil.rmtree(world.remote / "objects")
            (world.remote / "objects").mkdir()
            world.once(check=1)
            assert world.condition("FetchFailed")["status"] == "True"
        case "another":
            world.git("checkout", "-q", "--orphan", "unrelated")
            other = world.push("another repo", dev=pool("dev", "ben"))
            world.once()
            assert world.status()["revision"]["held"]["revision"] == other
    assert (world.applied(), world.state_of("ada"), world.events("agent.")) == (tip, "active", [])
    assert world.running(held) == lease
    world.open(held)
    until(lambda: not world.leases(), "the run ended")
    world.once(check=0 if trouble == "another" else 1)
    assert world.task(held)["status"] == "complete"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen (openssh-client) is not installed")
def test_an_unsigned_revision_is_held_and_nothing_but_a_signature_mends_it(world: World) -> None:
    key = world.root / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    signers = world.root / "signers"
    signers.write_text(f"op@example.org {key.with_suffix('.pub').read_text()}")
    world.environ["TSCHED_ALLOWED_SIGNERS"] = str(signers)
    for setting in ("gpg.format=ssh", f"user.signingkey={key}"):
        world.git("config", *setting.split("=", 1))
    unsigned = world.fleet(dev=pool("dev", "ada"))
    world.once()
    held = world.status()["revision"]["held"]
    assert held["revision"] == unsigned
    assert "is not signed by anyone in" in held["reason"]
    assert world.condition("Verified")["status"] == "False"
    refused = world.run("accept", unsigned, check=2).stderr
    assert "it is its signature that holds it" in refused
    world.once()
    assert world.applied() is None
    world.git("config", "commit.gpgsign", "true")
    signed = world.push("signed")
    world.once()
    assert world.applied() == signed
    world.once()  # what was found out is still known where nothing is new
    verified = world.condition("Verified")
    assert verified["status"] == "True"
    assert verified["message"].startswith("the newest commit is signed by op@example.org (ED25519 key SHA256:")
    assert "signed by op@example.org (ED25519 key" in world.events("revision.applied")[-1]["message"]


def test_the_forge_is_told_once_what_became_of_each_revision(world: World) -> None:
    token = "ghp_canary0123456789"
    server = GitHubServer(token)
    try:
        address = "https://forge.example/acme/fleet.git"
        (world.root / ".gitconfig").write_text(f'[url "{world.remote}"]\n\tinsteadOf = {address}\n')
        world.environ |= {
            "TSCHED_REPO": address, "TSCHED_FORGE": "github", "TSCHED_FORGE_API": server.api,
            "TSCHED_STATUS_TOKEN": token,
        }  # fmt: skip

        def told(revision: str) -> list[tuple[object, str]]:
            return [
                (one["state"], str(one["description"])) for one in server.statuses if one["sha"] == revision
            ]  # fmt: skip

        good = world.fleet(dev=pool("dev", "ada", "ben", "cy"))
        server.revisions.add(good)
        log = world.once() + world.once()
        assert told(good) == [("success", "Applied, generation 1")]
        bad = world.push(dev="nonsense: [")
        server.revisions.add(bad)
        log += world.once(check=1) + world.once(check=1)
        ((state, words),) = told(bad)
        assert state == "failure"
        assert words.startswith("Rejected: pools/dev.yaml:")
        held = world.push(dev=pool("dev", "ada"))
        server.revisions.add(held)
        log += world.once() + world.once()
        ((state, words),) = told(held)
        assert state == "pending"
        assert words.startswith("Held: it removes 2 of 3 agents")
        unknown = world.push("mended", dev=pool("dev", "ada", "ben", "cy"))
        log += world.once()
        assert f"WARNING - The commit status of {unknown[:12]} could not be sent" in log
        assert world.applied() == unknown, "the forge's answer decides nothing"
        assert token not in log + world.run("config", "--show", check=0).stdout
        assert {one["context"] for one in server.statuses} == {f"tsched/apply/{world.status()['runner']['host']}"}
    finally:
        server.close()
