"""A workload report as tables, as one object, and as comma-separated lines. report_html.py makes it a page."""

import csv
import io
from collections.abc import Iterator

from tsched.model.run import Outcome
from tsched.model.units import about, iso
from tsched.observe import figures
from tsched.observe.tables import Table
from tsched.schedule.report import WorkReport
from tsched.schedule.workload import FailureKind, Summary

MOST_KINDS = 20  # of failures in the tables
COLUMNS = (
    *("TASKS", "RUNS", "COMPLETE", "FAILED", "UNPROVEN", "STOPPED", "FAILURES"),
    *("P50", "P95", "WAIT P50", "WAIT P95", "TOKENS", "COST"),
)
SHOWN = (Outcome.COMPLETE, Outcome.FAILED, Outcome.UNPROVEN)  # each in a column; the others are STOPPED


def row(one: Summary) -> tuple[str, ...]:
    """A group's figures for a person, under COLUMNS."""
    return (
        str(one.tasks),
        str(one.runs),
        *(str(one.outcomes.get(outcome, 0)) for outcome in SHOWN),
        str(one.runs - sum(one.outcomes.get(outcome, 0) for outcome in SHOWN)),
        figures.rate(one.failed),
        *_percentiles(one),
        figures.tokens(one.usage),
        figures.cost(one.usage),
    )


def _percentiles(one: Summary) -> Iterator[str]:
    for spread in (one.durations, one.waits):
        yield from ("-", "-") if spread is None else (about(spread.p50), about(spread.p95))


def kinds(failures: tuple[FailureKind, ...]) -> list[tuple[str, ...]]:
    """The most frequent kinds of failures: runs, how they ended, exit code, an example."""
    return [
        (str(kind.runs), kind.reason, "-" if kind.exit_code is None else str(kind.exit_code), kind.example)
        for kind in failures[:MOST_KINDS]
    ]


def report_tables(report: WorkReport) -> Iterator[Table]:
    yield Table(title=f"Work in {figures.span(report.window)}", columns=COLUMNS, rows=[row(report.whole)])
    for by, groups in report.groups.items():
        rows = [(name.removeprefix("recipes/"), *row(one)) for name, one in groups.items()]
        yield Table(title=f"By {by}", columns=(by.upper(), *COLUMNS), rows=rows)
    yield Table(
        title="Failures by kind",
        columns=("RUNS", "ENDED BY", "EXIT", "SUCH AS"),
        rows=kinds(report.whole.failures),
    )
    if report.whole.runs:
        drawn = figures.sparkline([float(bar.total) for bar in report.bars])
        yield Table(title="Runs ended", columns=("EACH BAR", "RUNS"), rows=[(about(report.step), drawn)])
    yield Table(
        title="Waiting tasks",
        columns=("QUEUE", "AVERAGE", "MOST", "NOW", "DEPTH"),
        rows=[
            (one.queue, figures.number(one.average), figures.number(one.most), figures.number(one.now),
             figures.sparkline(one.series[::4]))
            for one in report.depths
        ],
    )  # fmt: skip


def report_object(report: WorkReport) -> dict[str, object]:
    """`throughput`: for each bar with a run when it begins, and the runs that ended in it by outcome."""
    return {
        **figures.window_object(report.window),
        "total": figures.summary_object(report.whole),
        "by": {
            str(by): [{"name": name, **figures.summary_object(one)} for name, one in groups.items()]
            for by, groups in report.groups.items()
        },
        "throughput": {
            "step_seconds": report.step,
            "bars": [
                {"start": iso(bar.start), **{str(outcome): number for outcome, number in bar.outcomes.items()}}
                for bar in report.bars
                if bar.total
            ],
        },
        "queues": [
            {"name": one.queue, "average_idle": one.average, "most_idle": one.most, "idle": one.now,
             "depth": list(one.series)}
            for one in report.depths
        ],
    }  # fmt: skip


def report_csv(report: WorkReport) -> str:
    """A line for the whole (by `all`), and one for each group. Seconds; empty where nothing is known."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    spreads = [f"{what}_{which}_seconds" for what in ("duration", "wait") for which in ("mean", "p50", "p95")]
    lines.writerow(["by", "name", "tasks", "runs", *Outcome, *spreads, "tokens", "cost_usd"])
    lines.writerow(["all", "", *_values(report.whole)])
    for by, groups in report.groups.items():
        lines.writerows([by, name, *_values(one)] for name, one in groups.items())
    return out.getvalue()


def _values(one: Summary) -> Iterator[object]:
    yield from (one.tasks, one.runs, *(one.outcomes.get(outcome, 0) for outcome in Outcome))
    for spread in (one.durations, one.waits):
        known = ("", "", "") if spread is None else (spread.mean, spread.p50, spread.p95)
        yield from (f"{value:.3f}" if isinstance(value, float) else value for value in known)
    yield one.usage.total_tokens if one.usage is not None else ""
    yield one.usage.cost_usd if one.usage is not None and one.usage.cost_usd is not None else ""
