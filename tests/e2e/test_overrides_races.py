"""Orders that come in the middle of a pass, step by step in this process: real state, real remote, real agents."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Thread

from tests.e2e.world import World, alive, pool, until
from tsched.executors.executor import Liveness
from tsched.model.override import Override, OverrideKind
from tsched.observe.log import PassLog
from tsched.runner import orders
from tsched.runner.adopt import adopt
from tsched.runner.cycle import begin, cycle, examine, take_requests
from tsched.runner.finish import reap
from tsched.runner.host import Host, open_host
from tsched.runner.launch import launch
from tsched.runner.matching import find_work
from tsched.runner.override import enforce
from tsched.runner.record import Pass
from tsched.settings import Settings, load
from tsched.state import overrides, requests
from tsched.state.lock import RunnerLock


@contextmanager
def passing(world: World) -> Iterator[tuple[Host, RunnerLock, PassLog]]:
    """A runner whose passes the test makes itself."""
    settings = load(environ=world.environ, cwd=world.root)
    with (
        closing(open_host(settings)) as host,
        RunnerLock(host.folder) as lock,
    ):
        cycle(host, lock)
        with host.log.reconciliation_pass() as log:
            yield host, lock, log


def begun(host: Host, log: PassLog) -> Pass:
    p = begin(host, log)
    take_requests(p)
    examine(p)
    adopt(p)
    return p


def test_a_stop_between_matching_and_claiming_starts_nothing(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"), qa=pool("qa", "ben"))
    with passing(world) as (host, _, log):
        world.add("hold")
        other = world.add("hold", queue="qa")
        p = begun(host, log)
        found = find_work(p)
        assert len(found) == 2
        orders.stop(host.settings, pool="dev", now=False, by="op", reason="")
        launch(p, found)
        assert [run.task_id for run in p.runs.values()] == [other]


def test_a_stop_after_requests_were_taken_gives_no_slot(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with passing(world) as (host, _, log):
        world.add("hold")
        p = begun(host, log)
        orders.drain(host.settings, agent="ada", now=False, by="op", reason="")
        assert find_work(p) == ()


def test_killed_before_its_request_is_ticked_off_it_is_followed_once(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with passing(world) as (host, _, log):
        orders.stop(host.settings, pool=None, now=False, by="op", reason="")
        (request,) = requests.pending(host.db)
        take_requests(begin(host, log))
        requests.insert(host.db, time=request.time, kind=request.kind, argument=request.argument, author="op")
        before = overrides.load(host.db)
        take_requests(begin(host, log))
        assert overrides.load(host.db) == before
        assert requests.pending(host.db) == ()
        orders.resume(host.settings, pool=None, by="op")
        assert overrides.load(host.db) == (), "in force as soon as it is written"


def test_an_order_to_kill_a_run_that_has_just_ended_is_let_go(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with passing(world) as (host, _, log):
        held = world.add("hold")
        p = begun(host, log)
        launch(p, find_work(p))
        world.wait_running(held)
        orders.kill(host.settings, task_id=held, requeue=False, by="op", reason="")
        until(lambda: Liveness.ENDED in host.executor.poll().values(), "it is stopped")
        late = begin(host, log)
        late.overrides = ()  # as if it had ended by itself, and been settled before the order came
        reap(late)
        assert world.task(held)["status"] == "idle", "settled without the order"
        after = begun(host, log)
        assert [one.kind for one in after.overrides] == [OverrideKind.KILL]
        enforce(after)
        assert after.overrides == overrides.load(host.db) == ()


def test_stop_now_ends_also_what_a_pass_from_before_has_started(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    with passing(world) as (host, _, log):
        held = world.add("hold")
        p = begun(host, log)
        found = find_work(p)
        orders.stop(host.settings, pool=None, now=True, by="op", reason="")
        (request,) = requests.pending(host.db)
        requests.done(host.db, [request.id])  # written a moment after the check
        launch(p, found)
        lease = world.wait_running(held)
        requests.insert(host.db, time=request.time, kind=request.kind, argument=request.argument, author="op")
        enforce(begun(host, log))
        until(lambda: not alive(lease["agent_pid"]), "the next pass stops it")


def test_waiting_for_a_drain_waits_for_the_runner_to_take_it_up(world: World) -> None:
    """Until then a pass from before may still start a run."""
    world.fleet(dev=pool("dev", "ada"))
    told: list[object] = []

    def wait(settings: Settings, order: Override) -> None:
        told.extend(orders.left(settings, order))
        told.append("waited")

    with passing(world) as (host, _, log):
        done = orders.stop(host.settings, pool=None, now=False, by="op", reason="")
        waiting = Thread(target=wait, args=(host.settings, done.override))
        waiting.start()
        p = begin(host, log)
        examine(p)
        told.append("taken up")
        take_requests(p)
        waiting.join()
    assert told == ["taken up", (), "waited"]


def test_a_daemon_sees_each_edit_of_the_view_also_one_that_keeps_its_size(world: World) -> None:
    world.fleet(dev=pool("dev", "ada", "ben"))
    file = world.state / "agent-control.json"
    with passing(world) as (host, lock, _):
        shown = file.read_text()
        for _ in range(2):
            cycle(host, lock)
            assert file.read_text() == shown
        file.chmod(0o600)
        file.write_text(shown.replace('"ada"', '"eva"'))
        cycle(host, lock)
        assert [one.name for one in overrides.load(host.db)] == ["ada"]
        assert '"ben"' in file.read_text()
        assert '"ada"' not in file.read_text()
        orders.undrain(host.settings, agent="ada", by="op")
        cycle(host, lock)
        assert file.read_text() == shown
        file.unlink()
        cycle(host, lock)
        assert file.read_text() == shown


def test_a_view_that_cannot_be_written_stops_no_work(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.add("hold it")
    (world.state / "agent-control.json").mkdir(parents=True)
    assert "agent-control.json" in world.once(check=1)
    assert world.wait_running("1")
    (world.state / "agent-control.json").rmdir()
    world.once()
    (world.state / "agent-control.json").unlink()
    (world.state / "agent-control.json").mkdir()
    assert "Reconciliation completed" in world.once(check=1)
