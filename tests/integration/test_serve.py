"""`tsched tasks serve`: the recorded wire replayed, the guide's curl lines, a real MCP client, limits, shared use."""

import asyncio
import json
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from jsonschema import Draft202012Validator
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from tests.integration.tinytask_servers import forget, served
from tsched.model.task import Settlement, Task, Verdict
from tsched.tasks.detected import tinytask_at
from tsched.tasks.embedded import EmbeddedTasks
from tsched.tasks.embedded_operations import OperatedTasks
from tsched.tasks.mcp_server import BATCH
from tsched.tasks.routes import MOST, openapi
from tsched.tasks.source import TaskSource

WIRE = json.loads((Path(__file__).parent / "tinytask_wire.json").read_text(encoding="utf-8"))
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
BOTH = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


@pytest.fixture
def base(task_server: tuple[str, Path]) -> str:
    address, store = task_server
    forget(store)
    return address


@pytest.fixture
def tasks_db(task_server: tuple[str, Path]) -> Path:
    return task_server[1]


def timeless(text: str) -> str:
    """The text with all moments alike, and without what names the server itself."""
    text = re.sub(r'"uptime":[\d.]+,"sessionCount":\d', '"uptime":0,"sessionCount":0', MOMENT.sub("NOW", text))
    text = re.sub(r'"protocolVersion":"[^"]*"', '"protocolVersion":"ANY"', text)
    return re.sub(r'"serverInfo":\{[^}]*\}', '"serverInfo":{}', text)


def test_what_was_recorded_of_tinytask_is_answered_alike(base: str) -> None:
    for example in WIRE["mcp"]:
        headers = {"content-type": "application/json"}
        headers |= {"accept": example["accept"]} if example["accept"] else {"accept": "*/*"}
        answer = httpx.post(f"{base}/mcp", json=example["request"], headers=headers)
        assert answer.status_code == example["status"], example["title"]
        if example["status"] != 202:
            assert timeless(answer.text).strip() == timeless(example["answer"]).strip(), example["title"]
    for example in WIRE["rest"]:
        if example["path"].startswith("/api/queues/"):
            continue  # the guide's own path: a 404 there, answered here
        answer = httpx.request(example["method"], base + example["path"], json=example["body"])
        assert answer.status_code == example["status"], example["path"]
        wanted = json.dumps(example["answer"], separators=(",", ":"), ensure_ascii=False)
        assert timeless(answer.text) == timeless(wanted), example["path"]


def test_a_batch_is_answered_one_event_each(base: str) -> None:
    calls = [
        {"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": "list_queues", "arguments": {}}}
        for n in (90, 91)
    ]
    answer = httpx.post(f"{base}/mcp", json=calls, headers=BOTH)
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data")]
    assert [event["id"] for event in events] == [90, 91]


def test_the_guides_curl_lines_give_the_right_answer(base: str) -> None:
    first = httpx.post(f"{base}/api/tasks", json={"title": "a", "queue_name": "dev"}).json()
    httpx.post(f"{base}/api/tasks", json={"title": "b", "queue_name": "dev", "blocked_by_task_id": first["id"]})
    assert len(httpx.get(f"{base}/api/queues/dev/tasks?status=idle").json()) == 2
    assert httpx.get(f"{base}/api/queues/qa/tasks?status=idle").json() == []
    shown = [
        (one["is_currently_blocked"], one["blocked_by_task_id"]) for one in httpx.get(f"{base}/api/tasks").json()
    ]
    assert shown == [(False, None), (True, 1)]


def test_the_official_client_lists_and_calls_the_tools(base: str) -> None:
    async def story() -> None:
        async with streamable_http_client(f"{base}/mcp") as (reader, writer, _), ClientSession(reader, writer) as one:
            await one.initialize()
            names = {tool.name for tool in (await one.list_tools()).tools}
            assert {"create_task", "get_task", "update_task", "add_comment", "move_task", "signup_for_task"} <= names
            made = await one.call_tool("create_task", {"title": "by MCP", "queue_name": "dev"})
            assert json.loads(made.content[0].text)["title"] == "by MCP"  # type: ignore[union-attr]
            wrong = await one.call_tool("get_unassigned_in_queue", {"queue_name": "dev"})
            assert wrong.isError

    asyncio.run(story())


