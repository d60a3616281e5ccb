"""Queues and what was done in them: the table and objects of `tsched queues`."""

from collections.abc import Sequence

from tsched.model.run import Outcome
from tsched.observe import figures
from tsched.observe.tables import Table
from tsched.schedule.queues import QueueWork
from tsched.schedule.timeline import Window
from tsched.schedule.workload import FAILED

COLUMNS = (
    *("QUEUE", "IDLE", "BLOCKED", "WORKING", "AVERAGE", "MOST", "OLDEST", "ASSIGNED", "COMPLETED", "FAILED"),
    *("PER HOUR", "DEPTH"),
)


def queues_table(window: Window, work: Sequence[QueueWork]) -> Table:
    """Depths now, then of the window."""
    return Table(title=f"Queues in {figures.span(window)}", columns=COLUMNS, rows=[_row(one) for one in work])


def _row(one: QueueWork) -> tuple[str, ...]:
    return (
        one.queue,
        str(one.now.idle),
        str(one.now.blocked),
        str(one.now.working),
        figures.number(one.average),
        "-" if one.most is None else str(one.most),
        figures.seconds(one.oldest),
        str(one.assigned),
        str(one.outcomes.get(Outcome.COMPLETE, 0)),
        str(sum(one.outcomes.get(outcome, 0) for outcome in FAILED)),
        figures.number(one.per_hour),
        figures.sparkline(one.series),
    )


def queues_object(window: Window, work: Sequence[QueueWork]) -> dict[str, object]:
    return {**figures.window_object(window), "queues": [_object(one) for one in work]}


def _object(one: QueueWork) -> dict[str, object]:
    return {
        "name": one.queue,
        "idle": one.now.idle,
        "blocked": one.now.blocked,
        "working": one.now.working,
        "average_idle": None if one.average is None else round(one.average, 3),
        "most_idle": one.most,
        "oldest_wait_seconds": None if one.oldest is None else round(one.oldest, 3),
        "assigned": one.assigned,
        "outcomes": {str(outcome): number for outcome, number in one.outcomes.items()},
        "completed_per_hour": round(one.per_hour, 3),
        "depth": [None if value is None else round(value, 3) for value in one.series],
    }
