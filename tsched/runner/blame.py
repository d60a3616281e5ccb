"""Who made what a run ran: from a task or a revision to its commit, pull request and recipe text.

From history and what was fetched already: nothing is asked of the network, nothing changed.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from tsched.gitops.commits import Commits
from tsched.gitops.mirror import Fetched
from tsched.model.blame import Attempt, Origin, RecipeThen
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.files import FileKind
from tsched.model.run import Run, RunResult
from tsched.runner.folder import folder_of
from tsched.schedule.fared import RevisionBlame, fared, fared_by
from tsched.schedule.plan import Row, plan
from tsched.schedule.workload import By
from tsched.settings import Settings
from tsched.state import history
from tsched.state.database import Database
from tsched.state.leases import Leases
from tsched.validate.fleet import load_fleet


def blame_task(settings: Settings, task_id: str) -> tuple[Attempt, ...]:
    """The attempts at a task, oldest first. Raises ConfigurationError where this runner knows of none."""
    with _opened(settings) as (db, commits):
        ended = history.of_task(db, task_id)
        live = _live(settings, task_id, {one.run.run_id for one in ended})
        runs: list[tuple[Run, RunResult | None]] = [
            *((one.run, one) for one in ended),
            *((run, None) for run in live),
        ]
        if not runs:
            raise ConfigurationError(f"no run of a task {task_id!r} is in this runner's history: check its id")
        return tuple(
            Attempt(
                run=run, result=end, origin=_origin(settings, commits, run.revision), recipe=_recipe(commits, run)
            )
            for run, end in runs
        )


def blame_revision(settings: Settings, text: str) -> RevisionBlame:
    """What a revision ran and how it fared. `text`: an id or its beginning, the branch, HEAD~1.

    Raises ConfigurationError where it names no revision that is known here.
    """
    with _opened(settings) as (db, commits):
        ran = history.revisions(db)
        revision = _named(commits, text, [one for one, _ in ran])
        origin = _origin(settings, commits, revision)
        earlier = _before(ran, origin)
        old = () if earlier is None else history.of_revision(db, earlier)
        new = history.of_revision(db, revision)
        changes, unknown = _changes(commits, earlier, revision)
        return RevisionBlame(
            origin=origin,
            before=None if earlier is None else _origin(settings, commits, earlier),
            whole=fared(old, new),
            groups={by: fared_by(old, new, by) for by in (By.QUEUE, By.RECIPE)},
            changes=changes,
            unknown=unknown,
        )


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[Database, Commits]]:
    folder = folder_of(settings)
    with (
        closing(Database.read_only(folder.db) or Database.empty()) as db,
        closing(Fetched(folder.mirror, settings.repo or "the fleet repo", settings.branch)) as commits,
    ):
        yield db, commits


def _live(settings: Settings, task_id: str, ended: set[str]) -> Sequence[Run]:
    """The run of the task that goes on, if any."""
    folder = folder_of(settings)
    lease = Leases(folder.running).read(task_id)
    if lease is None or lease.run_id in ended:
        return ()
    from tsched.runner.execution import executor_of  # slow to load, and seldom needed

    run = executor_of(settings, folder).run(lease.run_id)
    return () if run is None else (run,)


def _origin(settings: Settings, commits: Commits, revision: str) -> Origin:
    try:
        commit = commits.commit(revision)
    except TransientError:  # no mirror, or one that the next pass will mend
        commit = None
    number = None if commit is None else commit.pull_request
    return Origin(revision=revision, commit=commit, pull_request=number, address=_address(settings, number))


def _address(settings: Settings, number: int | None) -> str | None:
    if number is None or settings.repo is None:
        return None
    from tsched.gitops.forge import change_address  # with an HTTP client that is slow to load and not used here

    return change_address(settings.repo, number, environ=settings.environ)


def _recipe(commits: Commits, run: Run) -> RecipeThen | None:
    try:
        files = commits.files(run.revision)
        file = files.entries.get(run.recipe)
        if file is None or file.kind is not FileKind.FILE:
            return None
        text = files.read(file).decode("utf-8", "replace")
        return RecipeThen(
            path=file.path, blob=file.blob, text=text, changed=commits.last_change(run.revision, file.path)
        )
    except TransientError:
        return None


def _named(commits: Commits, text: str, ran: Sequence[str]) -> str:
    """The revision that a text names: among the commits, else among those that ran."""
    try:
        return commits.resolve(text)
    except (ConfigurationError, TransientError):
        like = [one for one in ran if len(text) >= 4 and one.startswith(text)]
        if len(like) == 1:
            return like[0]
        raise


def _before(ran: Sequence[tuple[str, float]], origin: Origin) -> str | None:
    """The revision that began to run last before this one did (or, where it ran nothing, before its commit)."""
    made = origin.commit.date if origin.commit is not None else 0.0
    began = dict(ran).get(origin.revision, made)
    earlier = [revision for revision, first in ran if first < began and revision != origin.revision]
    return earlier[-1] if earlier else None


def _changes(commits: Commits, old: str | None, new: str) -> tuple[tuple[Row, ...], str]:
    """What the step from one revision to another changed; and why that is not known, "" where it is."""
    if old is None:
        return (), ""  # there is nothing to compare
    try:
        before, after = (load_fleet(commits.files(revision)).fleet for revision in (old, new))
    except TransientError as error:
        return (), str(error)
    return ((), "one of the two breaks the rules") if after is None else (plan(before, after).rows, "")
