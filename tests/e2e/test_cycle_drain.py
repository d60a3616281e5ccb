"""A removed agent drains, then is deleted; and the way back."""

import signal

import pytest

from tests.e2e.world import World, alive, pool, until


def test_removed_while_busy_it_drains_and_is_deleted_and_its_waiting_task_goes_back(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben"))
    with world.daemon():
        held = world.add("hold", "--assign", "ada")
        lease = world.wait_running(held)
        waiting = world.add("quick, but ada's", "--assign", "ada")
        world.push(dev=pool("dev", "ben"))
        until(lambda: world.state_of("ada") == "draining", "ada drains")
        ada = world.agent("ada")
        assert ada is not None
        assert ada["running"] == 1
        assert ada["drain"]["on_deadline"] == "requeue"
        for title in ("quick 1", "quick 2"):
            assert world.wait_status(world.add(title), "complete")["assigned_to"] == "ben"
        assert world.running(held) == lease, "the run was touched"
        world.open(held)
        until(lambda: world.agent("ada") is None, "ada is deleted")
        assert world.task(held)["status"] == "complete"
        done = world.wait_status(waiting, "complete")
        assert [run["agent"] for run in done["runs"]] == ["ben"], "ada took it while she drained"
        world.settled()
    kinds = [event["kind"] for event in world.events("agent.") if event["subject"] == "agent/ada"]
    assert kinds == ["agent.cordoned", "agent.draining", "agent.drained", "agent.deleted"]


def test_a_revert_during_the_drain_leaves_its_run_alone(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", extra="drain: {deadline: 1h}\n"), qa=pool("qa", "ben", "cy"))
    with world.daemon():
        held = world.add("hold")
        before = world.wait_running(held)
        removal = world.push(dev=pool("dev"))
        until(lambda: world.state_of("ada") == "draining", "ada drains")
        world.revert(removal)
        until(lambda: world.state_of("ada") == "active", "ada is active again")
        assert world.running(held) == before
        assert not list((world.state / "runs").glob("*/stop")), "its stop request is left"
        world.open(held)
        world.wait_status(held, "complete")
        assert world.outcomes(held) == ["complete"]


@pytest.mark.parametrize(
    ("policy", "status", "outcome"),
    [("requeue", "complete", "interrupted"), ("fail", "parked", "failed")],
)
def test_the_deadline_stops_its_run(world: World, policy: str, status: str, outcome: str) -> None:
    drain = f"drain: {{deadline: 1s, on_deadline: {policy}}}\n"
    world.fleet(dev=pool("dev", "ada", extra=drain), qa=pool("qa", "ben", "cy"))
    with world.daemon():
        held = world.add("hold")
        pid = world.wait_running(held)["agent_pid"]
        world.push(dev=pool("dev", "cy"), qa=pool("qa", "ben"))
        until(lambda: world.agent("ada") is None, "ada is deleted")
        assert not alive(pid)
        if policy == "requeue":  # it goes back, and the next agent does it
            again = world.wait_running(held)
            assert (again["agent"], again["attempt"]) == ("cy", 1), "the drain was charged to the task"
            world.open(held)
        world.wait_status(held, status)
        assert world.outcomes(held)[:1] == [outcome]
        world.settled()


def test_with_wait_the_deadline_stops_nothing(world: World) -> None:
    drain = "drain: {deadline: 100ms, on_deadline: wait}\n"
    world.fleet(dev=pool("dev", "ada", extra=drain), qa=pool("qa", "ben", "cy"))
    with world.daemon():
        held = world.add("hold")
        lease = world.wait_running(held)
        world.push(dev=pool("dev"))
        until(lambda: world.state_of("ada") == "draining", "ada drains")
        marker = world.add("quick", queue="qa")
        world.wait_status(marker, "complete")
        assert world.running(held) == lease
        world.open(held)
        world.wait_status(held, "complete")
        until(lambda: world.agent("ada") is None, "ada is deleted")


def test_the_deadline_holds_with_the_runner_down(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", extra="drain: {deadline: 6s}\n"), qa=pool("qa", "ben", "cy"))
    with world.daemon():
        held = world.add("stubborn")
        pid = world.wait_running(held)["agent_pid"]
        world.push(dev=pool("dev"))
        until(lambda: world.events("agent.draining"), "ada drains")
    until(lambda: not alive(pid), "the run is stopped by its own shim")
    until(lambda: not world.leases(), "the lease is gone")
    assert world.task(held)["status"] == "working", "nobody was there to tell the queue"
    world.once()
    shown = world.task(held)
    assert (shown["status"], shown["assigned_to"]) == ("idle", None)
    assert world.outcomes(held) == ["interrupted"]
    assert world.agent("ada") is None


def test_a_removed_pool_drains_whole(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"), qa=pool("qa", "ben", "cy"))
    with world.daemon():
        held = world.add("hold")
        world.wait_running(held)
        world.push(dev=None)
        until(lambda: world.state_of("ada", "dev") == "draining", "ada drains in a pool that is no more")
        world.open(held)
        until(lambda: all(one["name"] != "dev" for one in world.status()["pools"]), "the pool is gone")


def test_moved_it_drains_in_the_old_queue_and_works_in_the_new_within_its_limit(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", limit=2), qa=pool("qa", "ben"))
    with world.daemon():
        held = world.add("hold")
        world.wait_running(held)
        world.push(dev=pool("dev", "cy"), qa=pool("qa", "ada", "ben, limit: 0", limit=2))
        until(lambda: world.state_of("ada", "qa") == "active", "ada works in qa")
        assert world.state_of("ada", "dev") == "draining"
        first, second = (world.add(f"hold {n}", queue="qa") for n in (1, 2))
        world.wait_running(first)
        marker = world.add("quick", queue="dev")
        world.wait_status(marker, "complete")
        assert world.running(second) is None, "one run in dev and one in qa fill its limit of 2"
        world.open(held)
        until(lambda: world.state_of("ada", "dev") is None, "its drain has ended")
        world.wait_running(second)
        world.open(first, second)
        world.wait_status(second, "complete")


def test_mass_removal_is_held_until_the_trailer_allows_it(world: World) -> None:
    first = world.fleet(dev=pool("dev", "ada", "ben", "cy"))
    world.once()
    tip = world.push(dev=pool("dev", "ada"))
    world.once()
    held = world.status()["revision"]["held"]
    assert held["revision"] == tip
    assert "removes 2 of 3 agents" in held["reason"]
    assert (world.applied(), world.state_of("cy")) == (first, "active")
    allowed = world.push("I mean it\n\nTsched-Allow-Removal: yes")
    world.once()
    assert world.applied() == allowed
    assert world.status()["revision"]["held"] is None
    assert world.agent("cy") is None


def test_mass_removal_is_held_until_an_operator_accepts_it(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben", "cy"))
    world.once()
    tip = world.push(dev=pool("dev"))
    world.once()
    refused = world.run("accept", "0" * 40, check=2)
    assert "is not the held revision" in refused.stderr
    world.run("accept", tip[:10], check=0)
    assert world.applied() == tip
    assert world.agent("ada") is None
    assert "nothing to accept" in world.run("accept", tip, check=2).stderr


def test_exactly_half_passes_and_a_trailer_on_other_pools_does_not_count(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben"))
    world.once()
    world.push(dev=pool("dev", "ada"))
    world.once()
    assert world.agent("ben") is None
    world.push("an old yes\n\nTsched-Allow-Removal: yes", dev=pool("dev", "ada", "cy"))
    world.push(dev=pool("dev"))
    world.once()
    assert world.status()["revision"]["held"] is not None
    assert world.state_of("ada") == "active"


def test_an_emptied_repo_is_held_and_drains_nobody(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    world.push(dev=None, limits=None)
    world.once()
    assert world.status()["revision"]["held"] is not None
    assert world.state_of("ada") == "active"


def test_stopped_while_stopping_it_starts_anew_after_that(world: World) -> None:
    """Added again too late: the stop under way finishes, then the agent works again."""
    drain = "drain: {deadline: 100ms}\n"
    limits = (world.clone / "pools/limits.yaml", "stop_grace: 500ms", "stop_grace: 8s")
    world.fleet(dev=pool("dev", "ada", extra=drain), qa=pool("qa", "ben", "cy"))
    world.push(limits=limits[0].read_text().replace(limits[1], limits[2]))
    with world.daemon():
        held = world.add("stubborn")
        pid = world.wait_running(held)["agent_pid"]
        removal = world.push(dev=pool("dev"))
        until(lambda: world.state_of("ada") == "stopping", "ada's run is being stopped")
        world.revert(removal)
        until(lambda: not alive(pid), "the stop finished")
        until(lambda: world.state_of("ada") == "active", "ada is back")
        world.open(held)
        world.wait_status(held, "complete")
        assert world.outcomes(held) == ["interrupted", "complete"]


def test_sigterm_of_the_runner_leaves_the_drain_to_the_next_one(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"), qa=pool("qa", "ben", "cy"))
    with world.daemon() as process:
        held = world.add("hold")
        world.wait_running(held)
        world.push(dev=pool("dev"))
        until(lambda: world.state_of("ada") == "draining", "ada drains")
        since = (world.agent("ada") or {})["drain"]["since"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    world.once()
    assert (world.agent("ada") or {})["drain"]["since"] == since
    world.open(held)
    until(lambda: not world.leases(), "the run ended with no runner there")
    world.once()
    assert world.agent("ada") is None
    assert world.task(held)["status"] == "complete"


def test_narrowing_the_runners_pools_drains_and_hands_nothing_back(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"), qa=pool("qa", "ben"), docs=pool("docs", "cy"))
    held = world.add("hold")
    world.once()
    waiting = world.add("quick", "--assign", "ada")
    world.environ["TSCHED_POOLS"] = "qa,docs"
    world.once()
    assert world.state_of("ada") == "draining"
    generation = world.status()["generation"]
    world.open(held)
    until(lambda: not world.leases(), "the run ended")
    world.once()
    assert world.agent("ada") is None
    assert world.task(held)["status"] == "complete"
    shown = world.task(waiting)
    assert (shown["status"], shown["assigned_to"]) == ("idle", "ada"), "ada is in the fleet: another runner serves it"
    assert world.status()["generation"] == generation, "nothing new was adopted"
    del world.environ["TSCHED_POOLS"]
    world.once()
    assert world.state_of("ada") == "active"


def test_narrowing_to_less_than_half_is_held_by_the_guard(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben"), qa=pool("qa", "cy"))
    world.once()
    world.environ["TSCHED_POOLS"] = "qa"
    world.once()
    assert world.status()["revision"]["held"] is not None
    assert world.state_of("ada") == "active"
    served = world.add("quick")
    world.once()
    until(lambda: not world.leases(), "its run ended")
    world.once()
    assert world.task(served)["status"] == "complete", "what is held changes nothing"


def test_a_misspelt_pool_of_the_runners_is_named(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.environ["TSCHED_POOLS"] = "dve"
    log = world.once()
    assert "WARNING - TSCHED_POOLS names 'dve', but the applied fleet's pools are dev" in log


def test_a_held_revision_that_is_taken_back_leaves_no_trace(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben", "cy"))
    with world.daemon():
        held = world.add("hold")
        lease = world.wait_running(held)
        removal = world.push(dev=None)
        until(lambda: world.status()["revision"]["held"], "the removal of all is held")
        assert world.condition("Held")["status"] == "True"
        assert (world.running(held), world.events("agent.")) == (lease, [])
        back = world.revert(removal)
        until(lambda: world.applied() == back, "the revert is applied")
        assert world.status()["revision"]["held"] is None
        assert world.condition("Held")["status"] == "False"
        assert (world.running(held), world.events("agent.")) == (lease, [])
        world.open(held)
        world.wait_status(held, "complete")
    assert len(world.events("revision.held")) == 1, "told once, not each pass"


def test_accept_speaks_of_one_revision_alone(world: World) -> None:
    """What comes after the accepted revision is held again."""
    first = world.fleet(dev=pool("dev", "ada", "ben", "cy"))
    world.once()
    world.push(dev=pool("dev", "ada"))
    world.once()
    seen = world.status()["revision"]["held"]["revision"]
    worse = world.push(dev=pool("dev"))
    world.run("accept", seen)
    status = world.status()["revision"]
    assert (status["applied"], status["held"]["revision"]) == (first, worse)
    assert world.state_of("ada") == "active"
    assert world.run("accept", seen, check=2).stderr.strip().endswith(f"which is {worse[:12]}")
