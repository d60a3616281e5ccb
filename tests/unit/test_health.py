"""The morning checklist, judged by value: what is well, what is not, and where the line between them is."""

from collections.abc import Sequence

import pytest

from tsched.model.finding import Finding, Standing, fail, ok, shortened, warn, worst
from tsched.model.units import about, size
from tsched.schedule import health

NOW = 1_800_000_000.0
OK, WARN, FAIL = Standing.OK, Standing.WARN, Standing.FAIL
GIB = 1 << 30


def test_findings_come_to_the_weightiest() -> None:
    assert worst(()) is OK
    assert worst((ok("a", "."), warn("b", ".", "."))) is WARN
    assert worst((fail("a", ".", "."), warn("b", ".", "."))) is FAIL


def test_a_long_list_says_how_much_more_there_is() -> None:
    assert shortened("abcdefg", 5) == "a, b, c, d, e, and 2 more"
    assert shortened("ab", 5) == "a, b"


def test_times_and_sizes_are_said_as_people_say_them() -> None:
    assert [about(one) for one in (0.13, 59.9, 119, 120, 7200, 172_800)] == ["130ms", "60s", "2m", "2m", "2h", "2d"]
    assert [size(one) for one in (0, 1023, 1536, 5 * GIB, 3 << 40)] == [
        "0 bytes", "1023 bytes", "1.5 KiB", "5.0 GiB", "3.0 TiB",
    ]  # fmt: skip


def of_runner(
    *,
    pid: int | None = 7,
    left: int | None = None,
    age: float | None = 1,
    interval: float = 60,
    gap: float | None = 60,
) -> Finding:
    last = None if age is None else NOW - age
    return health.runner(pid=pid, left=left, last=last, interval=interval, gap=gap, now=NOW)


def test_a_daemon_that_finishes_its_passes_is_well() -> None:
    found = of_runner()
    assert (found.standing, found.mend) == (OK, "")
    assert "pid 7" in found.evidence


@pytest.mark.parametrize(
    ("interval", "gap", "longest"), [(60.0, 60.0, 180.0), (0.1, 0.1, 60.1), (60.0, 300.0, 900.0), (60.0, None, 180.0)]
)
def test_a_daemon_that_finishes_none_hangs(interval: float, gap: float | None, longest: float) -> None:
    assert of_runner(age=longest, interval=interval, gap=gap).standing is OK
    assert of_runner(age=longest + 1, interval=interval, gap=gap).standing is FAIL


def test_with_cron_the_last_pass_counts() -> None:
    assert of_runner(pid=None, age=179).standing is OK
    assert of_runner(pid=None, age=181).standing is FAIL
    assert of_runner(pid=None, age=800, gap=300).standing is OK  # cron calls it each five minutes


def test_a_lock_file_without_its_holder_tells_of_a_kill() -> None:
    found = of_runner(pid=None, left=4711)
    assert found.standing is FAIL
    assert "4711 was killed" in found.evidence


def test_a_host_without_any_pass_has_no_runner() -> None:
    assert of_runner(pid=None, age=None).standing is FAIL


def of_revision(
    applied: str | None = "a" * 40,
    fetched: str | None = "a" * 40,
    rejected: str | None = None,
    held: str | None = None,
) -> Finding:
    return health.revision(applied=applied, fetched=fetched, behind=3, rejected=rejected, held=held)


def test_the_newest_revision_in_force_is_well() -> None:
    assert of_revision().standing is OK


def test_a_revision_behind_says_how_far() -> None:
    found = of_revision(fetched="b" * 40)
    assert (found.standing, "3 commits behind" in found.evidence) == (WARN, True)


def test_a_rejected_revision_fails_and_a_held_one_warns() -> None:
    assert of_revision(fetched="b" * 40, rejected="pools/x.yaml:1: no").standing is FAIL
    found = of_revision(fetched="b" * 40, held="it removes all")
    assert (found.standing, "tsched accept bbbbbbbbbbbb" in found.mend) == (WARN, True)
    assert of_revision(applied=None).standing is FAIL


def test_a_remote_that_is_down_for_long_fails() -> None:
    def remote(problem: str | None, age: float, asked: bool = True) -> Standing:
        return health.remote(asked=asked, problem=problem, since=NOW - age, now=NOW).standing

    assert [remote(None, 0), remote("gone", 900), remote("gone", 901), remote(None, 0, asked=False)] == [
        OK, WARN, FAIL, OK,
    ]  # fmt: skip


def lease(
    *, alive: bool = True, claiming: bool = False, beat: float = 1.0, give_up: float | None = 3600.0
) -> health.LeaseFacts:
    return health.LeaseFacts(
        task_id="7", agent="ada", alive=alive, claiming=claiming, heartbeat=NOW - beat, every=15.0,
        give_up=None if give_up is None else NOW + give_up,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "standing"),
    [
        (lease(), OK),
        (lease(beat=60.0), OK),
        (lease(beat=61.0), WARN),
        (lease(alive=False), FAIL),
        (lease(alive=False, claiming=True, beat=59.0), OK),  # it is just being started
        (lease(alive=False, claiming=True, beat=61.0), FAIL),
        (lease(give_up=-60.0), OK),
        (lease(give_up=-61.0), FAIL),
        (lease(give_up=None), OK),
    ],
)
def test_a_lease_is_stale_by_its_process_its_time_and_its_heartbeat(
    one: health.LeaseFacts, standing: Standing
) -> None:
    assert health.leases([lease(), one], unreadable=(), now=NOW).standing is standing


