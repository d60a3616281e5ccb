"""Prometheus metrics: stored totals as counters and histograms, the status as gauges. docs/metrics.md lists them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tsched import __version__
from tsched.model.history import Total
from tsched.model.lifecycle import AgentState
from tsched.model.units import from_iso
from tsched.observe.status import AgentStatus, PoolStatus
from tsched.observe.vitals import Vitals, last_pass, stale

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PREFIX = "tsched_"
Labels = tuple[str, ...]
Row = tuple[Labels, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A counter or histogram whose sums the runner keeps. `name`: as stored, without _total or _bucket."""

    name: str
    what: str
    labels: Labels = ()
    histogram: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """A figure that is read off the status: its rows are label values and a number."""

    name: str
    what: str
    rows: Callable[[Vitals], Iterable[Row]]
    labels: Labels = ()


KEPT = (
    Kept(name="passes", what="Passes of the runner."),
    Kept(name="pass_seconds", what="How long passes took.", histogram=True),
    Kept(name="step_seconds", what="Time spent in each step of passes.", labels=("step",)),
    Kept(name="errors", what="Errors of passes, by kind.", labels=("kind",)),
    Kept(name="runs_started", what="Runs that were started.", labels=("queue", "agent")),
    Kept(name="runs_ended", what="Runs that ended, by outcome.", labels=("queue", "agent", "outcome")),
    Kept(name="run_seconds", what="How long runs took.", labels=("queue",), histogram=True),
    Kept(name="tokens", what="Tokens that runs say they spent.", labels=("queue", "agent")),
    Kept(name="cost_usd", what="US dollars that runs say they cost.", labels=("queue", "agent")),
    Kept(name="revisions_applied", what="Revisions of the fleet repo that were applied."),
)


def _agents(read: Callable[[AgentStatus], float | None]) -> Callable[[Vitals], Iterator[Row]]:
    """A row for each agent of which `read` gives a number."""

    def rows(seen: Vitals) -> Iterator[Row]:
        for pool in seen.status["pools"]:
            for agent in pool["agents"]:
                number = read(agent)
                if number is not None:
                    yield (pool["name"], pool["queue"], agent["name"]), number

    return rows


def _pools(read: Callable[[PoolStatus], float | None]) -> Callable[[Vitals], Iterator[Row]]:
    def rows(seen: Vitals) -> Iterator[Row]:
        for pool in seen.status["pools"]:
            number = read(pool)
            if number is not None:
                yield (pool["name"], pool["queue"]), number

    return rows


def _agent_states(seen: Vitals) -> Iterator[Row]:
    for pool in seen.status["pools"]:
        for agent in pool["agents"]:
            for state in AgentState:
                labels = (pool["name"], pool["queue"], agent["name"], str(state))
                yield labels, float(agent["state"] == state)


def _queue_tasks(seen: Vitals) -> Iterator[Row]:
    for queue in seen.status["queues"]:
        waiting = queue["idle"] - queue["blocked"]
        for status, number in (("waiting", waiting), ("blocked", queue["blocked"]), ("working", queue["working"])):
            yield (queue["name"], status), float(number)


def _oldest(seen: Vitals) -> Iterator[Row]:
    for sample in seen.samples:
        yield (sample.queue,), 0.0 if sample.oldest is None else max(0.0, seen.now - sample.oldest)


def _conditions(seen: Vitals) -> Iterator[Row]:
    for condition in seen.status["conditions"]:
        for status in ("True", "False", "Unknown"):
            yield (condition["type"], status), float(condition["status"] == status)


def _revisions(seen: Vitals) -> Iterator[Row]:
    revision = seen.status["revision"]
    rejected, held = revision["rejected"], revision["held"]
    known = {
        "applied": revision["applied"],
        "fetched": revision["fetched"],
        "rejected": None if rejected is None else rejected["revision"],
        "held": None if held is None else held["revision"],
    }
    for kind, commit in known.items():
        if commit is not None:
            yield (kind, commit), 1.0


def _alerts(seen: Vitals) -> Iterator[Row]:
    number = Counter((one.rule, str(one.severity), str(one.state)) for one in seen.alerts)
    yield from ((labels, float(count)) for labels, count in number.items())


def _one(number: float | None) -> Iterator[Row]:
    if number is not None:
        yield (), number


def _deadline(agent: AgentStatus) -> float | None:
    return None if agent["drain"] is None else from_iso(agent["drain"]["deadline"])


def _drained_since(agent: AgentStatus) -> float | None:
    return None if agent["drain"] is None else from_iso(agent["drain"]["since"])


