"""A task server in bad weather: one line, ever fewer calls, work goes on, nothing is lost or done twice."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from tests.e2e.world import LIMITS
from tests.integration.passes import Runner, World, faults, pool, runner
from tests.integration.test_tinytask import Canned, _answer
from tests.integration.tinytask_servers import old_server, served
from tests.integration.weather import Weather
from tsched.model.errors import TransientError
from tsched.tasks import mcp_wire, rest_wire, wire
from tsched.tasks.mcp_wire import McpWire
from tsched.tasks.rest_wire import RestWire

DOWN = _answer("503 Down", b"down", "text/plain")
QUEUES = ("wx", "odd", "echo", "race", "sick")


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A runner whose pools serve these queues of the server behind the weather."""

    one: Runner
    weather: Weather


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    world = World(tmp_path_factory.mktemp("world"))
    agents = dict(zip(QUEUES, ("ada", "ben", "cy", "dee", "eve"), strict=True))
    world.recipes(*agents.values())
    world.push("fleet", limits=LIMITS, **{queue: pool(queue, name, limit=5) for queue, name in agents.items()})
    with (
        served(tmp_path_factory.mktemp("served")) as behind,
        closing(Weather(behind)) as weather,
        runner(world, TSCHED_TASKS=f"tinytask+{weather.base}") as one,
    ):
        one.once()
        yield Station(one=one, weather=weather)
        world.settled()


@pytest.fixture
def station(built: Station) -> Station:
    """In fair weather, with nobody left alone."""
    clear(built.weather)
    built.one.host.server.outage = None
    return built


def clear(weather: Weather) -> None:
    weather.fault = lambda method, path: None
    weather.amend = lambda path, body: body
    weather.before = lambda method, path, body: None


class Hours:
    """The clock by which a runner has patience."""

    def __init__(self, runner: Runner) -> None:
        self.now = 1000.0
        runner.host.server.clock = lambda: self.now


TROUBLES = {
    "500": (_answer("500 Oops", b"{}"), "answers 500 to GET tasks"),
    "a page": (_answer("200 OK", b"<html>hello", "text/html"), "answers what is no TinyTask answer"),
    "another shape": (_answer("200 OK", b'{"tasks": []}'), "answers what is no TinyTask answer"),
    "no tasks": (_answer("200 OK", b'[{"id": 1}, 7]'), "answers what is no TinyTask answer"),
    "half an answer": (_answer("200 OK", b'[{"id": 1', length=500), "does not answer (peer closed connection"),
    "nothing": (b"", "does not answer (Server disconnected"),
    "too busy": (
        b"HTTP/1.1 429 Slow\r\nretry-after: 1200\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "answers 429 to GET tasks and asks us to wait 1200 s",
    ),
    "a loop": (
        b"HTTP/1.1 302 Found\r\nlocation: /api/v1/tasks\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "sends on to /api/v1/tasks (302): set TSCHED_TASKS to the server's own address",
    ),
    "too much": (_answer("200 OK", b"[" + b" " * 50_000), "does not answer (more than 20000 bytes)"),
}


def test_each_trouble_is_one_line_and_passes_and_results_wait_for_it(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_wire, "LARGEST", 20_000)
    one, weather = station.one, station.weather
    hours = Hours(one)
    held = weather.add("hold", "wx")
    one.until(lambda: one.world.running(str(held)), "it runs")
    waits = []
    for name, (raw, words) in TROUBLES.items():
        weather.fault = lambda method, path, raw=raw: raw  # type: ignore[misc]
        (line,) = faults(one.once())
        assert line.startswith(f"ERROR - task server: {weather.base} {words}"), name
        asked = weather.requests
        assert faults(one.once()) == [], name
        assert weather.requests == asked, f"{name}: it is left alone"
        assert one.ready()[0] == "PassFailed", name
        assert words in one.ready()[1], name
        outage = one.host.server.outage
        assert outage is not None
        waits.append(outage.until - hours.now)
        weather.fault = lambda method, path: None
        hours.now += 1200.0
        said = one.once()
        assert "INFO - The task server answers again, after 20m" in said, name
        assert one.ready()[0] == "Applied", name
    assert waits == [1200.0 if name == "too busy" else 1.0 for name in TROUBLES]
    weather.fault = lambda method, path: DOWN
    one.world.open(str(held))
    assert "1 run wait for it" in one.until(lambda: text if (text := results(one)) else "", "the result waits")
    weather.fault = lambda method, path: None
    one.host.wake()
    one.until(lambda: weather.task(held)["status"] == "complete", "it is told")
    assert [word.split()[0] for word in weather.words(held)] == ["tsched-claim", "tsched-end"]


def results(one: Runner) -> str:
    """What the newest pass said of results, asked anew."""
    one.host.wake()
    one.host.server.outage = None
    return next((line for line in faults(one.once()) if "wait for it" in line), "")