def test_subtasks_comments_links_and_tags(base: str) -> None:
    with httpx.Client(base_url=f"{base}/api/v1/") as http:
        parent = http.post("tasks", json={"title": "p", "queue_name": "dev", "tags": ["x", "y"]}).json()
        assert parent["tags"] == ["x", "y"]
        children = [http.post(f"tasks/{parent['id']}/subtasks", json={"title": t}).json() for t in "ab"]
        assert [(one["parent_task_id"], one["queue_name"]) for one in children] == [(1, "dev"), (1, "dev")]
        assert http.get("tasks/1/hierarchy").json()["subtask_count"] == 2
        for child in children:
            http.patch(f"tasks/{child['id']}", json={"status": "complete"})
        assert http.get("tasks/1").json()["status"] == "complete"
        assert http.patch("tasks/1/parent", json={"new_parent_id": 2}).status_code == 400
        comment = http.post("tasks/1/comments", json={"content": " well ", "created_by": "ada"}).json()
        assert http.patch(f"comments/{comment['id']}", json={"content": "better"}).json()["content"] == "better"
        link = http.post("tasks/1/links", json={"url": "file.txt", "description": "result"}).json()
        seen = http.get("tasks/1").json()
        assert ([c["content"] for c in seen["comments"]], seen["links"]) == (["better"], [link])
        assert http.delete(f"links/{link['id']}").json() == {"success": True, "id": link["id"]}
        assert http.delete(f"links/{link['id']}").status_code == 404
        assert http.delete("tasks/1").json() == {"success": True, "id": 1}
        assert http.get("tasks/2").json()["parent_task_id"] is None


def test_our_own_states_are_shown_in_tinytasks_terms(base: str, tasks_db: Path) -> None:
    with (
        closing(OperatedTasks(tasks_db)) as queue,
        httpx.Client(base_url=f"{base}/api/v1/") as http,
    ):
        queue.add("cancelled", queue="dev")
        queue.cancel("1")
        assert http.get("tasks").json() == []
        assert http.get("tasks?include_archived=true").json()[0]["archived_at"] is not None
        http.post("tasks", json={"title": "parked", "queue_name": "dev", "assigned_to": "parked"})
        assert queue.task("2").status == "parked"
        http.patch("tasks/2", json={"assigned_to": None})
        assert (queue.task("2").status, queue.task("2").assigned_to) == ("idle", None)
        http.post("tasks/2/archive")
        assert queue.task("2").status == "cancelled"
        assert queue.reopen("2").status == "idle"
        assert http.get("tasks/2").json()["archived_at"] is None


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "tasks", b"{", 400, "no JSON"),
        ("POST", "tasks", b"[]", 400, "no JSON object"),
        ("POST", "tasks", b"{}", 400, "title: Required"),
        ("POST", "tasks", b'{"title": " "}', 400, "Task title is required"),
        ("POST", "tasks", b'{"title": "t", "queue_name": "No Queue"}', 400, "is no queue name"),
        ("POST", "tasks", b'{"title": "t", "priority": 1.5}', 400, "priority: Expected number"),
        ("POST", "tasks", b'{"title": "t", "blocked_by_task_id": 7}', 404, "Blocking task not found: 7"),
        ("GET", "tasks?limit=x", b"", 400, "limit must be a non-negative integer"),
        ("GET", "tasks?status=done", b"", 400, "received 'done'"),
        ("GET", "tasks/99999999999999999999", b"", 404, "not found"),
        ("GET", "nothing", b"", 404, "Not found"),
        ("PATCH", "tasks/1/parent", b"{}", 400, "new_parent_id is required"),
        ("POST", "tasks", b" " * (MOST + 1), 413, "larger than"),
    ],
)
def test_a_bad_request_is_refused_in_words(
    base: str, method: str, path: str, body: bytes, status: int, said: str
) -> None:
    answer = httpx.request(
        method, f"{base}/api/v1/{path}", content=body, headers={"content-type": "application/json"}
    )
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
    assert httpx.get(f"{base}/api/v1/tasks").json() == []


