"""The TinyTask source: the contract by REST and by MCP, the old server, several runners, requests, faults."""

import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.integration.task_source_contract import TaskSourceContract, claim, race, retry
from tests.integration.tinytask_servers import RestQueue, forget, old_server, rows, served
from tests.integration.weather import Weather
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.task import Settlement, TaskStatus, Verdict
from tsched.tasks import wire as wire_module
from tsched.tasks.board_reading import LOOKS
from tsched.tasks.commented import CommentedTasks
from tsched.tasks.detected import tinytask_at
from tsched.tasks.ledger import Ledger
from tsched.tasks.mcp_wire import McpWire, streams
from tsched.tasks.rest_wire import RestWire
from tsched.tasks.tinytask import TinyTask
from tsched.tasks.wire import ATTEMPTS, PAGE, Wire, all_pages, base_of

REAL = os.environ.get("TSCHED_TEST_TINYTASK_URL")


@pytest.fixture
def base(task_server: tuple[str, Path]) -> str:
    address, store = task_server
    forget(store)
    return address


@pytest.fixture
def wire(base: str) -> Iterator[RestWire]:
    with closing(RestWire(base)) as one:
        yield one


@pytest.fixture
def source(tmp_path: Path, wire: Wire, base: str) -> Iterator[CommentedTasks]:
    with closing(CommentedTasks(TinyTask(wire), Ledger(tmp_path / "ledger.db", base))) as one:
        yield one


@pytest.fixture
def queue(base: str, tmp_path: Path) -> Iterator[RestQueue]:
    looker = CommentedTasks(TinyTask(RestWire(base)), Ledger(tmp_path / "looker.db", base))
    with closing(looker), closing(RestQueue(base, looker)) as one:
        yield one


class TestByRest(TaskSourceContract):
    """The embedded queue, served, through `/api/v1`."""


class TestByMcp(TaskSourceContract):
    """The embedded queue, served, through MCP tools by streamable HTTP."""

    @pytest.fixture
    def source(self, tmp_path: Path, base: str) -> Iterator[CommentedTasks]:
        wire = McpWire(f"{base}/mcp", events=False)
        with closing(CommentedTasks(TinyTask(wire), Ledger(tmp_path / "ledger.db", base))) as one:
            yield one


@pytest.mark.skipif(REAL is None, reason="TSCHED_TEST_TINYTASK_URL names no TinyTask server to try")
class TestAgainstARealServer(TaskSourceContract):
    """Whatever TSCHED_TEST_TINYTASK_URL names. It must hold no tasks; each test's own are deleted at its end."""

    @pytest.fixture
    def base(self) -> Iterator[str]:
        assert REAL is not None
        with httpx.Client(base_url=f"{REAL.rstrip('/')}/api/v1/") as http:
            everything = "tasks?include_archived=true&limit=0"
            found = len(http.get(everything).raise_for_status().json())
            assert not found, f"{REAL} holds {found} tasks, which tests would take for theirs: name an empty server"
            yield REAL.rstrip("/")
            ours = [one for one in http.get(everything).raise_for_status().json() if one["created_by"] == "op"]
            for task in ours:
                http.delete(f"tasks/{task['id']}").raise_for_status()


# The old server: MCP by server-sent events, no queues


def test_the_old_server_is_driven_through_agents_own_lists(tmp_path: Path) -> None:
    with old_server() as server:
        mine, nobodys = server.add("mine", assigned_to="ada"), server.add("nobody's")
        with closing(tinytask_at(f"{server.base}/mcp", ledger=tmp_path / "ledger.db")) as source:
            (task,) = source.waiting(queues=["dev"], agents=["ada"])
            assert (task.id, task.queue, task.created_at) == (str(mine), "", 1795455787.0)
            assert claim(source, task) is not None
            assert server.tasks[mine]["status"] == "working"
            assert source.settle(task.id, "r1", retry())
            assert (server.tasks[mine]["status"], server.tasks[mine]["assigned_to"]) == ("idle", None)
            assert server.tasks[nobodys]["status"] == "idle"
    assert set(server.calls) <= {"list_tasks", "get_task", "update_task", "add_comment"}


def test_the_old_server_of_these_tests_answers_as_the_real_one_was_recorded() -> None:
    wire = json.loads((Path(__file__).parent / "tinytask_wire.json").read_text(encoding="utf-8"))
    with old_server() as server:
        for example in wire["old"]:
            assert json.dumps(server.answer(example["request"])) == json.dumps(example["answer"]), example["request"]


