"""The runner over GitHub issues: real passes, real agents, labels and comments as people see them."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.world import World, pool, until
from tests.integration.forge_server import Fault
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