def test_an_unreadable_lease_fails() -> None:
    assert health.leases([], unreadable=["task_1.json"], now=NOW).standing is FAIL


@pytest.mark.parametrize(
    ("today", "before", "age", "standing"),
    [(0, 700, 1, OK), (1, 0, 1, WARN), (10, 0, 1, FAIL), (9, 0, 1, WARN), (30, 70, 1, WARN), (31, 70, 1, FAIL),
     (31, 70, 3601, WARN)],
)  # fmt: skip
def test_errors_fail_where_they_are_many_more_than_usual_and_go_on(
    today: int, before: int, age: float, standing: Standing
) -> None:
    midnight = NOW - 36_000
    times = [midnight - 3600.0] * before + [NOW - age] * today
    assert health.errors(times, midnight=midnight, days=7, newest="x", now=NOW).standing is standing


def test_a_registry_needs_agents_and_their_recipes() -> None:
    def registry(revision: str | None, agents: int, absent: Sequence[str] = ()) -> Standing:
        return health.registry(revision=revision, agents=agents, queues=["dev"], absent=absent).standing

    assert [registry("r", 2), registry("r", 0), registry(None, 0), registry("r", 2, ["x.yaml"])] == [
        OK, WARN, FAIL, FAIL,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("free", "total", "inodes", "standing"),
    [
        (50 * GIB, 100 * GIB, 50, OK),
        (9 * GIB, 100 * GIB, 50, WARN),  # under a tenth
        (GIB - 1, 5 * GIB, 50, WARN),  # under a GiB
        (50 * GIB, 100 * GIB, 9, WARN),
        (GIB, 101 * GIB, 50, FAIL),  # under a hundredth
        ((100 << 20) - 1, GIB, 50, FAIL),
        (50 * GIB, 100 * GIB, 0, FAIL),
    ],
)
def test_a_disk_needs_a_part_of_it_bytes_and_inodes(free: int, total: int, inodes: int, standing: Standing) -> None:
    assert health.disk("x", free=free, total=total, inodes=inodes, all_inodes=100).standing is standing


def test_a_file_system_without_inodes_has_enough_of_them() -> None:
    assert health.disk("x", free=50 * GIB, total=100 * GIB, inodes=0, all_inodes=0).standing is OK


def test_nothing_is_written_in_the_future() -> None:
    def clock(ahead: float, now: float = NOW) -> Standing:
        return health.clock({"the newest pass": now + ahead, "the newest event": now - 9}, now=now).standing

    assert [clock(0), clock(5), clock(6), clock(60), clock(61), clock(0, now=86_400.0)] == [
        OK, OK, WARN, WARN, FAIL, FAIL,
    ]  # fmt: skip
    assert health.clock({}, now=NOW).standing is OK


@pytest.mark.parametrize(
    ("mode", "owner", "standing"),
    [(0o700, 1, OK), (0o750, 1, WARN), (0o701, 1, WARN), (0o770, 1, FAIL), (0o702, 1, FAIL), (0o700, 2, WARN)],
)
def test_the_state_folder_is_its_owners_alone(mode: int, owner: int, standing: Standing) -> None:
    facts = [health.FolderFacts(path="x"), health.FolderFacts(path="y", mode=mode, owner=owner)]
    facts[0] = health.FolderFacts(path="x", owner=1)
    assert health.folders(facts, user=1).standing is standing
    assert health.folders([health.FolderFacts(path="x", there=False)], user=0).standing is FAIL


def test_git_has_to_be_there_and_not_too_old() -> None:
    assert [health.git(one).standing for one in (None, (2, 29, 9), (2, 30), (2, 39, 5), (3, 0))] == [
        FAIL, WARN, OK, OK, OK,
    ]  # fmt: skip


def test_the_rest_says_what_was_seen() -> None:
    server = health.task_server("x", problem="refused", seconds=0.1, waiting=0)
    assert (server.standing, "refused" in server.evidence) == (FAIL, True)
    assert health.task_server("x", problem=None, seconds=0.1, waiting=4).evidence.endswith("4 tasks waiting")
    missing = health.programs([("no goose", "Install goose.")], agents=2)
    assert (missing.standing, missing.mend) == (FAIL, "Install goose.")
    assert [health.workspaces(["w"] * n).standing for n in (0, 20, 21)] == [OK, OK, WARN]
    assert health.overrides(["dev is stopped"]).standing is WARN


def test_what_keeps_a_run_together_is_said() -> None:
    def found(
        base: str | None = "/sys/fs/cgroup/x", controllers: Sequence[str] = (), wanted: Sequence[str] = ()
    ) -> Finding:
        return health.containment(base=base, controllers=controllers, why_not="none is mounted", wanted=wanted)

    assert found() == ok("containment", "a cgroup for each run, below /sys/fs/cgroup/x")
    assert found(controllers=("memory", "pids"), wanted=("memory", "open_files")).evidence.endswith("by memory, pids")
    assert found(None).evidence == "no cgroups, runs' shims alone: none is mounted"
    short = found(controllers=("memory",), wanted=("memory", "cpus", "processes"))
    assert short.standing is WARN
    assert short.evidence.endswith("no controller holds all of a run to cpus, processes")


def test_a_state_folder_that_is_a_copy_fails() -> None:
    assert health.identity(None, displaced=None).standing is OK
    assert health.identity("ab" * 16, displaced=None).standing is OK
    found = health.identity("ab" * 16, displaced="it is a copy of one on h")
    assert (found.standing, "it is a copy of one on h" in found.evidence) == (FAIL, True)
    assert "tsched runner renew" in found.mend