def test_a_token_opens_all_but_the_health_page(tmp_path: Path) -> None:
    with served(tmp_path / "state", token="canary") as base:
        assert httpx.get(f"{base}/health").json()["status"] == "healthy"
        assert httpx.get(f"{base}/api/v1/tasks").status_code == 401
        assert httpx.post(f"{base}/mcp", json={}, headers=BOTH).status_code == 401
        assert httpx.get(f"{base}/api/v1/tasks", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert httpx.get(f"{base}/api/v1/tasks", headers={"authorization": "Bearer canary"}).json() == []
        assert httpx.get(f"{base}/api/v1/tasks", headers={"authorization": "bearer canary"}).status_code == 200
        with closing(tinytask_at(f"tinytask+{base}", ledger=tmp_path / "l.db", token="canary")) as source:
            assert source.waiting(queues=["dev"], agents=[]) == []


def test_a_page_of_another_site_reaches_nothing(base: str) -> None:
    assert httpx.get(f"{base}/api/v1/tasks", headers={"host": "evil.example"}).status_code == 421


def test_it_is_not_opened_to_others_without_a_token(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tsched", "tasks", "serve", "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(
        command,
        env={"TSCHED_STATE": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "TSCHED_TASKS_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_said(base: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tsched", "tasks", "serve", "--port", base.rpartition(":")[2]]
    done = subprocess.run(
        command,
        env={"TSCHED_STATE": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "choose another" in done.stderr


def test_the_openapi_document_names_what_is_served(base: str) -> None:
    document = httpx.get(f"{base}/openapi.json").json()
    assert document == openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation["parameters"]:
                Draft202012Validator.check_schema(parameter["schema"])
            place = re.sub(r"\{(\w+)\}", lambda found: "1" if found[1].endswith("id") else "x", path)
            answer = httpx.request(method, base + place, json={} if "requestBody" in operation else None)
            assert answer.json() != {"error": "Not found"}, f"{method} {path}"


def test_runners_on_the_store_and_over_http_share_one_queue(base: str, tmp_path: Path, tasks_db: Path) -> None:
    with closing(OperatedTasks(tasks_db)) as queue:
        tasks = [queue.add("t", queue="dev") for _ in range(20)]
    won: list[tuple[str, str]] = []

    def take(source: TaskSource, runner: str, order: Sequence[Task]) -> None:
        for task in order:
            run = f"{runner}-{task.id}"
            if source.claim(task, agent="ada", run_id=run, runner_id=runner) is not None:
                won.append((task.id, run))
                begun.set()

    begun = threading.Event()

    def on_the_store() -> None:
        assert begun.wait(30)  # HTTP is the slower way: it has one task first
        with closing(EmbeddedTasks(tasks_db)) as source:
            take(source, "here", tasks)

    def over_http() -> None:
        with closing(tinytask_at(f"tinytask+{base}", ledger=tmp_path / "l.db")) as source:
            take(source, "there", tasks[::-1])

    both = [threading.Thread(target=one) for one in (on_the_store, over_http)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sorted(task_id for task_id, _ in won) == sorted(task.id for task in tasks)
    assert {run.partition("-")[0] for _, run in won} == {"here", "there"}
    with closing(OperatedTasks(tasks_db)) as queue:
        for task_id, run in won:
            assert (queue.task(task_id).status, queue.task(task_id).claim_run) == ("working", run)


# What a review found


SIMPLE = {"content-type": "text/plain"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example", **SIMPLE}, 403),
        ({"origin": "null", "content-type": "application/json"}, 403),
        ({"sec-fetch-site": "cross-site", "content-type": "application/json"}, 403),
        (SIMPLE, 415),
        ({"content-type": "application/json; charset=utf-8"}, 201),
    ],
)
def test_a_page_of_another_site_can_command_nothing(base: str, headers: dict[str, str], status: int) -> None:
    for path in ("api/v1/tasks", "mcp"):
        accept = {"accept": "application/json, text/event-stream"}
        answer = httpx.post(f"{base}/{path}", content=b'{"title": "evil"}', headers=headers | accept)
        assert answer.status_code == status or (path == "mcp" and status in (201, 415))
    own = httpx.get(f"{base}/api/v1/tasks", headers={"origin": base})
    assert own.status_code == 200
    assert len(own.json()) == (status == 201)


def test_what_others_wrote_is_taken_for_a_page_by_no_browser(base: str) -> None:
    httpx.post(f"{base}/api/v1/tasks", json={"title": "<script>alert(1)</script>"})
    for path in ("api/v1/tasks", "api/v1/tasks/none", "nowhere", "health"):
        answer = httpx.get(f"{base}/{path}")
        assert answer.headers["content-type"] == "application/json", path
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["content-security-policy"].startswith("default-src 'none'"), path
        assert answer.headers["cache-control"] == "no-store", path


def test_a_host_header_opens_nothing(tmp_path: Path) -> None:
    with served(tmp_path / "state", token="t0ken") as base:
        for host in ("x/health?", "x/healthz#"):
            answer = httpx.get(f"{base}/api/v1/tasks", headers={"host": host})
            assert answer.status_code in (400, 401)


@pytest.mark.parametrize(
    "body",
    [
        {"title": "x", "tags": ["\ud83d"]}, {"title": "\ud83d"}, {"title": "x", "created_by": "\ud83d"},
        {"title": "x", "assigned_to": "a\0"}, {"title": "x", "priority": int("9" * 400)},
    ],
)  # fmt: skip
def test_text_that_is_none_is_refused_and_breaks_nothing(base: str, body: dict[str, object]) -> None:
    sent = httpx.post(f"{base}/api/v1/tasks", content=json.dumps(body), headers={"content-type": "application/json"})
    assert sent.status_code == 400, sent.text
    assert httpx.get(f"{base}/api/v1/tasks").json() == []


def test_json_without_end_is_refused(base: str) -> None:
    for path in ("api/v1/tasks", "mcp"):
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        assert httpx.post(f"{base}/{path}", content=b"[" * 100_000, headers=headers).status_code == 400


def test_a_batch_has_an_end(base: str) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    accept = {"accept": "application/json, text/event-stream"}
    assert httpx.post(f"{base}/mcp", json=[call] * BATCH, headers=accept).status_code == 200
    assert httpx.post(f"{base}/mcp", json=[call] * (BATCH + 1), headers=accept).status_code == 400


def test_an_archived_task_stays_so_whatever_its_agent_writes(base: str) -> None:
    def change(**facts: object) -> dict[str, object]:
        found: dict[str, object] = httpx.patch(f"{base}/api/v1/tasks/1", json=facts).json()
        return found

    httpx.post(f"{base}/api/v1/tasks", json={"title": "x", "queue_name": "dev"})
    httpx.post(f"{base}/api/v1/tasks/1/archive")
    for status in ("working", "idle", "complete", "idle"):
        assert change(status=status, priority=3)["archived_at"] is not None
        assert httpx.get(f"{base}/api/v1/tasks").json() == []


def test_a_parent_follows_its_subtasks_states_and_nothing_else_of_them(base: str, tasks_db: Path) -> None:
    def task(number: int) -> dict[str, object]:
        found: dict[str, object] = httpx.get(f"{base}/api/v1/tasks/{number}").json()
        return found

    httpx.post(f"{base}/api/v1/tasks", json={"title": "parent", "queue_name": "dev"})
    httpx.post(f"{base}/api/v1/tasks/1/subtasks", json={"title": "child"})
    with closing(OperatedTasks(tasks_db)) as store:
        child = store.task("2")
        assert store.claim(child, agent="ada", run_id="r1", runner_id="me") is not None
        assert task(1)["status"] == "working"
        assert store.adrift() == [], "it works because its subtask does"
        assert store.settle("2", "r1", Settlement(verdict=Verdict.COMPLETE))
        assert task(1)["status"] == "complete"
        store.reopen("2")
        assert task(1)["status"] == "idle"
        store.complete("2")
    httpx.patch(f"{base}/api/v1/tasks/1", json={"status": "idle"})
    httpx.patch(f"{base}/api/v1/tasks/2", json={"priority": 5})
    assert task(1)["status"] == "idle", "a person's word, which a subtask's new priority does not undo"


def test_who_is_on_the_store_itself_is_seen_by_those_who_come_over_http(
    base: str, tmp_path: Path, tasks_db: Path
) -> None:
    """Its claims are no comments; the server says them as such, and no comment of others ends them."""
    httpx.post(f"{base}/api/v1/tasks", json={"title": "x", "queue_name": "dev"})
    with (
        closing(OperatedTasks(tasks_db)) as store,
        closing(tinytask_at(f"tinytask+{base}", ledger=tmp_path / "far.db")) as far,
    ):
        (task,) = store.waiting(queues=["dev"], agents=[])
        assert store.claim(task, agent="ada", run_id="r1", runner_id="here") is not None
        store.move("1", "qa")  # its agent hands it over and goes on
        (seen,) = far.waiting(queues=["qa"], agents=[])
        assert far.claim(seen, agent="ben", run_id="r2", runner_id="far") is None
        assert store.task("1").claim_run == "r1"
        for word in ("tsched-end r1 attempts=9 runs=9 not_before=0.000 left=idle:-:qa",
                     "tsched-claim r9 runner=far agent=ben queue=qa"):  # fmt: skip
            said = httpx.post(f"{base}/api/v1/tasks/1/comments", json={"content": word})
            assert said.status_code == (201 if "end" in word else 409)
        assert store.task("1").claim_run == "r1"
        assert store.settle("1", "r1", Settlement(verdict=Verdict.STAND, charged=False))
        assert store.claim(store.task("1"), agent="ada", run_id="r3", runner_id="here") is not None
        assert store.settle("1", "r3", Settlement(verdict=Verdict.RETRY, not_before=9e9))
        again = far.get(["1"])["1"]
        assert (again.attempts, again.runs, again.not_before, again.claim_run) == (1, 2, 9e9, None)


def test_a_claim_can_not_be_taken_back_by_changing_its_comment(base: str, tmp_path: Path) -> None:
    httpx.post(f"{base}/api/v1/tasks", json={"title": "x", "queue_name": "dev"})
    with closing(tinytask_at(f"tinytask+{base}", ledger=tmp_path / "far.db")) as far:
        (task,) = far.waiting(queues=["dev"], agents=[])
        assert far.claim(task, agent="ben", run_id="r2", runner_id="far") is not None
    assert httpx.delete(f"{base}/api/v1/comments/1").status_code == 400
    assert httpx.patch(f"{base}/api/v1/comments/1", json={"content": "mine"}).status_code == 400