def test_a_session_that_broke_is_opened_again(tmp_path: Path) -> None:
    with old_server() as server:
        server.add("mine", assigned_to="ada")
        with closing(tinytask_at(f"{server.base}/mcp", ledger=tmp_path / "ledger.db")) as source:
            assert len(source.waiting(queues=[], agents=["ada"])) == 1
            server.drop_sessions()
            assert len(source.waiting(queues=[], agents=["ada"])) == 1


# Servers that are down, slow or wrong: one clear error each, nothing lost


class Canned:
    """A listener that answers every request with the same bytes, then hangs up; None: it never answers.

    `drips`: the answer never ends, a byte at a time.
    """

    def __init__(self, answer: bytes | None, *, drips: bool = False) -> None:
        self._answer = answer
        self._drips = drips
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self.requests = 0
        self.base = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes the one who waits in accept
        self._thread.join()
        self._socket.close()
        for one in self._held:
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                one, _ = self._socket.accept()
            except OSError:
                return
            self._held.append(one)
            self.requests += 1
            if self._answer is not None:
                with suppress(OSError):  # the client has had enough
                    one.recv(65536)
                    one.sendall(self._answer)
                    while self._drips:
                        one.sendall(b" ")
                        time.sleep(0.02)
                    one.shutdown(socket.SHUT_WR)


