"""What the runner remembers, across crashes: databases, leases, the lock, the applied record."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.e2e.world import until
from tsched.model.diagnostic import Diagnostic
from tsched.model.errors import ConfigurationError, FatalError, TransientError
from tsched.model.event import Event
from tsched.model.fleet import Agent, Fleet, Pool, Recipe, RecipeFile
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.run import ExitReason, Lease, LeaseState, Outcome, Run, RunExit, RunResult, Spent, Usage
from tsched.model.task import Settlement, Verdict
from tsched.sqlite import open_database, open_read_only, transaction
from tsched.state import applied, events, history, requests, verdicts, view
from tsched.state.applied import Applied
from tsched.state.database import Database
from tsched.state.folder import StateFolder, shared
from tsched.state.identity import runner_id
from tsched.state.leases import Leases
from tsched.state.lock import LockHeld, RunnerLock, holder
from tsched.state.served import agents_by_queue

SCHEMA = ("CREATE TABLE t (x INTEGER)",)


def child(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Another process that runs some code of ours; it says `ready` when it is."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def picture(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


WRITER = """
import sys
from pathlib import Path
from tsched.sqlite import open_database
db = open_database(Path(sys.argv[1]), migrations=("CREATE TABLE t (x INTEGER)",))
db.execute("INSERT INTO t VALUES (7)")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("writer", ["closed", "killed", "alive"])
def test_reading_touches_not_one_byte_and_sees_what_is_committed(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "x.db"
    process = child(WRITER, path)
    if writer == "killed":
        end(process)
    if writer == "closed":
        process.communicate("")
        with closing(open_database(path, migrations=SCHEMA)):
            pass
    before = picture(tmp_path)
    assert ("x.db-wal" in before) is (writer != "closed")
    connection = open_read_only(path, migrations=SCHEMA)
    assert connection is not None
    with closing(connection):
        assert connection.execute("SELECT x FROM t").fetchall() == [(7,)]
    assert picture(tmp_path) == before
    if writer == "alive":
        end(process)


BUSY = """
import sys
from contextlib import closing
from pathlib import Path
from tsched.sqlite import open_database
for number in range(40):
    with closing(open_database(Path(sys.argv[1]), migrations=("CREATE TABLE t (x INTEGER)",))) as db:
        db.execute("INSERT INTO t VALUES (?)", (number,))
    if number == 0:
        print("ready", flush=True)
"""


def test_what_is_read_beside_a_busy_writer_is_what_stood_there_at_one_moment(tmp_path: Path) -> None:
    """A writer that opens and closes the file for each row, so that it has a log only now and then."""
    path, seen = tmp_path / "x.db", set()
    process = child(BUSY, path)
    while process.poll() is None:
        with suppress(TransientError):
            connection = open_read_only(path, migrations=SCHEMA)
            assert connection is not None
            with closing(connection):
                found = [x for (x,) in connection.execute("SELECT x FROM t ORDER BY x")]
            assert found == list(range(len(found)))
            seen.add(len(found))
    process.communicate()
    assert len(seen) > 5


def test_no_file_is_no_database(tmp_path: Path) -> None:
    assert open_read_only(tmp_path / "x.db", migrations=SCHEMA) is None
    assert list(tmp_path.iterdir()) == []


def test_a_newer_or_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with closing(open_database(path, migrations=(*SCHEMA, "CREATE TABLE u (x)"))):
        pass
    with pytest.raises(FatalError, match="newer tsched"):
        open_database(path, migrations=SCHEMA)
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(FatalError, match="can't be read as a database"):
        open_database(path, migrations=SCHEMA)


def test_an_exception_undoes_all_of_a_transaction(tmp_path: Path) -> None:
    with closing(open_database(tmp_path / "x.db", migrations=SCHEMA)) as db:
        with pytest.raises(KeyError), transaction(db):
            db.execute("INSERT INTO t VALUES (1)")
            with transaction(db):
                db.execute("INSERT INTO t VALUES (2)")
            raise KeyError
        assert db.execute("SELECT * FROM t").fetchall() == []


def lease(task: str = "7", agent: str = "ada", run: str = "7-1-a") -> Lease:
    return Lease(
        task_id=task, agent=agent, pid=1, recipe="ada.yaml", started_at="2026-01-01T00:00:00.000Z",
        heartbeat="2026-01-01T00:00:00.000Z", host="h", state=LeaseState.CLAIMING, run_id=run, attempt=1,
        revision="r", pool="dev", queue="dev", executor="local",
    )  # fmt: skip


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    folder = tmp_path / "running"
    folder.mkdir()
    return Leases(folder)


def test_a_lease_comes_back_as_it_was_with_the_files_time_as_heartbeat(leases: Leases, tmp_path: Path) -> None:
    leases.write(lease())
    path = tmp_path / "running/task_7.json"
    os.utime(path, (0, 1_700_000_000))
    assert leases.read("7") == replace(lease(), heartbeat="2023-11-14T22:13:20.000Z")
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(msgspec.json.decode(path.read_bytes()))[:8] == [
        "task_id", "agent", "pid", "recipe", "started_at", "heartbeat", "host", "state",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "{", '{"task_id": "7"}', "[]", "\0\0", '{"task_id": "8"}'])
