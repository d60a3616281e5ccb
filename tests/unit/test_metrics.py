"""The metrics: made from values, listed in the docs, named by the shipped alerts, read by Prometheus's own parser."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from tsched.model.alert import Alert, AlertSeverity
from tsched.model.fleet import Agent, DrainPolicy, Fleet, OnDeadline, Pool
from tsched.model.history import Sample, Total
from tsched.model.lifecycle import AgentState, Lifecycle
from tsched.model.run import Lease, LeaseState
from tsched.model.task import QueueDepth
from tsched.model.units import iso
from tsched.observe.conditions import Facts, conditions
from tsched.observe.metrics import exposition, names
from tsched.observe.status import NOTHING_SEEN, Report, RunnerStatus, status
from tsched.observe.vitals import GRACE, Pulse, Vitals, late
from tsched.runner.chronicle import RUN_BUCKETS, histogram

ROOT = Path(__file__).parent.parent.parent
NOW = 1_768_903_200.0  # 2026-01-20T10:00:00Z
REVISION = "a" * 40
PULSE = Pulse(pid=7, interval=60.0, heartbeat=15.0)


def run(task: str, *, beat: float) -> Lease:
    return Lease(
        task_id=task, agent="ada", pid=1, recipe="r", started_at=iso(NOW - 900), heartbeat=iso(beat), host="h",
        state=LeaseState.RUNNING, run_id=f"run-{task}", attempt=1, revision=REVISION, pool="dev", queue="dev",
        executor="local",
    )  # fmt: skip


def seen(totals: Sequence[Total] = (), *, last: float | None = NOW - 5) -> Vitals:
    policy = DrainPolicy(deadline=3600.0, on_deadline=OnDeadline.FAIL)
    facts = Facts(applied=REVISION, fetched=REVISION, last_fetch=NOW, rejected="revision b breaks the rules")
    report: Report = {
        **NOTHING_SEEN,
        "fetched": "b" * 40,
        "conditions": list(conditions((), facts, generation=3, now=NOW)),
        "runner": RunnerStatus(
            pid=7, host="h", version="1", last_cycle=None if last is None else iso(last), id="r", selector=None
        ),
    }
    rows = [
        Lifecycle(agent="ada", queue="dev", pool="dev", limit=2),
        Lifecycle(agent="ben", queue="dev", pool="dev", limit=1, state=AgentState.DRAINING, since=NOW, policy=policy),
    ]
    pool = Pool(name="dev", queue="dev", max_running=5, agents=(Agent(name="ada", limit=2, recipe="recipes/a.yaml"),))
    made = status(
        fleet=Fleet(revision=REVISION, pools=(pool,)),
        lifecycles={row.key: row for row in rows},
        leases=[run("1", beat=NOW - 10), run("2", beat=NOW - 61)],
        depths=[QueueDepth(name="dev", idle=5, blocked=2, working=2)],
        report=report,
        generation=3,
        now=NOW,
    )
    samples = [Sample(time=NOW, queue="dev", idle=5, blocked=2, working=2, oldest=NOW - 90)]
    alert = Alert(
        fingerprint="f",
        rule="deep",
        severity=AlertSeverity.WARNING,
        subject="queue/dev",
        summary="60 wait",
        since=NOW,
    )
    return Vitals(status=made, alerts=[alert], totals=totals, samples=samples, pulse=PULSE, now=NOW)


def read(vitals: Vitals) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the exposition by name and labels, as Prometheus reads it."""
    text, _ = exposition(vitals)
    families = text_string_to_metric_families(text.decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def of(vitals: Vitals, name: str, **labels: str) -> float | None:
    return read(vitals).get((name, frozenset(labels.items())))


def test_gauges_say_what_the_status_says() -> None:
    dev = {"pool": "dev", "queue": "dev"}
    ada, ben = {**dev, "agent": "ada"}, {**dev, "agent": "ben"}
    found = seen()
    assert of(found, "tsched_agent_slots", **ada) == 2
    assert of(found, "tsched_agent_running", **ada) == 2
    assert of(found, "tsched_agent_state", state="active", **ada) == 1
    assert of(found, "tsched_agent_state", state="draining", **ada) == 0
    assert of(found, "tsched_agent_state", state="draining", **ben) == 1
    assert of(found, "tsched_drain_deadline_timestamp_seconds", **ben) == NOW + 3600
    assert of(found, "tsched_drain_deadline_timestamp_seconds", **ada) is None
    assert of(found, "tsched_pool_max_running", **dev) == 5
    assert of(found, "tsched_queue_oldest_wait_seconds", queue="dev") == 90
    assert of(found, "tsched_condition", type="Valid", status="False") == 1
    assert of(found, "tsched_condition", type="Valid", status="True") == 0
    assert of(found, "tsched_revision_info", kind="applied", revision=REVISION) == 1
    assert of(found, "tsched_last_pass_timestamp_seconds") == NOW - 5
    assert of(found, "tsched_runner_up") == 1
    assert of(found, "tsched_alerts", rule="deep", severity="warning", state="firing") == 1
    assert of(found, "tsched_generation") == 3
    assert of(found, "tsched_runs") == 2
    assert of(found, "tsched_runs_stale") == 1, "four heartbeats of 15 s are 60 s"


def test_the_tasks_of_a_queue_add_up_over_the_label() -> None:
    found = [of(seen(), "tsched_queue_tasks", queue="dev", status=one) for one in ("waiting", "blocked", "working")]
    assert found == [3, 2, 2]


def test_stored_sums_become_counters_and_histograms() -> None:
    sums: dict[tuple[str, str], Total] = {}
    for seconds in (5.0, 400.0, 99_999.0):
        for one in histogram("run_seconds", seconds, RUN_BUCKETS, {"queue": "dev"}):
            key = (one.name, one.labels.get("le", ""))
            before = sums[key].value if key in sums else 0.0
            sums[key] = Total(name=one.name, labels=one.labels, value=before + one.value)
    ended = Total(name="runs_ended_total", labels={"queue": "dev", "agent": "ada", "outcome": "failed"}, value=4)
    strange = Total(name="of_another_version_total", value=1)
    found = seen([*sums.values(), ended, strange])
    assert of(found, "tsched_runs_ended_total", queue="dev", agent="ada", outcome="failed") == 4
    bounds = ["10.0", "300.0", "900.0", "14400.0", "+Inf"]
    read_back = {
        labels: value for (name, labels), value in read(found).items() if name == "tsched_run_seconds_bucket"
    }
    by_bound = {dict(labels)["le"].removesuffix(".0"): value for labels, value in read_back.items()}
    assert [by_bound[bound.removesuffix(".0")] for bound in bounds] == [1, 1, 2, 2, 3]
    assert of(found, "tsched_run_seconds_count", queue="dev") == 3
    assert of(found, "tsched_run_seconds_sum", queue="dev") == 100_404
    assert not [name for name, _ in read(found) if "another_version" in name]


def test_openmetrics_is_given_where_it_is_accepted() -> None:
    text, kind = exposition(seen(), "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert "tsched_generation" in {family.name for family in openmetrics_families(text.decode())}  # type: ignore[no-untyped-call]


def test_the_docs_list_every_metric_and_no_other() -> None:
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(tsched_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    listed = [(name, kind, tuple(re.findall(r"`(\w+)`", labels)), what) for name, kind, labels, what in rows]
    assert listed == list(names())


def test_every_metric_is_in_the_exposition() -> None:
    text = exposition(seen())[0].decode()
    assert re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE) == [(name, kind) for name, kind, _, _ in names()]


def test_names_follow_prometheus_conventions() -> None:
    for name, kind, _, what in names():
        assert name.startswith("tsched_")
        assert name.endswith("_total") == (kind == "counter"), name
        assert not re.search(r"_(ms|minutes|hours|milliseconds)(_|$)", name), name
        assert what.endswith("."), name


ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/tsched.rules.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_an_alert_asks_for_metrics_that_there_are(rule: dict[str, object]) -> None:
    text = str(rule["expr"])
    known = {name: set(labels) for name, _, labels, _ in names()}
    used = re.findall(r"(tsched_\w+)(?:\{([^}]*)\})?", text)
    assert used
    for name, selector in used:
        assert name in known, name
        assert set(re.findall(r"(\w+)=", selector)) <= known[name], (name, selector)
    labels = set().union(*(known[name] for name, _ in used)) | {"job", "instance"}
    for group in re.findall(r"by \(([^)]*)\)", text):
        assert set(group.split(", ")) <= labels, group
    assert text.count("(") == text.count(")")
    assert isinstance(rule["annotations"], dict)
    assert rule["annotations"].keys() == {"summary", "mend"}
    for named in re.findall(r"\$labels\.(\w+)", str(rule["annotations"])):
        assert named in labels, named


def test_there_is_an_alert_for_each_condition_that_the_issue_names() -> None:
    assert {rule["alert"] for rule in ALERTS} >= {
        "TschedQueueDeep", "TschedNoAssignment", "TschedErrorSpike", "TschedQueueUnprocessed",
        "TschedDrainPastDeadline", "TschedRevisionRejected", "TschedRemoteUnreachable",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("last", "pid", "said"),
    [
        (None, None, "no pass has ended"),
        (NOW - 120 - GRACE, 7, None),
        (NOW - 121 - GRACE, 7, "alive"),
        (NOW - 1000, None, "no runner is alive"),
    ],
)
def test_a_runner_is_ready_while_its_last_pass_is_new(last: float | None, pid: int | None, said: str | None) -> None:
    pulse = Pulse(pid=pid, interval=60.0, heartbeat=15.0)
    found = late(seen(last=last).status, pulse, NOW)
    assert (found is None) if said is None else (found is not None and said in found)