def test_what_is_no_task_is_named_once_and_holds_up_no_other(station: Station) -> None:
    one, weather = station.one, station.weather
    good, tall = weather.add("quick", "odd"), weather.add("quick", "odd")

    def spoilt(path: str, body: bytes) -> bytes:
        if not path.startswith("/api/v1/tasks?"):
            return body
        rows = json.loads(body)
        for row in rows:
            if row["id"] == tall:
                row["title"] = "quick " + "x" * 2_000_000
        if "status=idle" not in path or "offset" in path:
            return json.dumps(rows).encode()
        like: dict[str, object] = {
            "title": "t",
            "status": "idle",
            "created_at": "",
            "updated_at": "",
            "queue_name": "odd",
        }
        more: list[dict[str, object]] = [
            {"id": "../../x"},
            {"id": 900, "status": "dancing"},
            {"id": -1},
            {"id": 2**70},
            {"id": 901, "title": None},
        ]
        return json.dumps([*({**like, **one_} for one_ in more), 7, *rows]).encode()

    weather.amend = spoilt
    said = one.once()
    lines = faults(said)
    assert len(lines) == 6, said
    assert all(line.endswith("mend it on the task server") for line in lines)
    assert "Task '../../x' can't be used and is left out: Expected `int`, got `str`" in said
    assert "Task 900 can't be used and is left out: task 900 has the status 'dancing'" in said
    assert [run.title[:7] for run in one.runs()] == ["quick", "quick x"]
    assert max(len(run.title) for run in one.runs()) == 500
    assert faults(one.once()) == []
    one.until(lambda: {weather.task(n)["status"] for n in (good, tall)} == {"complete"}, "they are done")


def test_an_answer_about_another_task_starts_and_changes_nothing(station: Station) -> None:
    one, weather = station.one, station.weather
    wanted, other = weather.add("quick", "echo"), weather.add("quick", "elsewhere")
    weather.amend = lambda path, body: (
        weather.http.get(f"tasks/{other}").content if path == f"/api/v1/tasks/{wanted}" else body
    )
    words = f"{weather.base} answers with task {other} where task {wanted} was asked for: is a cache in between?"
    assert faults(one.once()) == [f"ERROR - task {wanted}: {words}"]
    assert weather.words(wanted) == weather.words(other) == []
    assert weather.task(other)["status"] == "idle"
    weather.amend = lambda path, body: body
    one.until(lambda: weather.task(wanted)["status"] == "complete", "it is done once the cache is out of the way")
    assert len([word for word in weather.words(wanted) if word.startswith("tsched-claim")]) == 1


def test_a_claim_that_another_runner_won_in_between_starts_nothing(station: Station) -> None:
    one, weather = station.one, station.weather
    number = weather.add("quick", "race")
    theirs = f"tsched-claim theirs runner={'f' * 32} agent=eve queue=race attempts=0 runs=0"

    def first(method: str, path: str, body: bytes) -> None:
        if method == "POST" and path == f"/api/v1/tasks/{number}/comments":
            weather.http.post(f"tasks/{number}/comments", json={"content": theirs, "created_by": "tsched"})

    weather.before = first
    said = one.once()
    assert f"INFO - Task {number} was taken or changed meanwhile" in said
    assert faults(said) == []
    assert weather.task(number)["status"] == "idle", "the winner alone sets it working"
    assert one.runs() == []
    assert not list((one.world.state / "running").glob(f"*task_{number}*"))
    weather.before = lambda method, path, body: None
    assert faults(one.once()) == []
    assert weather.words(number) == [theirs], "the loser leaves no word"


def test_one_task_that_the_server_cannot_speak_of_holds_up_no_result(station: Station) -> None:
    one, weather = station.one, station.weather
    sick, sound = weather.add("hold", "sick"), weather.add("hold", "sick")
    one.until(lambda: one.world.running(str(sick)) and one.world.running(str(sound)), "both run")
    weather.fault = lambda method, path: _answer("500 Oops", b"{}") if path == f"/api/v1/tasks/{sick}" else None
    one.world.open(str(sick), str(sound))
    one.until(lambda: weather.task(sound)["status"] == "complete", "the sound one is told")
    assert weather.task(sick)["status"] == "working"
    assert faults("\n".join(one.once() for _ in range(3))) == [], "it is said once"
    assert f"tasks/{sick}" in one.ready()[1], "and shown all the while"
    weather.fault = lambda method, path: None
    one.until(lambda: weather.task(sick)["status"] == "complete", "the sick one too, once it can be")


def test_by_mcp_too_an_answer_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_wire, "LARGEST", 50_000)
    monkeypatch.setattr(wire, "ATTEMPTS", 1)
    with old_server() as server, closing(McpWire(f"{server.base}/mcp", events=True, sleep=lambda _: None)) as one:
        server.add("small")
        assert len(one.tasks(status="idle").rows) == 1
        server.add("x" * 100_000)
        with pytest.raises(TransientError, match=r"does not answer \(the answer is too large"):
            one.tasks(status="idle")
        server.tasks[2]["title"] = "small again"
        assert len(one.tasks(status="idle").rows) == 2


def test_a_server_that_names_a_time_is_not_asked_again_at_once() -> None:
    raw = b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    with closing(Canned(raw)) as server, closing(RestWire(server.base)) as one:
        with pytest.raises(TransientError, match="asks us to wait 7 s") as caught:
            one.tasks(status="idle")
        assert (server.requests, caught.value.after) == (1, 7.0)
