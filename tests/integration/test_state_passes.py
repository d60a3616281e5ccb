"""history.db: what is kept of passes, for how long, and that neither damage nor its loss stops anything."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.test_state import picture
from tsched.model.errors import ConfigurationError, FatalError
from tsched.model.history import PassRecord, Sample, Total, Trouble
from tsched.state import passes, sql
from tsched.state.database import Database
from tsched.state.folder import StateFolder


def record(time: float, **rest: object) -> PassRecord:
    counters, steps = {"tasks_spawned": 2}, {"fetch": 0.25, "match": 0.5}
    known = {"seconds": 0.75, "revision": "r1", "generation": 3, "counters": counters, "steps": steps, "broken": ""}
    return PassRecord(time=time, **{**known, **rest})  # type: ignore[arg-type]


def sample(time: float, queue: str = "dev", idle: int = 1, **rest: object) -> Sample:
    return Sample(time=time, queue=queue, **{"idle": idle, "blocked": 0, "working": 0, **rest})  # type: ignore[arg-type]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    made, note = passes.open_passes(tmp_path / "history.db")
    assert note == ""
    with closing(made):
        yield made


def test_a_pass_comes_back_as_it_was_kept(db: Database) -> None:
    number = passes.append(db, record(5.0, broken="the disk is full"))
    assert number == 1
    (found,) = passes.passes(db)
    assert found == record(5.0, broken="the disk is full", id=1)


def test_the_newest_passes_are_given_oldest_first(db: Database) -> None:
    for time in (1.0, 2.0, 3.0, 4.0):
        passes.append(db, record(time))
    assert [one.time for one in passes.passes(db, since=1.0, limit=2)] == [3.0, 4.0]
    assert [one.time for one in passes.passes(db, since=3.0)] == [4.0]


def test_a_queue_is_known_from_the_beginning_of_the_time_that_is_asked_for(db: Database) -> None:
    passes.append(db, record(1.0), samples=[sample(1.0, idle=4), sample(1.0, "qa", 7)])
    passes.append(db, record(2.0), samples=[sample(2.0, idle=5)])
    passes.append(db, record(9.0), samples=[sample(9.0, idle=6)])
    found = passes.samples(db, since=3.0)
    assert [(one.time, one.queue, one.idle) for one in found] == [(3.0, "dev", 5), (3.0, "qa", 7), (9.0, "dev", 6)]
    assert [one.idle for one in passes.samples(db, since=0.0, queue="qa")] == [7]


def test_totals_add_up_by_their_labels(db: Database) -> None:
    for _ in range(3):
        passes.append(db, record(1.0), totals=[Total(name="n", value=2, labels={"b": "2", "a": "1"})])
    passes.append(db, record(1.0), totals=[Total(name="n", value=1, labels={"a": "1"})])
    assert [one for one in passes.totals(db) if one.name == "n"] == [
        Total(name="n", value=6, labels={"a": "1", "b": "2"}), Total(name="n", value=1, labels={"a": "1"}),
    ]  # fmt: skip


def test_each_pass_is_in_the_totals_once_however_often_they_are_folded_and_whatever_is_dropped(db: Database) -> None:
    assert passes.totals(db) == ()
    for seconds in (0.01, 0.03, 2.0):
        passes.append(db, record(1.0, seconds=seconds, steps={"fetch": 0.25, f"only {seconds}": 0.5}))
    steps = {"fetch": 0.75, "only 0.01": 0.5, "only 0.03": 0.5, "only 2.0": 0.5}
    buckets = {"0.01": 1, "0.05": 2, "0.1": 2, "0.5": 2, "1": 2, "5": 3, "30": 3, "60": 3}
    expected = {
        ("passes_total", "", 3.0), ("pass_seconds_count", "", 3.0), ("pass_seconds_sum", "", 2.04),
        *(("pass_seconds_bucket", le, float(value)) for le, value in buckets.items()),
        *(("step_seconds_total", step, value) for step, value in steps.items()),
    }  # fmt: skip

    def found() -> set[tuple[str, str, float]]:
        return {(one.name, "".join(one.labels.values()), round(one.value, 9)) for one in passes.totals(db)}

    assert found() == expected
    for _ in range(2):
        passes.prune(db, before=2.0)  # all of them
        assert found() == expected
    passes.append(db, record(3.0, seconds=0.02, steps={}))
    assert {("passes_total", "", 4.0), ("pass_seconds_sum", "", 2.06)} <= found()


def test_a_history_of_before_keeps_its_totals(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with closing(Database.open(path, migrations=passes.MIGRATIONS[:1])) as old:
        old.execute("INSERT INTO totals VALUES ('passes_total', '{}', 7)")
        old.execute("INSERT INTO passes VALUES (7, 1, 1, NULL, 1, 0, 0, 0, '{}', '{}', '')")  # counted among them
    with closing(passes.open_passes(path)[0]) as made:
        assert [one.value for one in passes.totals(made)] == [7]
        passes.append(made, record(2.0, steps={}))
        assert {one.name: one.value for one in passes.totals(made)}["passes_total"] == 8


def test_what_is_too_old_or_too_much_goes_and_totals_stay(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for time in range(1, 8):
        passes.append(
            db, record(float(time)), samples=[sample(float(time))],
            troubles=[Trouble(time=float(time), kind="remote", message="m")], totals=[Total(name="n", value=1)],
        )  # fmt: skip
    passes.prune(db, before=3.0)
    assert [one.time for one in passes.passes(db)] == [3.0, 4.0, 5.0, 6.0, 7.0]
    monkeypatch.setattr(passes, "KEPT", 2)
    assert passes.prune(db, before=0.0) == 9
    assert [one.time for one in passes.passes(db)] == [6.0, 7.0]
    assert [one.time for one in passes.errors(db)] == [6.0, 7.0]
    assert len(passes.samples(db)) == 2
    assert {one.name: one.value for one in passes.totals(db)}.items() >= {("n", 7), ("passes_total", 7)}


def test_a_damaged_history_is_put_aside_and_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    path.write_bytes(b"no database" * 999)
    path.with_name("history.db-wal").write_bytes(b"of the old one")
    made, note = passes.open_passes(path)
    with closing(made):
        assert "history.db.damaged" in note
        passes.append(made, record(1.0))
    assert (tmp_path / "history.db.damaged").read_bytes() == b"no database" * 999
    with closing(passes.read_passes(path)) as read:
        assert len(passes.passes(read)) == 1


def test_a_newer_programs_history_is_left_as_it_is(tmp_path: Path) -> None:
    """Who goes back to an older tsched, and forth again, has it all the time."""
    path = tmp_path / "history.db"
    with closing(Database.open(path, migrations=[*passes.MIGRATIONS, "CREATE TABLE newer (x)"])) as newer:
        passes.append(newer, record(1.0))
    made, note = passes.open_passes(path)
    with closing(made):
        assert "newer tsched" in note
        assert "in memory alone" in note
        passes.append(made, record(2.0))
        assert passes.renewed(made, path)[1] == note
    with closing(Database.open(path, migrations=[*passes.MIGRATIONS, "CREATE TABLE newer (x)"])) as newer:
        assert [one.time for one in passes.passes(newer)] == [1.0]


def test_steps_that_are_none_of_ours_count_nothing_and_hold_up_nothing(db: Database) -> None:
    for steps in ("{", "[1]", "3", '{"a": null}', '{"a": "x"}', '{"a\\"b": 2}'):
        passes.append(db, record(1.0))
        db.execute("UPDATE passes SET steps = ? WHERE id = (SELECT max(id) FROM passes)", (steps,))
    for _ in range(2):
        found = {(one.name, one.labels.get("step")): one.value for one in passes.totals(db)}
        assert found["passes_total", None] == 6
        assert {key: value for key, value in found.items() if key[1]} == {("step_seconds_total", 'a"b'): 2}
        passes.prune(db, before=2.0)


def test_a_history_that_is_removed_is_begun_anew_and_a_sound_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    made, _ = passes.open_passes(path)
    passes.append(made, record(1.0))
    assert passes.renewed(made, path, doubted=True) == (made, "")
    path.unlink()
    anew, note = passes.renewed(made, path)
    with closing(anew):
        assert note == ""
        passes.append(anew, record(2.0))
    with closing(passes.read_passes(path)) as read:
        assert [one.time for one in passes.passes(read)] == [2.0]


def test_where_no_file_can_be_made_passes_are_kept_in_memory_until_it_can(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    path.mkdir()
    made, note = passes.open_passes(path)
    assert "in memory alone" in note
    passes.append(made, record(1.0))
    path.rmdir()
    anew, note = passes.renewed(made, path)
    with closing(anew):
        assert (note, path.is_file()) == ("", True)


def test_a_row_that_is_none_of_ours_is_one_error(db: Database) -> None:
    passes.append(db, record(1.0))
    db.execute("UPDATE passes SET counters = '{'")
    with pytest.raises(FatalError, match=r"history\.db"):
        passes.passes(db)


def test_sql_reads_all_there_is_and_changes_nothing(tmp_path: Path, db: Database) -> None:
    folder = StateFolder(tmp_path)
    passes.append(db, record(5.0), totals=[Total(name="n", value=2)])
    before = picture(tmp_path)
    with sql.tables(folder) as reading:
        columns, rows = sql.query(reading, "SELECT name, value FROM totals WHERE name = 'n'")
        assert (columns, [tuple(row) for row in rows]) == (["name", "value"], [("n", 2.0)])
        described = dict(sql.described(reading))
        assert {"runs", "passes", "events", "lifecycles"} <= described.keys()
        assert "outcome" in described["runs"]
        for refused in ("DELETE FROM passes", "ATTACH 'x' AS y", "PRAGMA user_version=9", "nonsense", ""):
            with pytest.raises(ConfigurationError, match="SELECT over errors"):
                sql.query(reading, refused)
    assert picture(tmp_path) == before
