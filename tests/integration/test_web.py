"""`tsched serve` over real HTTP, on a state folder as a runner leaves one."""

import base64
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.web_server import SECRET, TOKEN, generic, github, served
from tsched.model.alert import Alert, AlertSeverity
from tsched.model.event import Event
from tsched.model.fleet import Agent, Fleet, Pool
from tsched.model.history import PassRecord, Sample, Trouble
from tsched.model.lifecycle import Lifecycle
from tsched.model.override import Override, OverrideKind
from tsched.model.run import ExitReason, Lease, LeaseState, Outcome, Run, RunExit, RunResult, Usage
from tsched.model.task import Settlement, Verdict
from tsched.model.units import iso
from tsched.observe.status import NOTHING_SEEN, Report, RunnerStatus
from tsched.observe.web.hooks import MOST
from tsched.state import alarms, applied, deliveries, events, history, overrides, passes, requests, rotation, verdicts
from tsched.state.database import Database
from tsched.state.folder import StateFolder
from tsched.state.leases import Leases
from tsched.tasks.embedded_operations import OperatedTasks

REVISION = "a" * 40
EVIL = "<script>alert(1)</script>\x1b[31m\u202e"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def finished(now: float) -> RunResult:
    run = Run(
        run_id="1-1-abc", task_id="1", agent="ada", pool="dev", queue="dev", attempt=1, revision=REVISION,
        executor="local", recipe="recipes/ada.yaml", runtime="goose", evidence="exit", created_at=now, title=EVIL,
    )  # fmt: skip
    end = RunExit(
        run_id=run.run_id, reason=ExitReason.EXITED, started=True, exit_code=3, started_at=now - 9, ended_at=now
    )
    return RunResult(
        run=run, exit=end, outcome=Outcome.FAILED, reason=EVIL, settlement=Settlement(verdict=Verdict.PARK),
        usage=Usage(total_tokens=7, cost_usd=0.5),
    )  # fmt: skip


def fill(root: Path, *, fresh: bool = True) -> StateFolder:
    """A folder after some passes: a run in progress, a finished one with an evil title and log, history."""
    folder = StateFolder(root)
    folder.create()
    now = time.time()
    with closing(Database.open(folder.db)) as db, db.transaction():
        pool = Pool(name="dev", queue="dev", agents=(Agent(name="ada", limit=2, recipe="recipes/ada.yaml"),))
        row = Lifecycle(agent="ada", queue="dev", pool="dev", limit=2)
        fleet = Fleet(revision=REVISION, pools=(pool,))
        applied.adopt(db, applied.load(db), fleet=fleet, lifecycles={row.key: row})
        last = RunnerStatus(
            pid=1, host="h", version="1", last_cycle=iso(now if fresh else now - 9999), id="r", selector=None
        )
        report: Report = {**NOTHING_SEEN, "fetched": REVISION, "runner": last}
        verdicts.put_report(db, Report, report)
        history.record(db, finished(now))
        limit = "limit 1 → 2"
        change = Event(time=now, kind="change.agent.changed", subject="agent/ada", message=limit, revision=REVISION)
        failed = Event(time=now, kind="run.failed", subject="task/1", message=EVIL, fields={"exit_code": 3})
        events.append(db, [change, failed])
        alarms.put(db, (), [Alert(
            fingerprint="f", rule="deep", severity=AlertSeverity.WARNING, subject="queue/dev", summary=EVIL, since=now
        )])  # fmt: skip
        stop = Override(kind=OverrideKind.STOP, subject="pool/dev", since=now, by=EVIL, reason=EVIL)
        overrides.keep(db, [stop])
    with closing(passes.open_passes(folder.history_db)[0]) as db:
        passes.append(
            db,
            PassRecord(time=now, seconds=0.5, revision=REVISION, generation=1, steps={"fetch": 0.1}),
            samples=[Sample(time=now - 60, queue="dev", idle=2, blocked=1, working=1, oldest=now - 90)],
            troubles=[Trouble(time=now, kind="remote", message=EVIL)],
        )
    with closing(OperatedTasks(folder.tasks_db)) as tasks:
        tasks.add("waiting", queue="dev")
    going = Lease(
        task_id="2", agent="ada", pid=1, recipe="r", started_at=iso(now), heartbeat=iso(now), host="h",
        state=LeaseState.RUNNING, run_id="2-1-abc", attempt=1, revision=REVISION, pool="dev", queue="dev",
        executor="local",
    )  # fmt: skip
    Leases(folder.running).write(going)
    (folder.run_logs / "1-1-abc.log").write_bytes(b"x" * 3_000_000 + b"\n" + EVIL.encode() + b"\xff\n")
    (folder.run_logs / "unknown.log").write_text("nobody knows this run")
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("web") / "state"
    fill(root)
    return root