def test_a_torn_lease_is_named_and_stops_nobody(leases: Leases, tmp_path: Path, text: str) -> None:
    leases.write(lease("8"))
    (tmp_path / "running/task_7.json").write_text(text)
    scan = leases.read_all()
    assert (list(scan.leases), scan.unreadable) == (["8"], ("task_7.json",))


def test_a_link_in_place_of_a_lease_is_not_followed(leases: Leases, tmp_path: Path) -> None:
    leases.write(lease())
    (tmp_path / "running/task_9.json").symlink_to("task_7.json")
    assert leases.read_all().unreadable == ("task_9.json",)


def test_an_id_that_is_no_file_name_is_refused(leases: Leases) -> None:
    for task_id in ("../x", "a/b", "", "x" * 65, "a\n"):
        with pytest.raises(ConfigurationError, match="can't be used"):
            leases.path(task_id)


def test_another_runs_lease_is_left_alone(leases: Leases) -> None:
    leases.write(lease(run="new"))
    leases.remove("7", "old")
    assert leases.read("7") is not None
    leases.remove("7", "new")
    assert leases.read("7") is None


def test_links_are_mended_to_one_a_lease(leases: Leases, tmp_path: Path) -> None:
    folder = tmp_path / "running"
    leases.write(lease())
    (folder / "agent_gone.task_5").symlink_to("task_5.json")
    (folder / "agent_ada.task_7").symlink_to("nonsense")
    leases.mend_links(leases.read_all().leases)
    leases.mend_links(leases.read_all().leases)
    assert sorted(path.name for path in folder.iterdir()) == ["agent_ada.task_7", "task_7.json"]
    assert (folder / "agent_ada.task_7").resolve() == (folder / "task_7.json").resolve()
    leases.remove("7", None)
    assert list(folder.iterdir()) == []


LEASE_WRITER = """
import sys
from pathlib import Path
import msgspec
from tsched.model.run import Lease
from tsched.state.leases import Leases
leases = Leases(Path(sys.argv[1]))
one = msgspec.json.decode(sys.argv[2], type=Lease)
print("ready", flush=True)
while True:
    leases.write(one)
"""


def test_no_kill_tears_a_lease(leases: Leases, tmp_path: Path) -> None:
    body = msgspec.json.encode(lease()).decode()
    for number in range(8):
        process = child(LEASE_WRITER, tmp_path / "running", body)
        until(lambda: leases.read("7"), "the first lease is written")
        time.sleep(0.003 * number)  # where in the loop it dies is left to chance
        end(process)
        assert leases.read("7") is not None
    leases.mend_links({})
    assert sorted(path.name for path in (tmp_path / "running").iterdir()) == ["task_7.json"]


HOLDER = """
import subprocess, sys
from pathlib import Path
from tsched.state.folder import StateFolder, shared
from tsched.state.lock import RunnerLock
with RunnerLock(StateFolder(Path(sys.argv[1]))):
    sleeper = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL)
    print("ready", flush=True)
    print(sleeper.pid, flush=True)
    sys.stdin.read()
"""


def test_the_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    assert holder(folder) is None
    process = child(HOLDER, tmp_path)
    assert process.stdout is not None
    sleeper = int(process.stdout.readline())
    try:
        assert holder(folder) == process.pid
        with pytest.raises(LockHeld, match=f"pid {process.pid} "), RunnerLock(folder):
            pass
        assert folder.lock_file.read_text() == f"{process.pid}\n"
        end(process)  # its child lives on, and must not have inherited the lock
        with RunnerLock(folder) as lock:
            assert folder.lock_file.read_text() == f"{os.getpid()}\n"
            folder.lock_file.unlink()
            lock.refresh()
            assert folder.lock_file.read_text() == f"{os.getpid()}\n"
        assert not folder.lock_file.exists()
    finally:
        os.kill(sleeper, signal.SIGKILL)