def _answer(status: str, body: bytes, kind: str = "application/json", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n\r\n"
    return head.encode() + body


def _no_sleep(seconds: float) -> None:
    assert 0 <= seconds <= 2


@pytest.mark.parametrize(
    ("answer", "said", "asked"),
    [
        (_answer("500 Oops", b"{}"), "answers 500", 3),
        (_answer("429 Slow down", b"{}"), "answers 429", 3),
        (_answer("401 No", b"{}"), "TSCHED_TASKS_TOKEN", 1),
        (_answer("418 Teapot", b'{"error": "short and stout"}'), "short and stout", 1),
        (_answer("200 OK", b"<html>"), "no TinyTask answer", 1),
        (_answer("200 OK", b'[{"id": 1}]'), "no TinyTask answer", 1),
        (_answer("200 OK", b'[{"id": 1', length=500), "does not answer", 3),
        (b"HTTP/1.1 200 OK\r\n", "does not answer", 3),
        (b"\x16\x03\x01", "does not answer", 3),
    ],
)
def test_each_trouble_is_named_and_what_is_safe_is_repeated(answer: bytes, said: str, asked: int) -> None:
    with closing(Canned(answer)) as server, closing(RestWire(server.base, sleep=_no_sleep)) as wire:
        with pytest.raises(TransientError, match=said):
            wire.tasks(status="idle")
        assert server.requests == asked


def test_a_comment_is_never_repeated_for_it_may_be_there() -> None:
    with closing(Canned(_answer("500 Oops", b"{}"))) as server, closing(RestWire(server.base)) as wire:
        with pytest.raises(TransientError, match="answers 500"):
            wire.comment(1, author="tsched", text="once")
        assert server.requests == 1


def test_a_server_that_never_answers_does_not_hold_us_up() -> None:
    with (
        closing(Canned(None)) as server,
        closing(RestWire(server.base, timeout=0.2, sleep=_no_sleep)) as wire,
        pytest.raises(TransientError, match="does not answer"),
    ):
        wire.tasks(status="idle")


def test_a_server_whose_answer_never_ends_does_not_hold_us_up() -> None:
    """Each byte comes in time, the whole never does."""
    with (
        closing(Canned(_answer("200 OK", b"[", length=10**9), drips=True)) as server,
        closing(RestWire(server.base, timeout=0.2, sleep=_no_sleep)) as wire,
        pytest.raises(TransientError, match=r"no whole answer within 0\.2 s"),
    ):
        wire.tasks(status="idle")


def test_a_stream_without_end_is_known_for_what_it_is() -> None:
    """A server of streamable HTTP may keep the stream of its answer open."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    with closing(Canned(head, drips=True)) as server:
        assert streams(f"{server.base}/mcp", token=None)


@pytest.mark.parametrize("answer", [_answer("500 Oops", b"{}"), b"\x16\x03\x01"])
def test_by_mcp_too_what_is_safe_is_repeated_with_a_pause_and_nothing_else(answer: bytes) -> None:
    pauses: list[float] = []
    with (
        closing(Canned(answer)) as server,
        closing(McpWire(f"{server.base}/mcp", events=False, sleep=pauses.append)) as wire,
    ):
        with pytest.raises(TransientError, match="does not answer"):
            wire.tasks(status="idle")
        assert (wire.requests, len(pauses)) == (ATTEMPTS, ATTEMPTS - 1)
        assert all(0 < pause <= 2 for pause in pauses)
        with pytest.raises(TransientError, match="does not answer"):
            wire.comment(1, author="tsched", text="once")
        assert wire.requests == ATTEMPTS + 1


def test_a_server_that_is_down_is_an_error_and_found_again(tmp_path: Path) -> None:
    with closing(Canned(b"")) as server:
        base = server.base
    with closing(tinytask_at(f"tinytask+{base}", ledger=tmp_path / "ledger.db")) as source:
        for _ in range(2):
            with pytest.raises(TransientError, match="does not answer"):
                source.waiting(queues=["dev"], agents=[])


def test_no_error_shows_the_password_of_an_address() -> None:
    with closing(Canned(_answer("500 Oops", b"{}"))) as server:
        address = server.base.replace("http://", "http://user:hunter2@")
        with closing(RestWire(address, sleep=_no_sleep)) as wire, pytest.raises(TransientError) as caught:
            wire.tasks(status="idle")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["tinytask+ftp://x", "http://", "tinytask+http://h:port", "tinytask+http://[::1:3000", "http://h/mcp?x=1"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="is no task server's address"):
        base_of(address)


def test_both_forms_of_an_address_name_one_server() -> None:
    for address in ("tinytask+http://h:3000", "http://h:3000/mcp", "tinytask+http://h:3000/mcp/"):
        assert base_of(address) == ("http://h:3000", "http://h:3000/mcp")


@pytest.mark.parametrize(("bound", "most"), [("LARGEST", 2_000_000), ("LISTING", -1.0)])
def test_a_listing_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch, bound: str, most: float) -> None:
    monkeypatch.setattr(wire_module, bound, most)
    asked = iter(range(1000))

    def page(limit: int, offset: int) -> list[msgspec.Raw]:
        next(asked)  # StopIteration: it is asked for ever
        return [msgspec.Raw(msgspec.json.encode(row)) for row in rows(offset + limit)[offset:]]

    with pytest.raises(TransientError, match=r"s lists tasks without an end \(\d+ up to now\)"):
        all_pages(page, "s")


def test_neither_form_of_the_server_takes_the_token_to_another_host() -> None:
    with closing(Canned(b"")) as other:
        head = f"HTTP/1.1 307 Elsewhere\r\nlocation: {other.base}/x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        with closing(Canned(head.encode())) as server:
            with (
                closing(RestWire(server.base, token="s3cret", sleep=_no_sleep)) as rest,
                pytest.raises(TransientError, match="sends on to"),
            ):
                rest.tasks(status="idle")
            assert not streams(f"{server.base}/mcp", token="s3cret")
            for events in (False, True):
                with (
                    closing(McpWire(f"{server.base}/mcp", events=events, token="s3cret", sleep=_no_sleep)) as mcp,
                    pytest.raises(TransientError, match="does not answer"),
                ):
                    mcp.tasks(status="idle")
            assert server.requests >= 4
        assert other.requests == 0


def test_a_listing_longer_than_a_page_is_read_to_its_end() -> None:
    everything = rows(2 * PAGE + 7)
    raws = [msgspec.Raw(msgspec.json.encode(row)) for row in everything]
    assert all_pages(lambda limit, offset: raws[offset : offset + limit], "s").rows == everything
    # A server without offsets gives the same page again: then all is asked for at once.
    assert all_pages(lambda limit, offset: raws[:limit] if limit else raws, "s").rows == everything


# Several runners, and what a pass costs


def test_many_runners_at_once_claim_each_task_once(tmp_path: Path, base: str, queue: RestQueue) -> None:
    tasks = [queue.add("t", queue="dev") for _ in range(8)]
    won = race(lambda name: tinytask_at(f"tinytask+{base}", ledger=tmp_path / f"{name}.db"), tasks)
    assert sorted(task_id for task_id, _ in won) == sorted(task.id for task in tasks)
    for task_id, run in won:
        assert (queue.task(task_id).status, queue.task(task_id).claim_run) == (TaskStatus.WORKING, run)


def test_what_a_pass_asks_does_not_grow_with_tasks_or_claims(
    source: CommentedTasks, wire: RestWire, queue: RestQueue
) -> None:
    for number in range(30):
        task = queue.add("t", queue="dev")
        assert claim(source, task, run=f"r{number}") is not None
        if number % 2:
            queue.complete(task.id)  # by its agent, whose run still goes on
    for _ in range(40):
        queue.add("waiting", queue="dev")
    before = wire.requests
    assert len(source.held("me")) == 15 + LOOKS
    assert len(source.waiting(queues=["dev"], agents=["ada"])) == 40
    assert wire.requests - before == 2 + LOOKS


@pytest.mark.parametrize(("queues", "tasks"), [(1, 30), (5, 300), (25, 2_000)])
def test_a_pass_asks_once_a_queue_and_twice_besides_at_most(
    tmp_path: Path, task_server: tuple[str, Path], queues: int, tasks: int
) -> None:
    base, store = task_server
    forget(store)
    names = [f"q{number}" for number in range(queues)]
    with closing(sqlite3.connect(store)) as db, db:
        db.executemany(
            "INSERT INTO tasks (title, queue, created_at, updated_at) VALUES ('t', ?, 1, 1)",
            [(names[number % queues],) for number in range(tasks)],
        )
    wires: tuple[RestWire | McpWire, ...] = (RestWire(base), McpWire(f"{base}/mcp", events=False))
    for wire in wires:
        with closing(CommentedTasks(TinyTask(wire), Ledger(tmp_path / "ledger.db", base))) as source:
            source.waiting(queues=names, agents=["ada"])  # by MCP the first call says hello
            before = wire.requests
            assert source.held("me") == source.adrift() == source.others("me") == []
            assert len(source.waiting(queues=names, agents=["ada"])) == tasks
            assert 0 < wire.requests - before <= queues + 2


def test_a_run_costs_six_requests_at_its_start_and_six_at_its_end(
    source: CommentedTasks, wire: RestWire, queue: RestQueue
) -> None:
    task = queue.add("t", queue="dev")
    before = wire.requests
    assert claim(source, task) is not None
    assert wire.requests - before <= 6
    before = wire.requests
    source.get([task.id])
    source.comment(task.id, author="tsched", text="failed", tag="r1")
    assert source.settle(task.id, "r1", retry())
    assert wire.requests - before <= 6


def test_figures_are_kept_on_the_server_and_reset_by_a_person(
    source: CommentedTasks, base: str, queue: RestQueue, tmp_path: Path
) -> None:
    task = queue.add("t", queue="dev")
    for number in range(2):
        (now,) = source.waiting(queues=["dev"], agents=[])
        assert (now.attempts, now.runs) == (number, number)
        assert claim(source, now, run=f"r{number}") is not None
        assert source.settle(task.id, f"r{number}", retry())
    # Another runner knows nothing of it at first, is told at its claim, and has the figures from then on.
    with closing(tinytask_at(f"tinytask+{base}", ledger=tmp_path / "other.db")) as other:
        (seen,) = other.waiting(queues=["dev"], agents=[])
        assert claim(other, seen, run="o1") is None
        (seen,) = other.waiting(queues=["dev"], agents=[])
        assert (seen.attempts, seen.runs) == (2, 2)
    (now,) = source.waiting(queues=["dev"], agents=[])
    assert claim(source, now, run="r2") is not None
    assert source.settle(task.id, "r2", Settlement(verdict=Verdict.PARK))
    assert queue.task(task.id).status is TaskStatus.PARKED
    queue.assign(task.id, None)
    (again,) = source.waiting(queues=["dev"], agents=[])
    assert (again.attempts, again.runs) == (0, 0)


def test_a_claim_whose_answer_was_lost_is_found_again(
    source: CommentedTasks, wire: RestWire, queue: RestQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = queue.add("t", queue="dev")
    with monkeypatch.context() as broken:
        broken.setattr(wire, "update", _unreachable)
        with pytest.raises(TransientError):
            claim(source, task)
    assert source.waiting(queues=["dev"], agents=[]) == []  # it is ours until it is settled
    assert [one.claim_run for one in source.held("me")] == ["r1"]
    assert source.settle(task.id, "r1", retry(charged=False))
    assert len(source.waiting(queues=["dev"], agents=[])) == 1


def test_a_run_that_came_and_went_before_the_claim_was_written_counts(
    tmp_path: Path, base: str, source: CommentedTasks, wire: RestWire, queue: RestQueue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    task, write = queue.add("t", queue="dev"), wire.comment

    def late(task_id: int, *, author: str, text: str) -> None:
        monkeypatch.undo()
        with closing(tinytask_at(f"tinytask+{base}", ledger=tmp_path / "other.db")) as other:
            assert other.claim(task, agent="ben", run_id="r0", runner_id="other") is not None
            assert other.settle(task.id, "r0", retry())
        write(task_id, author=author, text=text)

    monkeypatch.setattr(wire, "comment", late)
    assert claim(source, task) is None, "its figures were of before that run"
    now = queue.task(task.id)
    assert (now.attempts, now.runs, now.claim_run) == (1, 1, None)
    assert claim(source, now) is not None


def _unreachable(*_: object, **__: object) -> None:
    raise TransientError("the line is cut")


# What a review found


@pytest.mark.parametrize("status", ["404 Nothing here", "502 Bad gateway"])
def test_an_odd_answer_while_a_server_starts_decides_nothing(tmp_path: Path, base: str, status: str) -> None:
    with (
        closing(Weather(base)) as proxy,
        closing(tinytask_at(f"tinytask+{proxy.base}", ledger=tmp_path / "l.db")) as source,
    ):
        clear, proxy.fault = proxy.fault, lambda method, path: _answer(status, b"<h1>Nothing here</h1>", "text/html")
        with pytest.raises(TransientError):
            source.waiting(queues=["dev"], agents=[])
        proxy.fault = clear
        assert source.waiting(queues=["dev"], agents=[]) == []


def test_a_proxys_404_is_no_word_on_a_task(tmp_path: Path, base: str, queue: RestQueue) -> None:
    task = queue.add("t", queue="dev")
    with (
        closing(Weather(base)) as proxy,
        closing(tinytask_at(f"tinytask+{proxy.base}", ledger=tmp_path / "l.db")) as source,
    ):
        assert claim(source, task) is not None
        clear, proxy.fault = (
            proxy.fault,
            lambda method, path: _answer("404 Not Found", b"<h1>Nothing</h1>", "text/html"),
        )
        with pytest.raises(TransientError, match="is a proxy in between"):
            source.settle(task.id, "r1", Settlement(verdict=Verdict.COMPLETE))
        proxy.fault = clear
        assert source.settle(task.id, "r1", Settlement(verdict=Verdict.COMPLETE))


def test_a_lost_ledger_loses_no_claim(tmp_path: Path, base: str, queue: RestQueue) -> None:
    task = queue.add("t", queue="dev")
    with closing(tinytask_at(f"tinytask+{base}", ledger=tmp_path / "l.db")) as source:
        assert claim(source, task) is not None
    with closing(tinytask_at(f"tinytask+{base}", ledger=tmp_path / "another.db")) as source:
        source.held("me")
        assert source.adrift() == []
        assert [one.claim_run for one in source.held("me")] == ["r1"]


def test_a_wrong_token_is_named_at_the_first_call(tmp_path: Path) -> None:
    with (
        served(tmp_path / "state", token="right") as base,
        closing(tinytask_at(f"tinytask+{base}", ledger=tmp_path / "l.db", token="wrong")) as source,
        pytest.raises(TransientError, match="set TSCHED_TASKS_TOKEN to a token it takes"),
    ):
        source.waiting(queues=["dev"], agents=[])


def test_figures_that_are_none_are_no_figures(tmp_path: Path, base: str, queue: RestQueue) -> None:
    task = queue.add("t", queue="dev")
    for figure in ("nan", "inf", "-1", "1e999"):
        for words in (f"attempts=0 runs=0 not_before={figure}", f"attempts={figure} runs=0 not_before=0"):
            queue._json("POST", f"tasks/{task.id}/comments", {"content": f"tsched-end x {words} left=idle:-:dev"})
    for _ in range(2):
        with closing(tinytask_at(f"tinytask+{base}", ledger=tmp_path / "l.db")) as source:
            assert source.get([task.id])[task.id].not_before == 0
    with closing(sqlite3.connect(tmp_path / "l.db", isolation_level=None)) as db:
        db.execute("INSERT INTO tasks VALUES (?, '1', 'no JSON')", (base,))
    with closing(tinytask_at(f"tinytask+{base}", ledger=tmp_path / "l.db")) as source:
        assert len(source.waiting(queues=["dev"], agents=[])) == 1
