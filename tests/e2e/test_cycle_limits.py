"""Who gets which task: caps, suspension, floors and blocking, one pass at a time."""

from datetime import UTC, datetime, timedelta

from tests.e2e.world import LIMITS, World, pool, until


def started(world: World) -> set[str]:
    """Ids of the tasks that are being worked on."""
    return {run["task_id"] for run in world.status()["runs"]}


def hold(world: World, number: int, *flags: str, queue: str = "dev") -> list[str]:
    return [world.add(f"hold {one}", *flags, queue=queue) for one in range(number)]


def test_a_pools_cap(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben", limit=3, extra="max_running: 2\n"))
    hold(world, 4)
    world.once()
    world.once()
    assert started(world) == {"1", "2"}


def test_the_fleets_cap_over_two_pools(world: World) -> None:
    limits = LIMITS + "max_running: 3\n"
    world.fleet(dev=pool("dev", "ada", limit=3), qa=pool("qa", "ben", limit=3), limits=limits)
    hold(world, 2)
    hold(world, 2, queue="qa")
    world.once()
    assert started(world) == {"1", "2", "3"}
    world.push(limits=LIMITS + "max_running: 0\n")
    world.once()
    assert len(started(world)) == 3, "a cap of 0 stops starts, not runs"


def test_a_fleets_cap_of_nought_starts_nothing_until_it_is_raised(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", limit=3), limits=LIMITS + "max_running: 0\n")
    hold(world, 2)
    world.once()
    assert started(world) == set()
    world.push(limits=LIMITS + "max_running: 1\n")
    world.once()
    assert started(world) == {"1"}


def test_starts_a_cycle(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", limit=5), limits=LIMITS + "spawn_per_cycle: 2\n")
    hold(world, 5)
    for expected in (2, 4, 5):
        world.once()
        assert len(started(world)) == expected


def test_a_suspended_pool_takes_no_new_task_and_leaves_runs_alone(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", limit=2))
    hold(world, 1)
    world.once()
    world.push(dev=pool("dev", "ada", limit=2, extra="suspend: {reason: holiday}\n"))
    hold(world, 1)
    world.once()
    assert started(world) == {"1"}
    assert world.state_of("ada") == "suspended"
    assert world.condition("Suspended")["status"] == "True"
    world.push(dev=pool("dev", "ada", limit=2, extra="suspend: {until: '2020-01-01T00:00:00Z'}\n"))
    world.once()
    assert started(world) == {"1", "2"}, "a suspension whose time has passed ends by itself"
    assert world.state_of("ada") == "active"


def test_removing_a_suspended_agent_still_deletes_it(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben", extra="suspend: true\n"))
    world.once()
    world.push(dev=pool("dev", "ada", extra="suspend: true\n"))
    world.once()
    assert world.agent("ben") is None


def test_a_floor(world: World) -> None:
    world.fleet(dev=pool("dev", "ada, priority_floor: 5", limit=3))
    world.add("hold")
    world.add("hold", "--priority", "5")
    world.once()
    assert started(world) == {"2"}


def test_blocked_tasks_wait_and_blockers_of_most_go_first(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.add("hold, important", "--priority", "9")
    world.add("hold, a blocker")
    for _ in range(2):
        world.add("hold, blocked", "--blocked-by", "2", "--priority", "99")
    out = world.once()
    assert started(world) == {"2"}
    for line in (
        "Found 4 unassigned tasks in queue 'dev'", "Filtered out 2 blocked task(s)",
        "Prioritizing 1 blocker task(s)", "Task 2 blocks 2 task(s)", "Blocked tasks skipped: 2",
        "Assigning task 2 to queue dev agent ada",
    ):  # fmt: skip
        assert line in out


def test_blocking_switched_off_for_a_call(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.add("hold", "--assign", "ben")
    world.add("hold, blocked", "--blocked-by", "1")
    world.once()
    assert started(world) == set()
    world.once("--disable-blocking")
    assert started(world) == {"2"}


def test_another_limit_for_a_call(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    hold(world, 3)
    world.once("--agent-limit", "ada=2")
    assert started(world) == {"1", "2"}


def test_most_free_slots_win_then_the_first_name(world: World) -> None:
    world.fleet(dev=pool("dev", "ben", "ada", "cy, limit: 2"))
    hold(world, 4)
    world.once()
    owners = {run["task_id"]: run["agent"] for run in world.status()["runs"]}
    assert owners == {"1": "cy", "2": "ada", "3": "ben", "4": "cy"}


def test_a_suspension_ends_by_itself_when_its_time_comes(world: World) -> None:
    task = world.add("quick")
    world.fleet(dev=pool("dev", "ada", extra="suspend: true\n"))
    with world.daemon():
        until(lambda: world.state_of("ada") == "suspended", "ada is suspended")
        ends = datetime.now(UTC) + timedelta(seconds=10)
        suspend = f"suspend: {{until: '{ends:%Y-%m-%dT%H:%M:%SZ}', reason: release}}\n"
        tip = world.push(dev=pool("dev", "ada", extra=suspend))
        until(lambda: world.applied() == tip, "the suspension has an end")
        assert world.state_of("ada") == "suspended"
        assert world.task(task)["runs"] == []
        world.wait_status(task, "complete")
    started_at = datetime.fromisoformat(world.events("run.started")[0]["time"])
    assert started_at >= ends.replace(microsecond=0), "it started within the suspension"
    assert world.condition("Suspended")["status"] == "False"


def test_a_drain_goes_on_in_a_suspended_pool(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben"))
    held = world.add("hold", "--assign", "ada")
    world.once()
    world.push(dev=pool("dev", "ben", extra="suspend: true\n"))
    world.once()
    assert world.state_of("ada") == "draining"
    world.open(held)
    until(lambda: not world.leases(), "the run ended")
    world.once()
    assert world.agent("ada") is None
    assert world.task(held)["status"] == "complete"


def test_what_was_blocked_goes_once_its_blocker_is_done(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    blocker = world.add("hold, a blocker")
    blocked = world.add("hold, blocked", "--blocked-by", blocker, "--priority", "9")
    plain = world.add("hold, plain", "--priority", "5")
    world.once()
    assert started(world) == {blocker}, "its blocking counts for more than the others' priority"
    assert world.task(blocked)["is_currently_blocked"] is True
    world.open(blocker)
    until(lambda: not world.leases(), "the blocker is done")
    world.once()
    assert started(world) == {blocked}
    assert world.task(blocked)["is_currently_blocked"] is False
    assert world.task(plain)["runs"] == []