def fleet(revision: str, text: str = "words") -> Fleet:
    file = RecipeFile(path="recipes/a.yaml", blob=f"blob-{text}", text=text)
    recipe = Recipe(path="recipes/a.yaml", title="T", prompt="P", files=(file,))
    agents = (Agent(name="ada", recipe="recipes/a.yaml"),)
    pool = Pool(name="dev", queue="dev", agents=agents)
    return Fleet(revision=revision, pools=(pool,), recipes={recipe.path: recipe})


def rows(revision: str, state: AgentState = AgentState.ACTIVE) -> dict[tuple[str, str], Lifecycle]:
    return {("ada", "dev"): Lifecycle(agent="ada", queue="dev", pool="dev", state=state, revision=revision)}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(Database.open(tmp_path / "tsched.db")) as one:
        yield one


def test_whom_a_queue_has_is_read_without_the_fleets_models(db: Database) -> None:
    assert agents_by_queue(db) is None
    one = fleet("1")
    (dev,) = one.pools
    ben = Agent(name="ben", recipe="recipes/a.yaml")
    pools = (dev, Pool(name="late", queue="dev", agents=(ben,)), Pool(name="empty", queue="qa"))
    applied.adopt(db, Applied(), fleet=replace(one, pools=pools), lifecycles=rows("1"))
    assert agents_by_queue(db) == {"dev": ("ada", "ben")}


def test_the_applied_record_comes_back_whole(db: Database) -> None:
    first = applied.adopt(db, Applied(), fleet=fleet("1"), lifecycles=rows("1"))
    assert applied.load(db) == first
    second = applied.adopt(db, applied.accept(db, first, "2"), fleet=fleet("2", "others"), lifecycles=rows("2"))
    back = applied.load(db)
    assert (back, back.generation, back.accepted) == (second, 2, frozenset())
    assert back.fleet is not None
    assert back.fleet.revision == "2"
    assert back.fleet.recipes["recipes/a.yaml"].files[0].text == "others"
    assert db.rows("SELECT blob FROM blobs") == [("blob-others",)]
    drained = applied.put_lifecycles(db, back, {})
    assert applied.load(db) == drained


ADOPTER = """
import sys
from contextlib import suppress
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.integration.test_state import fleet, rows
from tsched.state import applied
from tsched.state.database import Database
db = Database.open(Path(sys.argv[1]))
record = first = applied.load(db)
while True:
    name = str(record.generation + 1)
    record = applied.adopt(db, record, fleet=fleet(name, name), lifecycles=rows(name))
    if record.generation == first.generation + 1:
        print("ready", flush=True)
"""


def test_no_kill_mixes_two_adoptions(tmp_path: Path) -> None:
    path = tmp_path / "tsched.db"
    root = Path(__file__).parent.parent.parent
    reached = 0
    for number in range(8):
        process = child(ADOPTER, path, root)
        time.sleep(0.02 + 0.005 * number)  # where in the loop it dies is left to chance
        end(process)
        with closing(Database.open(path)) as db:
            record = applied.load(db)
        assert record.fleet is not None
        assert record.fleet.revision == str(record.generation)
        assert record.lifecycles == rows(str(record.generation))
        assert record.fleet.recipes["recipes/a.yaml"].files[0].text == str(record.generation)
        assert record.generation > reached
        reached = record.generation


def result(run_id: str, outcome: Outcome) -> RunResult:
    run = Run(
        run_id=run_id, task_id="7", agent="ada", pool="dev", queue="dev", attempt=1, revision="r", executor="local",
        recipe="recipes/a.yaml", runtime="goose", evidence="exit", created_at=0.0,
    )  # fmt: skip
    end = RunExit(run_id=run_id, reason=ExitReason.EXITED, started=True, exit_code=0, ended_at=1.0)
    settlement = Settlement(verdict=Verdict.COMPLETE)
    return RunResult(run=run, exit=end, outcome=outcome, reason="because", settlement=settlement)


