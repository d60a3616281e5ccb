"""tsched.db when things go wrong: a full disk, a failed commit, a spoiled record; and what an adoption costs."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.integration.test_state import fleet, result, rows
from tsched import sqlite
from tsched.model.diagnostic import Diagnostic
from tsched.model.errors import ConfigurationError, FatalError, TransientError
from tsched.model.event import Event
from tsched.model.fleet import Agent, Fleet, Pool, Recipe, RecipeFile
from tsched.model.run import Outcome
from tsched.runner.questions import Watch
from tsched.schedule.breaker import Breaker
from tsched.settings import load
from tsched.sqlite import open_database
from tsched.state import applied, breakers, events, history, requests, verdicts
from tsched.state.applied import Applied
from tsched.state.database import MIGRATIONS, Database
from tsched.state.folder import StateFolder, write_durably
from tsched.state.served import agents_by_queue


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(Database.open(tmp_path / "tsched.db")) as one:
        yield one


def test_a_full_disk_undoes_the_whole_transaction_and_passes(db: Database) -> None:
    first = applied.adopt(db, Applied(), fleet=fleet("1"), lifecycles=rows("1"))
    pages = db.rows("PRAGMA page_count")[0][0]
    db.execute(f"PRAGMA max_page_count={pages}")
    big = fleet("2", "words " * 100_000)
    with pytest.raises(TransientError, match="disk"), db.transaction():
        events.append(db, [Event(time=0.0, kind="k", subject="s", message="told")])
        applied.adopt(db, first, fleet=big, lifecycles=rows("2"))
    assert not db.in_transaction
    assert applied.load(db) == first
    assert events.newest(db, 9) == ()
    db.execute("PRAGMA max_page_count=1000000")
    applied.adopt(db, first, fleet=big, lifecycles=rows("2"))
    assert applied.load(db).fleet == big


def test_a_database_that_others_keep_busy_passes(db: Database, tmp_path: Path) -> None:
    db.execute("PRAGMA busy_timeout=0")
    with closing(Database.open(tmp_path / "tsched.db")) as other:
        with other.transaction(), pytest.raises(TransientError, match="locked"), db.transaction():
            pass
        requests.insert(db, time=0.0, kind="sync")
        assert len(requests.pending(other)) == 1


def test_who_watches_decodes_a_fleet_once_and_none_that_may_be_undone(tmp_path: Path) -> None:
    watch = Watch(settings=load(environ={"TSCHED_STATE": str(tmp_path)}, cwd=tmp_path))

    def seen() -> Fleet | None:
        with watch.state() as beside:
            return applied.load(beside).fleet

    assert seen() is None
    with closing(Database.open(watch.folder.db)) as db:
        first = applied.adopt(db, Applied(), fleet=fleet("1"), lifecycles=rows("1"))
        known = seen()
        assert known == first.fleet
        assert seen() is known
        with suppress(ZeroDivisionError), db.transaction():
            applied.adopt(db, first, fleet=fleet("undone"), lifecycles=rows("2"))
            assert applied.load(db).fleet == fleet("undone")
            raise ZeroDivisionError
        second = applied.adopt(db, applied.load(db), fleet=fleet("2"), lifecycles=rows("2"))
        assert applied.load(db) == second, "of the same generation as the one that was undone"
        assert seen() == second.fleet


def test_what_was_found_is_read_again_where_somebody_wrote(db: Database, tmp_path: Path) -> None:
    asked: list[str] = []

    def pending(of: Database, word: str) -> int:
        asked.append(word)
        return len(of.rows("SELECT id FROM requests"))

    def found(word: str = "a") -> int:
        return db.kept(pending, word, of=["requests"])

    assert [found(), found(), found("b"), found("b")] == [0, 0, 0, 0]
    assert asked == ["a", "b"]
    breakers.put(db, Breaker(recipe="r", content="c", failures=1))
    assert (found(), asked) == (0, ["a", "b"]), "another table"
    requests.insert(db, time=0.0, kind="sync")
    assert [found(), found()] == [1, 1]
    with suppress(KeyError), db.transaction():
        requests.insert(db, time=0.0, kind="sync")
        assert found() == 2
        raise KeyError
    assert found() == 1, "it was taken back"
    with closing(Database.open(tmp_path / "tsched.db")) as other:
        requests.insert(other, time=0.0, kind="sync")
        assert found() == 2
        requests.done(other, [one.id for one in requests.pending(other)])
    assert found() == 0


def test_what_others_write_in_a_moment_is_seen_after_it(db: Database, tmp_path: Path) -> None:
    assert requests.pending(db) == ()
    with closing(Database.open(tmp_path / "tsched.db")) as other:
        with suppress(KeyError), db.moment():
            assert requests.pending(db) == ()
            requests.insert(other, time=0.0, kind="sync")
            assert requests.pending(db) == (), "it was asked already"
            raise KeyError
        assert len(requests.pending(db)) == 1
        with db.moment():
            assert len(requests.pending(db)) == 1
            requests.insert(db, time=0.0, kind="sync")
            assert len(requests.pending(db)) == 2, "its own"


def test_a_failed_commit_leaves_no_transaction_behind(tmp_path: Path) -> None:
    schema = (
        "CREATE TABLE a (x INTEGER PRIMARY KEY);\n"
        "CREATE TABLE b (x INTEGER REFERENCES a (x) DEFERRABLE INITIALLY DEFERRED)",
    )
    with closing(open_database(tmp_path / "x.db", migrations=schema)) as raw:
        with pytest.raises(Exception, match="FOREIGN KEY"), sqlite.transaction(raw):
            raw.execute("INSERT INTO b VALUES (1)")
        with sqlite.transaction(raw):
            raw.execute("INSERT INTO a VALUES (7)")
        assert not raw.in_transaction
        assert raw.execute("SELECT * FROM b").fetchall() == []
    with closing(open_database(tmp_path / "x.db", migrations=schema)) as raw:
        assert raw.execute("SELECT * FROM a").fetchall() == [(7,)], "what came later was committed"


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("UPDATE applied SET fleet = '{'", "the applied fleet"),
        ("UPDATE applied SET fleet = '{\"pools\": 7}'", "the applied fleet"),
        ("UPDATE pools SET body = '[]'", "the applied pool"),
        ("UPDATE applied SET generation = 'x'", "the generation"),
        ("UPDATE recipes SET body = '[]'", "the applied recipes/a.yaml"),
        ("DELETE FROM blobs", "lacks blob-words"),
        ('UPDATE lifecycles SET row = \'{"agent": "ada"}\'', "agents' lifecycles"),
    ],
)
def test_a_spoiled_record_is_refused_in_one_line(db: Database, tmp_path: Path, damage: str, named: str) -> None:
    applied.adopt(db, Applied(), fleet=fleet("1"), lifecycles=rows("1"))
    db.execute(damage)
    with pytest.raises(FatalError, match=named) as caught:
        applied.load(db)
    assert "\n" not in str(caught.value)
    with closing(Database.open(tmp_path / "tsched.db")) as again, pytest.raises(FatalError, match=named):
        applied.load(again)


def test_a_spoiled_history_is_refused_and_spoiled_caches_are_forgotten(db: Database) -> None:
    history.record(db, result("a", Outcome.COMPLETE))
    db.execute("UPDATE runs SET body = '{}'")
    with pytest.raises(FatalError, match="a finished run"):
        history.unacknowledged(db)
    found = (Diagnostic(path="p", line=1, column=1, code="TS101", message="m.", mend="n."),)
    verdicts.remember(db, "good", found, time=2.0)
    verdicts.remember(db, "bad", found, time=1.0)
    db.execute("UPDATE rejected SET diagnostics = '{' WHERE content_key = 'bad'")
    assert verdicts.remembered(db) == {"good": found}
    verdicts.put_report(db, list, [1, 2])
    assert verdicts.get_report(db, dict, {"seen": "nothing"}) == {"seen": "nothing"}


def test_a_clock_that_jumps_back_forgets_no_new_rejection(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "KEPT", 3)
    for number in range(5):
        verdicts.remember(db, f"key{number}", (), time=100.0 - number)
    verdicts.remember(db, "key2", (), time=0.0)
    verdicts.remember(db, "key5", (), time=0.0)
    assert sorted(verdicts.remembered(db)) == ["key2", "key4", "key5"]


def many(revision: str, changed: str = "") -> Fleet:
    """Ten agents with a recipe each; `changed` is the one whose recipe this revision edits."""
    recipes: dict[str, Recipe] = {}
    for name in "abcdefghij":
        word = revision if name == changed else "first"
        file = RecipeFile(path=f"recipes/{name}.yaml", blob=f"{name} {word}", text=f"text {name} {word}")
        recipes[file.path] = Recipe(path=file.path, title="T", prompt=word, files=(file,))
    agents = tuple(Agent(name=path[8], recipe=path) for path in recipes)
    return Fleet(revision=revision, pools=(Pool(name="dev", queue="dev", agents=agents),), recipes=recipes)


def test_an_adoption_writes_what_changed_and_not_what_exists(db: Database, tmp_path: Path) -> None:
    first = applied.adopt(db, Applied(), fleet=many("1"), lifecycles={})
    count = "SELECT total_changes()"
    (before,) = db.rows(count)[0]
    second = applied.adopt(db, first, fleet=many("2", "c"), lifecycles={})
    (after,) = db.rows(count)[0]
    assert int(str(after)) - int(str(before)) <= 4  # the fleet, one recipe, a text that came and one that went
    with closing(Database.open(tmp_path / "tsched.db")) as again:
        back = applied.load(again)
    assert back == second
    assert back.fleet is not None
    texts = {path: recipe.files[0].text for path, recipe in back.fleet.recipes.items()}
    assert texts == {path: recipe.files[0].text for path, recipe in many("2", "c").recipes.items()}


def test_recipes_come_back_in_their_order_and_those_that_left_are_gone(db: Database, tmp_path: Path) -> None:
    first = applied.adopt(db, Applied(), fleet=many("1"), lifecycles={})
    kept = {path: recipe for path, recipe in many("2").recipes.items() if path != "recipes/b.yaml"}
    applied.adopt(db, first, fleet=Fleet(revision="2", recipes=kept), lifecycles={})
    with closing(Database.open(tmp_path / "tsched.db")) as again:
        back = applied.load(again).fleet
    assert back is not None
    assert list(back.recipes.items()) == list(kept.items())


def test_a_text_that_two_recipes_share_outlives_either(db: Database, tmp_path: Path) -> None:
    shared = RecipeFile(path="recipes/sub.yaml", blob="shared", text="together")
    both = {
        path: Recipe(path=path, title="T", prompt="P", files=(shared,))
        for path in ("recipes/a.yaml", "recipes/b.yaml")
    }
    first = applied.adopt(db, Applied(), fleet=Fleet(revision="1", recipes=both), lifecycles={})
    one = Fleet(revision="2", recipes={"recipes/b.yaml": both["recipes/b.yaml"]})
    applied.adopt(db, first, fleet=one, lifecycles={})
    with closing(Database.open(tmp_path / "tsched.db")) as again:
        back = applied.load(again).fleet
    assert back is not None
    assert [recipe.files[0].text for recipe in back.recipes.values()] == ["together"]


def test_a_fleet_is_decoded_once_and_an_undone_one_never_kept(db: Database) -> None:
    first = applied.adopt(db, Applied(), fleet=fleet("1"), lifecycles=rows("1"))
    assert applied.load(db).fleet is applied.load(db).fleet
    with pytest.raises(KeyError), db.transaction():
        applied.adopt(db, first, fleet=fleet("undone", "undone"), lifecycles={})
        within = applied.load(db)
        assert within.fleet is not None
        assert within.fleet.revision == "undone"
        raise KeyError
    second = applied.adopt(db, first, fleet=fleet("2", "new"), lifecycles=rows("2"))
    back = applied.load(db)
    assert back == second
    assert back.fleet is not None
    assert back.fleet.revision == "2"


def test_lifecycle_rows_change_alone(db: Database) -> None:
    first = applied.adopt(db, Applied(), fleet=fleet("1"), lifecycles=rows("1"))
    key = ("ada", "dev")
    moved = {
        key: replace(first.lifecycles[key], since=5.0),
        ("bo", "qa"): replace(first.lifecycles[key], agent="bo", queue="qa"),
    }
    second = applied.put_lifecycles(db, first, moved)
    assert applied.load(db) == second
    assert applied.load(db).generation == 1
    third = applied.put_lifecycles(db, second, {})
    assert applied.load(db) == third


def test_history_is_bounded_and_numbers_go_on(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT", 1500)
    for batch in range(8):
        events.append(db, [Event(time=0.0, kind="k", subject="s", message=str(batch * 500 + n)) for n in range(500)])
    kept = events.read(db, limit=10_000)
    assert 1500 <= len(kept) <= 2500
    assert [event.message for _, event in kept] == [str(number - 1) for number, _ in kept]
    assert kept[-1][0] == 4000


def test_a_reader_beside_the_runner_sees_whole_passes_alone(db: Database, tmp_path: Path) -> None:
    first = applied.adopt(db, Applied(), fleet=fleet("1"), lifecycles=rows("1"))
    with db.transaction():
        applied.adopt(db, first, fleet=fleet("2"), lifecycles=rows("2"))
        requests.insert(db, time=0.0, kind="sync")
        reader = Database.read_only(tmp_path / "tsched.db")
        assert reader is not None
        with closing(reader):
            assert applied.load(reader) == first
            assert applied.outline(reader) == replace(first, fleet=replace(fleet("1"), recipes={}))
            assert requests.pending(reader) == ()
    after = Database.read_only(tmp_path / "tsched.db")
    assert after is not None
    with closing(after):
        assert applied.load(after).generation == 2


def test_before_the_first_pass_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert Database.read_only(tmp_path / "tsched.db") is None
    with closing(Database.empty()) as nothing:
        assert applied.load(nothing) == Applied()
        assert (history.recent(nothing, 5), events.newest(nothing, 5), requests.pending(nothing)) == ((), (), ())
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_just_being_made_is_none_yet(tmp_path: Path) -> None:
    path = tmp_path / "tsched.db"
    path.touch()
    assert Database.read_only(path) is None
    with closing(sqlite3.connect(path, isolation_level=None)) as maker:
        maker.execute("PRAGMA journal_mode=WAL")
        maker.execute("BEGIN IMMEDIATE")
        maker.execute("CREATE TABLE applied (x)")
        assert Database.read_only(path) is None


def test_a_file_of_an_older_program_is_read_without_changing_it(tmp_path: Path) -> None:
    path = tmp_path / "tsched.db"
    open_database(path, migrations=MIGRATIONS[:1]).close()
    before = path.read_bytes()
    with closing(Database.read_only(path) or Database.empty()) as database:
        assert breakers.load(database) == {}
    assert path.read_bytes() == before
    with closing(Database.open(path)) as database:
        assert breakers.load(database) == {}


def test_the_fleet_of_an_older_program_goes_on(tmp_path: Path) -> None:
    """Before the sixth migration a fleet was one text, its pools in it."""
    path = tmp_path / "tsched.db"
    agents = tuple(Agent(name=name, recipe="recipes/a.yaml", max_runtime=0.5) for name in "ab")
    pools = tuple(Pool(name=name, queue=name, agents=agents[:number]) for number, name in enumerate(("dev", "qä")))
    old = Fleet(revision="r1", pools=pools)
    with closing(open_database(path, migrations=MIGRATIONS[:5])) as before:
        before.execute("INSERT INTO applied VALUES (1, 7, ?)", (msgspec.json.encode(old).decode(),))
    with closing(Database.read_only(path) or Database.empty()) as reader:
        assert applied.load(reader).fleet == old
    with closing(Database.open(path)) as db:
        record = applied.load(db)
        assert (record.fleet, record.generation) == (old, 7)
        assert agents_by_queue(db) == {"qä": ("a",)}
        newer = replace(old, revision="r1a", pools=(replace(pools[0], max_running=9), pools[1]))
        db.execute("INSERT OR REPLACE INTO applied VALUES (1, 8, ?)", (msgspec.json.encode(newer).decode(),))
        db.fleet = db.applied = None  # by a daemon of the older program, which goes on all the same
        record = applied.load(db)
        assert record.fleet == newer
        applied.adopt(db, record, fleet=newer, lifecycles=record.lifecycles)
        record = applied.load(db)
        assert record.fleet == newer
        changed = replace(old, revision="r2", pools=(replace(pools[1], max_running=2),))
        applied.adopt(db, record, fleet=changed, lifecycles=record.lifecycles)
    with closing(Database.open(path)) as db:
        assert applied.load(db).fleet == changed
        assert [name for (name,) in db.rows("SELECT name FROM pools")] == ["qä"]


def test_a_read_only_left_over_does_not_stop_the_next_write(tmp_path: Path) -> None:
    left_over = tmp_path / ".x.tmp"
    left_over.write_text("half")
    left_over.chmod(0o400)
    inode = left_over.stat().st_ino
    with left_over.open():  # keeps the inode number from being used again
        write_durably(tmp_path / "x", "whole", mode=0o400)
        assert (tmp_path / "x").stat().st_ino != inode, "root may write to it, other users not: it is made anew"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_in_the_way_is_a_persons_matter(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    folder.create()
    assert {path.name for path in folder.root.iterdir()} == {"running", "runs", "logs", "workspaces"}
    folder.runs.rmdir()
    folder.runs.write_text("")
    with pytest.raises(ConfigurationError, match="runs") as caught:
        folder.create()
    assert "\n" not in str(caught.value)