_AGENT = ("pool", "queue", "agent")
GAUGES = (
    Gauge(name="build_info", what="The version of tsched; always 1.", labels=("version",),
          rows=lambda seen: [((__version__,), 1.0)]),
    Gauge(name="runner_up", what="Whether a runner holds the state folder just now.",
          rows=lambda seen: _one(float(seen.pulse.pid is not None))),
    Gauge(name="last_pass_timestamp_seconds", what="When the last pass ended.",
          rows=lambda seen: _one(last_pass(seen.status))),
    Gauge(name="pass_interval_seconds", what="How often a pass is due.", rows=lambda seen: _one(seen.pulse.interval)),
    Gauge(name="generation", what="How many revisions were adopted.",
          rows=lambda seen: _one(float(seen.status["generation"]))),
    Gauge(name="revision_info", what="Commits of the fleet repo, by what became of them; always 1.",
          labels=("kind", "revision"), rows=_revisions),
    Gauge(name="condition", what="Conditions of the runner: 1 at the status that each has.",
          labels=("type", "status"), rows=_conditions),
    Gauge(name="alerts", what="Alerts by the fleet's own rules: pending and firing.",
          labels=("rule", "severity", "state"), rows=_alerts),
    Gauge(name="pool_running", what="Runs in progress of a pool.", labels=("pool", "queue"),
          rows=_pools(lambda pool: pool["running"])),
    Gauge(name="pool_max_running", what="The cap over a pool, where it has one.", labels=("pool", "queue"),
          rows=_pools(lambda pool: pool["max_running"])),
    Gauge(name="pool_suspended", what="Whether a pool takes no new task.", labels=("pool", "queue"),
          rows=_pools(lambda pool: pool["suspended"])),
    Gauge(name="agent_slots", what="How many runs an agent may have at once.", labels=_AGENT,
          rows=_agents(lambda agent: agent["limit"])),
    Gauge(name="agent_running", what="Runs in progress of an agent.", labels=_AGENT,
          rows=_agents(lambda agent: agent["running"])),
    Gauge(name="agent_state", what="States of agents: 1 at the one that each is in.", labels=(*_AGENT, "state"),
          rows=_agent_states),
    Gauge(name="drain_start_timestamp_seconds", what="Since when an agent leaves.", labels=_AGENT,
          rows=_agents(_drained_since)),
    Gauge(name="drain_deadline_timestamp_seconds", what="When an agent's drain ends by force.", labels=_AGENT,
          rows=_agents(_deadline)),
    Gauge(name="queue_tasks", what="Tasks of a queue, by what they do: waiting, blocked, working.",
          labels=("queue", "status"), rows=_queue_tasks),
    Gauge(name="queue_oldest_wait_seconds", what="How long the longest waiting ready task of a queue waits.",
          labels=("queue",), rows=_oldest),
    Gauge(name="runs", what="Runs in progress.", rows=lambda seen: _one(float(len(seen.status["runs"])))),
    Gauge(name="runs_stale", what="Runs in progress that have missed four heartbeats.",
          rows=lambda seen: _one(float(sum(
              stale(run, seen.pulse.heartbeat, seen.now) for run in seen.status["runs"])))),
)  # fmt: skip


def names() -> Sequence[tuple[str, str, Labels, str]]:
    """Every metric as it is asked for: name, type, labels, what it says."""
    kept = [
        (f"{PREFIX}{one.name}", "histogram", one.labels, one.what)
        if one.histogram
        else (f"{PREFIX}{one.name}_total", "counter", one.labels, one.what)
        for one in KEPT
    ]
    return [*kept, *((f"{PREFIX}{one.name}", "gauge", one.labels, one.what) for one in GAUGES)]


def exposition(seen: Vitals, accept: str = "") -> tuple[bytes, str]:
    """The metrics and their content type: Prometheus text, or OpenMetrics where that is accepted."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(seen))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collected:
    """What prometheus-client asks for the metrics."""

    def __init__(self, seen: Vitals) -> None:
        self._seen = seen

    def collect(self) -> "Iterator[Metric]":
        return collect(self._seen)

    def describe(self) -> "Iterable[Metric]":
        return ()


def collect(seen: Vitals) -> "Iterator[Metric]":
    """Every metric of `names`; one without a row is still said to be there."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    stored: dict[str, list[Total]] = {}
    for total in seen.totals:
        stored.setdefault(total.name, []).append(total)
    for kept in KEPT:
        if kept.histogram:
            histogram = HistogramMetricFamily(PREFIX + kept.name, kept.what, labels=kept.labels)
            for labels, buckets, amount in _histograms(kept, stored):
                histogram.add_metric(labels, buckets, amount)
            yield histogram
        else:
            counter = CounterMetricFamily(PREFIX + kept.name, kept.what, labels=kept.labels)
            for total in stored.get(f"{kept.name}_total", ()):
                counter.add_metric(_values(kept, total.labels), total.value)
            yield counter
    for gauge in GAUGES:
        family = GaugeMetricFamily(PREFIX + gauge.name, gauge.what, labels=gauge.labels)
        for values, number in gauge.rows(seen):
            family.add_metric(values, number)
        yield family


def _histograms(
    kept: Kept, stored: Mapping[str, Sequence[Total]]
) -> Iterator[tuple[Labels, list[tuple[str, float]], float]]:
    """Label values, cumulative buckets with +Inf at their end, and the sum, of each."""
    buckets: dict[Labels, list[tuple[str, float]]] = {}
    for total in stored.get(f"{kept.name}_bucket", ()):
        buckets.setdefault(_values(kept, total.labels), []).append((total.labels["le"], total.value))
    counts = {_values(kept, one.labels): one.value for one in stored.get(f"{kept.name}_count", ())}
    sums = {_values(kept, one.labels): one.value for one in stored.get(f"{kept.name}_sum", ())}
    for labels, count in counts.items():
        found = sorted(buckets.get(labels, []), key=lambda bucket: float(bucket[0]))
        yield labels, [*found, ("+Inf", count)], sums.get(labels, 0.0)


def _values(kept: Kept, labels: Mapping[str, str]) -> Labels:
    return tuple(labels.get(name, "") for name in kept.labels)
