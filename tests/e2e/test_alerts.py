"""Alerts from a real runner to a real webhook, a real command and the log: told once, resolved, late but told."""

import json
import sqlite3
from contextlib import closing

from tests.e2e.webhook import webhook
from tests.e2e.world import LIMITS, World, pool, until


def limits(rules: str, notify: str) -> str:
    return f"{LIMITS}alerts:\n  rules: [{rules}]\n  notify: [{notify}]\n"


DEEP = "{type: depth, name: dev-deep, queue: dev, above: 1, severity: critical}"
HOOK = "{type: webhook, url_env: HOOK}"


def test_a_deep_queue_is_told_once_and_its_end_too(world: World) -> None:
    with webhook() as hook:
        world.environ["HOOK"] = hook.url
        world.fleet(dev=pool("dev", "ada"))
        world.push(limits=limits(DEEP, f"{HOOK}, {{type: webhook, url_env: HOOK, format: slack}}, {{type: log}}"))
        for title in ("hold it", "second <b>", "third"):
            world.add(title)
        world.once()
        world.once()
        generic, slack = hook.posted
        assert (generic["step"], generic["rule"], generic["severity"]) == ("fired", "dev-deep", "critical")
        assert generic["subject"] == "queue/dev"
        assert "2 tasks wait in queue dev" in generic["summary"]
        assert "2 tasks wait in queue dev" in slack["text"]
        (firing,) = [json.loads(line) for line in world.run("alerts", "--json", check=1).stdout.splitlines()]
        assert (firing["state"], firing["fingerprint"]) == ("firing", generic["fingerprint"])
        world.run("task", "cancel", "2", check=0)
        out = world.once()
        assert "ALERT resolved dev-deep, queue/dev" in out
        assert [one["step"] for one in hook.posted[2:] if "step" in one] == ["resolved"]
        assert world.run("alerts", check=0).stdout == ""
        assert [one["kind"] for one in world.events("alert.")] == ["alert.fired", "alert.resolved"]


def test_a_webhook_that_is_down_holds_nothing_up_and_is_told_later(world: World) -> None:
    with webhook() as hook:
        hook.answer = 503
        world.environ["HOOK"] = hook.url
        world.fleet(dev=pool("dev", "ada"))
        world.push(limits=limits(DEEP, HOOK))
        for title in ("hold it", "second", "third"):
            world.add(title)
        out = world.once(check=1)
        assert "the webhook HOOK is not told of an alert: it answers 503; again in 30 s" in out
        assert hook.url not in out + world.run("alerts", check=1).stdout, "its address is a secret"
        assert world.wait_running("1"), "work goes on all the same"
        hook.answer = 200
        world.once()
        assert hook.posted == [], "it is given time"
        with closing(sqlite3.connect(world.state / "tsched.db")) as db:
            db.execute("UPDATE outbox SET not_before = 0")
            db.commit()
        world.once()
        assert [one["step"] for one in hook.posted] == ["fired"]


def test_a_command_is_told_without_a_shell_and_without_our_secrets(world: World) -> None:
    script = world.root / "told.sh"
    script.write_text('#!/bin/sh\n{ cat; echo; env; echo "$1"; } > "$HOME/told"\n')
    script.chmod(0o700)
    world.environ |= {"TSCHED_WEBHOOK_SECRET": "canary", "FORGE_TOKEN": "canary", "TEAM": "core"}
    world.environ["TSCHED_PASS_ENV"] = "TEAM"
    world.fleet(dev=pool("dev", "ada"))
    world.push(limits=limits(DEEP, f'{{type: command, argv: ["{script}", "$(id)"]}}'))
    for title in ("hold it", "second", "third"):
        world.add(title)
    world.once()
    told = (world.root / "told").read_text()
    assert json.loads(told.splitlines()[0])["rule"] == "dev-deep"
    assert "TSCHED_ALERT_SEVERITY=critical" in told
    assert told.splitlines()[-1] == "$(id)"
    assert "canary" not in told
    assert "TEAM=core" in told


def test_what_only_the_runner_can_know_is_told(world: World) -> None:
    rules = (
        "{type: unserved, name: nobody}, {type: revision, name: refused}, {type: remote, name: silent},"
        "{type: errors, name: many, above: 1, window: 1h}, {type: no_assignment, name: nothing, passes: 2},"
        "{type: drain, name: late}"
    )
    world.fleet(dev=pool("dev", "ada"), qa=pool("qa", "ben", limit=0))
    world.push(limits=limits(rules, "{type: log}"))

    def firing() -> set[tuple[str, str]]:
        lines = world.run("alerts", "--json").stdout.splitlines()
        return {(one["rule"], one["subject"].partition("/")[0]) for one in map(json.loads, lines)}

    world.add("for nobody", queue="ops")
    world.once()
    shown = {
        one["name"]: one for one in map(json.loads, world.run("alerts", "--rules", "--json").stdout.splitlines())
    }
    assert {one["type"] for one in shown.values()} == {
        "unserved", "revision", "remote", "errors", "no_assignment", "drain",
    }, "as limits.yaml has them"  # fmt: skip
    assert (shown["many"]["window_seconds"], shown["nothing"]["passes"]) == (3600.0, 2)
    assert firing() == {("nobody", "queue")}
    world.add("no slot for it", queue="qa")
    world.once()
    world.once()
    assert ("nothing", "assignments") in firing()
    world.push(dev="apiVersion: tsched/v1\nkind: Pool\nname: dev\nagents: 7\n")
    world.once(check=1)
    world.remote.rename(world.root / "away.git")
    world.once(check=1)
    world.once(check=1)  # it has been silent since the pass before
    assert {("silent", "remote"), ("many", "errors")} <= firing()
    (world.root / "away.git").rename(world.remote)
    world.once(check=1)
    assert ("refused", "revision") in firing()
    assert ("silent", "remote") not in firing()
    world.add("hold it", "--assign", "ada")
    policy = "drain: {deadline: 1ms, on_deadline: wait}\n"
    world.push(dev=pool("dev", "ada", "cy", extra=policy), qa=None)
    world.once()
    world.wait_running("3")
    world.push(**{"message": "ada goes", "dev": pool("dev", "cy", extra=policy)})
    until(lambda: world.once() and ("late", "agent") in firing(), "the drain is past its deadline")


def test_what_an_operator_or_git_decided_and_what_others_serve_raise_nothing(world: World) -> None:
    rules = "{type: unserved, name: nobody}, {type: no_assignment, name: nothing, passes: 1}"
    world.fleet(
        dev=pool("dev", "ada"), qa=pool("qa", "ben", extra="suspend: true\n"), docs=pool("docs", "cy"),
    )  # fmt: skip
    world.push(limits=limits(rules, "{type: log}"))
    world.environ["TSCHED_POOLS"] = "dev,qa"
    world.once()
    world.run("stop", "--pool", "dev", check=0)
    for queue in ("dev", "qa", "docs"):
        world.add("it waits", queue=queue)
    world.once()
    assert world.run("alerts", check=0).stdout == ""
    world.add("for nobody", queue="ops")
    world.once()
    (alert,) = [json.loads(line) for line in world.run("alerts", "--json", check=1).stdout.splitlines()]
    assert (alert["rule"], alert["subject"]) == ("nobody", "queue/ops")