@pytest.fixture(scope="module")
def base(shared: Path) -> Iterator[httpx.Client]:
    """A server with a token and a secret, on loopback. It has no repo: no pass can do harm."""
    with served(shared, environ={"TSCHED_SERVE_TOKEN": TOKEN, "TSCHED_WEBHOOK_SECRET": SECRET}) as client:
        yield client


def pending(state: Path) -> list[str]:
    with closing(Database.open(StateFolder(state).db)) as db:
        return [f"{one.kind} {one.argument}".strip() for one in requests.pending(db)]


# --- reading ---


def test_every_answer_is_what_the_document_says(base: httpx.Client) -> None:
    document = base.get("/openapi.json").json()
    asked = 0
    for path, operations in document["paths"].items():
        if "get" not in operations:
            continue
        answer = base.get(path.replace("{run_id}", "1-1-abc"))
        content = operations["get"]["responses"][str(answer.status_code)]["content"]
        kind = answer.headers["content-type"].partition(";")[0]
        assert answer.status_code == 200, path
        assert kind in content, path
        if kind == "application/json":
            schema = {**content[kind]["schema"], "components": document["components"]}
            Draft202012Validator.check_schema(schema)
            Draft202012Validator(schema).validate(answer.json())
            asked += bool(answer.json())
    assert asked == 14, "each of them has something to say"


def test_answers_are_facts(base: httpx.Client) -> None:
    def get(path: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = base.get(f"/api/v1/{path}").json()
        return found

    assert [(one["run_id"], one["state"], one["outcome"]) for one in get("runs")] == [
        ("2-1-abc", "running", None),
        ("1-1-abc", "ended", "failed"),
    ]
    assert [one["run_id"] for one in get("runs?limit=1")] == ["2-1-abc"]
    (queue,) = get("queues?since=1h")
    assert (queue["idle"], queue["name"]) == (1, "dev")
    assert [sorted(one) for one in [queue["samples"][0]]] == [["blocked", "idle", "oldest", "time", "working"]]  # type: ignore[index]
    assert [one["kind"] for one in get("events")] == ["change.agent.changed", "run.failed"]
    assert [one["kind"] for one in get("events?after=1")] == ["run.failed"]
    assert get("events")[1]["exit_code"] == 3
    assert [one["steps"] for one in get("history")] == [{"fetch": 0.1}]
    assert [one["kind"] for one in get("errors")] == ["remote"]
    assert [(one["rule"], one["state"]) for one in get("alerts")] == [("deep", "firing")]
    assert [(one["name"], one["pool"], one["running"]) for one in get("agents")] == [("ada", "dev", 1)]
    metrics = {family.name: family for family in text_string_to_metric_families(base.get("/metrics").text)}
    assert metrics["tsched_passes"].samples[0].value == 1
    assert [one.value for one in metrics["tsched_queue_tasks"].samples] == [1, 0, 0]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("runs?limit=0", 400), ("runs?limit=x", 400), ("runs?limit=1001", 400), ("runs?limit=1&limit=2", 400),
        ("queues?since=yesterday", 400), ("events?after=-1", 400), ("runs/nobody", 404), ("runs/nobody/log", 404),
        ("nothing", 404), ("runs/a%00b", 404),
    ],
)  # fmt: skip
def test_a_wrong_question_is_refused_in_words(base: httpx.Client, path: str, status: int) -> None:
    answer = base.get(f"/api/v1/{path}")
    assert (answer.status_code, list(answer.json())) == (status, ["error"])


@pytest.mark.parametrize(
    "run_id",
    ["unknown", "..%2Funknown", "%2e%2e", "..%2f..%2ftsched.db", "1-1-abc.log", "1-1-abc%2F..%2Funknown", "%00"],
)
def test_only_logs_of_known_runs_are_shown(base: httpx.Client, run_id: str) -> None:
    """A raw request: no client may tidy the path."""
    host, port = base.base_url.host, base.base_url.port
    assert port is not None
    for path in (f"/api/v1/runs/{run_id}/log", f"/runs/{run_id}"):
        with socket.create_connection((host, port), timeout=20) as raw:
            raw.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: raw.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 404 "), answer[:200]
        assert b"nobody knows" not in answer