def test_what_agents_spent_is_summed_since_a_time(db: Database) -> None:
    def spent(run_id: str, agent: str, ended_at: float, usage: Usage | None) -> None:
        one = result(run_id, Outcome.COMPLETE)
        run, end = replace(one.run, agent=agent), replace(one.exit, ended_at=ended_at)
        history.record(db, replace(one, run=run, exit=end, usage=usage))

    spent("a", "ada", 50.0, Usage(total_tokens=1, cost_usd=9.0))
    spent("b", "ada", 101.0, Usage(total_tokens=10, cost_usd=0.25))
    spent("c", "ada", 102.0, Usage(total_tokens=30, cost_usd=0.5))
    spent("d", "ada", 103.0, None)
    spent("e", "ben", 104.0, Usage(total_tokens=0))
    assert history.spent(db, 100.0) == (
        Spent(agent="ada", queue="dev", runs=2, total_tokens=40, cost_usd=0.75),
        Spent(agent="ben", queue="dev", runs=1, total_tokens=0),
    )


def test_the_first_decided_outcome_stands(db: Database) -> None:
    first = history.record(db, result("a", Outcome.COMPLETE))
    assert history.record(db, result("a", Outcome.FAILED)) == first
    assert history.unacknowledged(db) == (first,)
    history.acknowledge(db, "a")
    assert history.unacknowledged(db) == ()
    assert [one.outcome for one in history.of_task(db, "7")] == [Outcome.COMPLETE]


def test_events_requests_rejections_and_the_report_come_back(db: Database) -> None:
    told = [Event(time=float(n), kind="k", subject="s", message=str(n), fields={"n": n}) for n in range(5)]
    events.append(db, told)
    assert [event for _, event in events.read(db, after=3)] == told[3:]
    assert [event.message for _, event in events.newest(db, 2)] == ["3", "4"]
    requests.insert(db, time=1.0, kind="accept", argument="r", author="op")
    (asked,) = requests.pending(db)
    assert (asked.kind, asked.argument, asked.author) == ("accept", "r", "op")
    requests.done(db, [asked.id])
    assert requests.pending(db) == ()
    found = (Diagnostic(path="p", line=1, column=2, code="TS101", message="m.", mend="n."),)
    for number in range(120):
        verdicts.remember(db, f"key{number}", found, time=float(number))
    kept = verdicts.remembered(db)
    assert (len(kept), kept["key119"], "key0" in kept) == (verdicts.KEPT, found, False)
    verdicts.put_report(db, dict, {"a": 1})
    assert verdicts.get_report(db, dict, {}) == {"a": 1}


def test_the_view_is_written_only_where_it_differs(tmp_path: Path) -> None:
    folder, db = StateFolder(tmp_path), Database.open(tmp_path / "tsched.db")
    assert view.shown(db) is None
    with pytest.raises(FileNotFoundError):
        view.found(folder)
    view.write(folder, db, fleet("1"))
    before = folder.control_file.stat().st_mtime_ns
    view.write(folder, db, fleet("2"))
    assert folder.control_file.stat().st_mtime_ns == before
    assert msgspec.json.decode(folder.control_file.read_bytes()) == [{"agentName": "ada", "agentType": "dev"}]
    assert view.found(folder) == view.shown(db) == (("ada", "dev"),)
    folder.control_file.unlink()
    folder.control_file.write_text("[]")
    assert (view.found(folder), view.shown(db)) == ((), (("ada", "dev"),)), "an edit by hand is noticed"
    folder.control_file.write_text("[{]")
    assert view.found(folder) is None
    view.write(folder, db, fleet("2"), {"ada"})
    assert view.found(folder) == view.shown(db) == ()


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="can't make the folder"):
        StateFolder(tmp_path / "file" / "state").create()
    folder = StateFolder(tmp_path / "state")
    folder.create()
    assert runner_id(folder, host="h") == runner_id(folder, host="h") != ""
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_state_folder_that_others_can_write_is_refused_with_its_mend(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    folder.create()
    for mode in (0o770, 0o702, 0o777):
        folder.root.chmod(mode)
        with pytest.raises(ConfigurationError, match=f"`chmod go-w {folder.root}`"):
            folder.create()


@pytest.mark.parametrize(
    ("mode", "owner", "user", "words"),
    [
        (0o700, 7, 7, None),
        (0o755, 7, 7, None),
        (0o700, 8, 7, "belongs to another user (uid 8)"),
        (0o700, 0, 7, None),
        (0o700, 8, 0, None),
        (0o720, 8, 0, "can be written by others"),
    ],
)
def test_whose_a_state_folder_may_be(mode: int, owner: int, user: int, words: str | None) -> None:
    why = shared(Path("/s"), mode=mode, owner=owner, user=user)
    assert (why is None) if words is None else (words in str(why))
