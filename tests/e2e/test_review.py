"""The pull request as the control panel: what a reviewer is shown, and merges that are bound to it."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from tests.e2e.world import RECIPE, World, pool, until

TOOLS = RECIPE + "extensions:\n  - {type: stdio, name: x, cmd: uvx, args: [thing], env_keys: [KEY]}\n"


@contextmanager
def serving(status: str) -> Iterator[str]:
    """A runner's status over HTTP."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/api/v1/status"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(status.encode() if found else b"")

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def inside(world: World, *arguments: str, check: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program in the clone, as CI does: no runner's settings there."""
    settings = {name: value for name, value in world.environ.items() if not name.startswith("TSCHED_")}
    return world.run(*arguments, check=check, cwd=world.clone, only=settings)


def test_a_comment_tells_what_live_work_a_merge_touches(world: World) -> None:
    world.fleet(dev=pool("dev", "ada, limit: 2", "ben"), qa=pool("qa", "cy"))
    with world.daemon():
        held = world.add("hold", "--assign", "ada")
        world.wait_running(held)
    status = world.run("status", "--json", check=0).stdout
    world.git("checkout", "-q", "-b", "change")
    world.file("pools/dev.yaml", pool("dev", "ben"))
    world.file("pools/qa.yaml", None)
    world.git("add", "-A")
    world.git("commit", "-q", "-m", "smaller")
    (world.root / "status.json").write_text(status)
    with serving(status) as address:
        by_url = inside(world, "diff", "main", "change", "--format", "markdown", "--status", address, check=0).stdout
        file = str(world.root / "status.json")
        by_file = inside(world, "diff", "main", "HEAD", "--format", "markdown", "--status", file, check=0).stdout
        wrong = inside(world, "diff", "main", "change", "--status", f"{address}/else", check=2).stderr
    assert by_url == by_file
    assert "**Blast radius**: 2 agents to drain, 1 run held now" in by_url
    assert f"| ada | dev | {held} |" in by_url
    assert "| dev | 3 | 1 |\n| qa | 1 | not served |" in by_url
    assert "**Starvation**: nobody will serve the queue qa: pool qa is removed." in by_url
    assert "answers 404" in wrong
    world.open(held)
    until(lambda: not world.leases(), "the run ended")


def test_powers_gained_must_be_owned_up_to(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.recipes("ada", text=TOOLS)
    base = world.push("tools")
    arguments = ("diff", f"{base}~1", "HEAD", "--require-review", "widening")
    refused = inside(world, *arguments, check=1)
    assert "uvx thing" in refused.stdout
    assert "must say `Tsched-Reviewed: widening`" in refused.stderr
    shown = json.loads(inside(world, *arguments[:3], "--json", check=0).stdout)
    assert [one["what"] for one in shown["widened"]] == ["uvx thing", "x (stdio)", "KEY"]
    world.git("commit", "-q", "--amend", "-m", "tools\n\nTsched-Reviewed: widening")
    assert inside(world, *arguments, check=0).stderr == ""
    world.recipes("ada", text=TOOLS.replace("thing", "other"))
    world.git("commit", "-qam", "more")
    inside(world, *arguments, check=1)  # what was owned up to is another content


def test_a_merge_bound_to_its_plan_is_held_when_more_is_at_stake_by_now(world: World) -> None:
    world.fleet(dev=pool("dev", "ada, limit: 2", "ben", "cy"))
    world.once()
    world.file("pools/dev.yaml", pool("dev", "ben", "cy"))
    world.git("commit", "-qam", "without ada")
    plan = json.loads(inside(world, "diff", "HEAD~1", "HEAD", "--json", check=0).stdout)["digest"]
    assert plan.startswith("agents=1 runs=0 of=")
    first = world.add("hold", "--assign", "ada")
    world.once()
    world.wait_running(first)
    world.git("commit", "-q", "--amend", "-m", f"without ada\n\nTsched-Plan: {plan}")
    bound = world.push()
    world.once()
    held = world.status()["revision"]["held"]
    assert held["revision"] == bound
    assert held["reason"].startswith("the review saw 1 agent drain with 0 runs, now it is 1 with 1")
    assert world.state_of("ada") == "active"
    world.open(first)
    until(lambda: not world.leases(), "the run ended")
    world.once()
    world.once()
    assert world.applied() == bound, "as little is at stake as was reviewed"


def test_an_operator_may_accept_what_grew(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben", "cy"))
    world.once()
    grown = world.push("two\n\nTsched-Plan: agents=1 runs=0 of=abcdefabcdef", dev=pool("dev", "ada", "ben"))
    world.once()
    assert world.status()["revision"]["held"]["reason"].startswith("the review saw 1 agent drain with 0 runs")
    world.run("accept", grown, check=0)
    assert world.applied() == grown