def test_a_log_has_an_end_and_is_plain_text(base: httpx.Client) -> None:
    answer = base.get("/api/v1/runs/1-1-abc/log?lines=10000")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert 1_000_000 < len(answer.content) <= 1024 * 1024 + 16
    assert base.get("/api/v1/runs/1-1-abc/log?lines=1").text.startswith("<script>")


def test_a_log_that_was_packed_is_shown_all_the_same(tmp_path: Path) -> None:
    folder = fill(tmp_path / "state")
    rotation.compress(folder.run_logs / "1-1-abc.log")
    with served(tmp_path / "state") as client:
        assert client.get("/api/v1/runs/1-1-abc/log?lines=1").text.startswith("<script>")


@pytest.mark.parametrize("path", ["/", "/runs/1-1-abc", "/runs/2-1-abc", "/?window=24h", "/?window=<x>"])
def test_what_others_wrote_is_text_on_every_page(base: httpx.Client, path: str) -> None:
    answer = base.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<script>alert" not in answer.text
    assert ("&lt;script&gt;alert(1)" in answer.text) == ("2-1" not in path)
    assert not re.search("[\x1b\u202e]", answer.text)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?! src=\"/page\.js\")|<style|\sstyle=|\son\w+=|javascript:", answer.text)
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", answer.text), "nothing comes from elsewhere"


def test_pages_name_every_column_and_place(base: httpx.Client) -> None:
    page = base.get("/").text
    for tag in ("<main", "<header", "<nav aria-label", "<footer", 'lang="en"', 'name="viewport"', "<h1>"):
        assert page.count(tag) == 1, tag
    assert re.findall(r"<th(?! scope=)[ >]", page) == [], "each head says whether it is of a row or of a column"
    assert re.findall(r"<svg(?![^>]*(?:aria-label|aria-hidden))", page) == []
    ids = re.findall(r"\sid=\"([^\"]+)\"", page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"aria-labelledby=\"([^\"]+)\"", page)) <= set(ids)


def test_a_run_that_is_not_there_has_a_page_too(base: httpx.Client) -> None:
    answer = base.get("/runs/nobody")
    assert (answer.status_code, "No such run" in answer.text) == (404, True)


def test_before_the_first_pass_there_is_a_page_and_no_folder(tmp_path: Path) -> None:
    with served(tmp_path / "x" / "state") as base:
        page = base.get("/")
        assert (page.status_code, "no pass has ended here yet" in page.text) == (200, True)
        assert base.get("/healthz").json()["status"] == "healthy"
        ready = base.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert not (tmp_path / "x" / "state").exists(), "looking makes nothing"


def test_it_watches_a_runner_that_comes_later_and_is_ready_while_passes_are_on_time(tmp_path: Path) -> None:
    with served(tmp_path / "state") as base:
        assert base.get("/api/v1/status").json()["revision"]["applied"] is None
        fill(tmp_path / "state")
        assert base.get("/api/v1/status").json()["revision"]["applied"] == REVISION
        assert base.get("/readyz").json() == {"ready": True, "reason": None}
        fill(tmp_path / "state", fresh=False)
        late = base.get("/readyz")
        assert late.status_code == 503
        assert "no runner is alive" in late.json()["reason"]


def test_a_runner_in_the_middle_of_a_write_is_not_waited_for(base: httpx.Client, shared: Path) -> None:
    with closing(Database.open(StateFolder(shared).db)) as db, db.transaction():
        requests.insert(db, time=0.0, kind="sync")
        assert base.get("/api/v1/status", timeout=20).status_code == 200
        db.execute("DELETE FROM requests")


# --- who may ---


def test_pages_of_other_sites_reach_nothing(base: httpx.Client) -> None:
    assert base.get("/", headers={"host": "evil.example"}).status_code == 421
    assert base.get("/", headers={"origin": "https://evil.example"}).status_code == 403
    assert base.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert base.get("/", headers={"host": "runner.example", **BEARER}).status_code == 200, "behind a proxy"


