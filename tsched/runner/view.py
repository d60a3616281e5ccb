"""What the live view shows, asked of a watched folder: however long it is left open, it is in nobody's way."""

from tsched.observe.top import View
from tsched.runner import questions
from tsched.runner.execution import executor_of
from tsched.runner.questions import Watch

EVENTS = 200


def view(watch: Watch) -> View:
    """The runner of this host as it stands."""
    status = questions.status(watch)
    executor = executor_of(watch.settings, watch.folder)
    runs = {one["run_id"]: executor.run(one["run_id"]) for one in status["runs"]}
    return View(
        at=watch.clock(),
        status=status,
        titles={run_id: run.title for run_id, run in runs.items() if run is not None},
        samples={one.queue: one for one in questions.latest(watch)},
        events=[event for _, event in questions.happened(watch, after=None, limit=EVENTS)],
        last=next(iter(questions.past(watch, since=0.0, limit=1)), None),
    )
