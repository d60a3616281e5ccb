"""The runner over GitHub issues: real passes, real agents, labels and comments as people see them."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.world import World, pool, until
from tests.integration.forge_server import Fault, Json
from tests.integration.github_server import Issue, IssuesServer

TOKEN = "ghp_s3cret"


@pytest.fixture
def server() -> Iterator[IssuesServer]:
    with closing(IssuesServer(TOKEN)) as one:
        yield one


@pytest.fixture
def world(tmp_path: Path, server: IssuesServer) -> World:
    one = World(tmp_path)
    one.environ |= {"TSCHED_TASKS": server.address, "TSCHED_TASKS_TOKEN": TOKEN}
    one.fleet(dev=pool("dev", "ada"))
    return one


def passes_until(world: World, issue: Issue, state: str, *labels: str) -> None:
    """Run passes until the issue is in that state and carries these labels of ours."""

    def seen() -> bool:
        world.run("run", "--once")
        ours = {one for one in issue.labels if one.startswith("tsched:")}
        return (issue.state, ours) == (state, set(labels))

    until(seen, f"issue {issue.number} is {state} with {labels}")


def test_issues_are_worked_in_order_and_closed(world: World, server: IssuesServer) -> None:
    first = server.add("queue:dev", "bug", title="quick one")
    second = server.add("queue:dev", title="quick two", body="Blocked by #1")
    passes_until(world, second, "closed")
    assert (first.state, first.state_reason, first.labels) == (
        "closed",
        "completed",
        ["queue:dev", "bug", "agent:ada"],
    )
    shown = world.run("task", "show", "1", check=0).stdout
    assert "quick one" in shown
    assert "ada takes this task." in shown
    assert world.outcomes("1") == ["complete"]
    asked = {one.headers["Authorization"] for one in server.seen}
    assert asked == {f"Bearer {TOKEN}"}
    for file in world.state.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), f"the token stands in {file}"


def test_an_issue_that_keeps_failing_is_parked_and_says_why(world: World, server: IssuesServer) -> None:
    issue = server.add("queue:dev", title="fail")
    passes_until(world, issue, "open", "tsched:parked")
    said = "\n".join(str(one["body"]) for one in issue.comments)
    assert said.count("<!-- tsched-claim") == 2
    assert "cannot do it" in said
    assert "to put it back, take the label tsched:parked off" in said


def test_a_complete_run_may_leave_its_issue_for_review(world: World, server: IssuesServer) -> None:
    world.environ["TSCHED_GITHUB_ON_COMPLETE"] = "review"
    issue = server.add("queue:dev", title="quick")
    passes_until(world, issue, "open", "tsched:review")
    assert world.outcomes("1") == ["complete"]


def test_an_issue_closed_as_not_planned_stops_its_run(world: World, server: IssuesServer) -> None:
    issue = server.add("queue:dev", title="hold")
    passes_until(world, issue, "open", "tsched:working")
    issue.state, issue.state_reason = "closed", "not_planned"
    passes_until(world, issue, "closed")

    def stopped() -> bool:
        world.run("run", "--once")
        return world.outcomes("1") == ["cancelled"]

    until(stopped, "the run is stopped")


def test_a_result_waits_while_github_takes_no_calls(world: World, server: IssuesServer) -> None:
    issue = server.add("queue:dev", title="hold")
    passes_until(world, issue, "open", "tsched:working")
    server.faults = [
        Fault(method="GET", path="issues", status=403, headers={"x-ratelimit-remaining": "0"}, times=10**6)
    ]
    (world.gates / "1").touch()

    def said() -> bool:
        done = world.run("run", "--once", check=1)
        assert "takes no more calls" in done.stdout
        return "results of 1 run wait for it" in done.stdout

    until(said, "the run's result waits")
    server.faults = []
    passes_until(world, issue, "closed")
    assert world.outcomes("1") == ["complete"]


def test_without_a_token_it_says_so_and_does_nothing(world: World, server: IssuesServer) -> None:
    del world.environ["TSCHED_TASKS_TOKEN"]
    done = world.run("run", "--once", check=2)
    assert "no token for acme/app: set TSCHED_TASKS_TOKEN" in done.stderr
    assert server.seen == []


def test_a_claim_that_was_broken_off_counts_as_no_attempt_and_no_success(world: World, server: IssuesServer) -> None:
    issue = server.add("queue:dev", title="fail")
    say = server.say

    def breaking(number: int, body: str, user: Json, association: str = "NONE") -> None:
        say(number, body, user, association)
        claims = sum("tsched-claim" in str(one["body"]) for one in issue.comments)
        if "tsched-claim" in body and claims == 2:
            server.faults = [Fault(method="PATCH", path="issues/1$", status=500)]

    server.say = breaking  # type: ignore[method-assign]
    with world.daemon():
        until(lambda: "tsched:parked" in issue.labels, "it is parked")
        until(lambda: not world.running("1"), "it is settled")
    assert world.outcomes("1") == ["failed", "interrupted", "failed"]


def test_what_is_refused_of_one_issue_holds_up_no_other(world: World, server: IssuesServer) -> None:
    issues = [server.add("queue:dev", title=f"hold {number}") for number in range(2)]
    world.push(dev=pool("dev", "ada", limit=2))
    passes_until(world, issues[1], "open", "tsched:working")
    passes_until(world, issues[0], "open", "tsched:working")
    server.faults = [Fault(method="PATCH", path="issues/1$", status=403, times=10**6)]
    world.open("1", "2")
    passes_until(world, issues[1], "closed")
    assert issues[0].state == "open"
    server.faults = []
    passes_until(world, issues[0], "closed")
    assert world.outcomes("1") == world.outcomes("2") == ["complete"]


def test_a_daemon_outlives_a_server_that_sends_elsewhere(world: World, server: IssuesServer) -> None:
    issue = server.add("queue:dev", title="hold")
    with world.daemon() as daemon:
        until(lambda: "tsched:working" in issue.labels, "it is worked on")
        elsewhere = {"location": "http://127.0.0.2/login"}
        server.faults = [Fault(method="GET", path="issues", status=302, headers=elsewhere, times=10**6)]
        world.open("1")
        until(lambda: "results of 1 run wait for it" in (world.root / "daemon.log").read_text(), "its result waits")
        server.faults = []
        until(lambda: issue.state == "closed", "it is delivered")
        assert daemon.poll() is None