def test_nothing_is_changed_without_the_token(base: httpx.Client, shared: Path) -> None:
    password = base64.b64encode(f"me:{TOKEN}".encode()).decode()
    for path in ("sync", f"accept/{REVISION}"):
        for shown in ("", "Bearer wrong", f"Basic {password}"):
            assert base.post(f"/api/v1/{path}", headers={"authorization": shown}).status_code == 401
        assert base.get(f"/api/v1/{path}", headers=BEARER).status_code == 405
    assert pending(shared) == []
    assert "nothing to accept" in base.post(f"/api/v1/accept/{REVISION}", headers=BEARER).json()["error"]


def test_without_a_token_nothing_can_be_changed_at_all(tmp_path: Path) -> None:
    with served(tmp_path / "state") as base:
        for shown in ("", "Bearer", "Bearer None"):
            answer = base.post("/api/v1/sync", headers={"authorization": shown})
            assert (answer.status_code, "TSCHED_SERVE_TOKEN" in answer.json()["error"]) == (403, True)
        signed = {"github": github(b"{}", secret=""), "generic": generic(b"{}", time.time(), secret="")}
        for kind, headers in signed.items():
            answer = base.post(f"/hooks/{kind}", content=b"{}", headers=headers)
            assert (answer.status_code, "TSCHED_WEBHOOK_SECRET" in answer.json()["error"]) == (401, True)
    assert not (tmp_path / "state").exists()


def test_where_others_can_reach_it_everything_wants_the_token(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tsched", "serve", "--host", "0.0.0.0", "--port", "0"],
        env={"TSCHED_STATE": str(tmp_path), "HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "TSCHED_SERVE_TOKEN" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
    with served(tmp_path / "state", host="0.0.0.0", environ={"TSCHED_SERVE_TOKEN": TOKEN}) as base:
        for path in ("/", "/page.css", "/metrics", "/openapi.json", "/api/v1/status", "/runs/x"):
            refused = base.get(path)
            assert (refused.status_code, refused.headers["www-authenticate"][:5]) == (401, "Basic")
            assert base.get(path, headers={"authorization": "Basic ???"}).status_code == 401
            assert base.get(path, auth=("me", "wrong")).status_code == 401
            assert base.get(path, auth=("me", TOKEN)).status_code in (200, 404)
            assert base.get(path, headers=BEARER).status_code in (200, 404)
        assert base.get("/healthz").status_code == 200
        assert base.get("/readyz").status_code == 503


# --- hooks: what starts something is in tests/e2e/test_serve.py ---


def test_a_forged_hook_is_refused_before_anything_else_is_looked_at(base: httpx.Client, shared: Path) -> None:
    for kind in ("github", "gitlab", "generic"):
        for body in (b"", b"{", b"x" * (MOST + 1)):
            assert base.post(f"/hooks/{kind}", content=body).status_code == 401
    wrong = base.post("/hooks/github", content=b"{", headers=github(b"{", secret="wrong"))
    assert wrong.status_code == 401
    large = b"x" * (MOST + 1)
    assert base.post("/hooks/github", content=large, headers=github(large)).status_code == 413
    assert base.post("/hooks/nobody", content=b"{}").status_code == 404
    assert base.get("/hooks/github").status_code == 405
    assert pending(shared) == []


def test_what_is_genuine_and_no_push_to_our_branch_starts_nothing(base: httpx.Client, shared: Path) -> None:
    pong = base.post("/hooks/github", content=b"{}", headers=github(b"{}", event="ping"))
    assert (pong.status_code, pong.json()["result"]) == (200, "pong")
    other = json.dumps({"ref": "refs/heads/other"}).encode()
    ignored = base.post("/hooks/github", content=other, headers=github(other))
    assert ignored.status_code == 202
    assert ignored.json() == {"result": "ignored", "reason": "the branch main is followed"}
    token = {"x-gitlab-token": SECRET, "x-gitlab-event": "Push Hook"}
    assert base.post("/hooks/gitlab", content=other, headers=token).json()["result"] == "ignored"
    broken = base.post("/hooks/github", content=b"{", headers=github(b"{"))
    assert broken.status_code == 400
    assert pending(shared) == []


def test_deliveries_are_remembered_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "deliveries"
    assert not deliveries.known(path, "0")
    for number in range(5):
        deliveries.remember(path, f"{number}")
    assert deliveries.known(path, "0")
    path.write_text("\n".join(path.read_text().split() * 300))
    deliveries.remember(path, "new")
    assert len(path.read_text().split()) == deliveries.KEPT
    assert deliveries.known(path, "new")
