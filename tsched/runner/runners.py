"""The runners that a task server knows by their claims; the end of a dead one; which of them this host is."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tsched.executors.executor import Liveness
from tsched.failpoint import failpoint
from tsched.model.errors import ConfigurationError
from tsched.model.event import Event
from tsched.model.task import Settlement, Task, Verdict
from tsched.runner.execution import executor_of
from tsched.runner.folder import folder_of
from tsched.runner.sources import source_of
from tsched.settings import Settings
from tsched.state import events, history, identity
from tsched.state.database import Database
from tsched.state.folder import StateFolder
from tsched.state.lock import RunnerLock
from tsched.tasks.source import TaskSource

SHORTEST = 6  # letters of an id that may stand for the whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A runner and the open tasks that it has claimed. `here`: it is this state folder's own."""

    id: str
    here: bool
    tasks: tuple[Task, ...]


def known(settings: Settings) -> Sequence[Known]:
    """This host's own runner first, then the others by id. Raises TransientError."""
    ours = identity.known_id(folder_of(settings))
    with _tasks(settings) as tasks:
        claims = _by_runner(tasks)
    mine = [Known(id=ours, here=True, tasks=claims.get(ours, ()))] if ours is not None else []
    return [*mine, *(Known(id=one, here=False, tasks=claims[one]) for one in sorted(claims.keys() - {ours}))]


def forget(settings: Settings, runner: str, *, by: str) -> Known:
    """Let go of every claim of another runner: its tasks go back to their queues, no attempt charged.

    Nothing can tell whether that runner is dead: a live one goes on with its runs, and they are run twice. `runner`:
    its id, or the beginning of it. Raises ConfigurationError for this host's own, or for one that holds no claim.
    """
    ours = identity.known_id(folder_of(settings))
    with _tasks(settings) as tasks:
        claims = _by_runner(tasks)
        name = _named(runner, claims.keys() | ({ours} if ours is not None else set()))
        if name == ours:
            raise ConfigurationError(
                f"{name} is this host's own runner: its claims end with its runs, its next pass frees any other"
            )
        for task in claims[name]:
            run_id = task.claim_run or ""
            words = f"The claim of run {run_id} is let go: {by} says that its runner {name} is gone for good."
            tasks.comment(task.id, author="tsched", text=words, tag=f"forgotten-{run_id}")
            tasks.settle(task.id, run_id, Settlement(verdict=Verdict.RETRY, charged=False))
        return Known(id=name, here=False, tasks=claims[name])


def adopt(settings: Settings, *, by: str) -> str:
    """Keep the id of a state folder that came from elsewhere. Gives it. Raises LockHeld."""
    folder = _folder(settings)
    with RunnerLock(folder):
        kept = identity.adopt(folder, host=settings.hostname)
        _tell(folder, "runner.adopted", f"{by} keeps the runner id {kept} on {settings.hostname}")
        return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """A runner of its own. `aside`: where the runs and leases are that came with the copy, None where none did."""

    before: str | None
    id: str
    aside: Path | None


def renew(settings: Settings, *, by: str) -> Renewed:
    """Give a copied state folder an id of its own. What belongs to the other runner's runs is put aside, unused.

    Raises LockHeld, and ConfigurationError where runs of it live here: then it is no copy.
    """
    folder = _folder(settings)
    with RunnerLock(folder):
        live = [one for one, state in executor_of(settings, folder).poll().items() if state is Liveness.ALIVE]
        if live:
            raise ConfigurationError(
                f"its runs live here ({', '.join(sorted(live)[:3])}), so this is no copy: nothing is changed"
            )
        before = identity.known_id(folder)
        aside = _put_aside(folder, before or "unknown")
        now = identity.renew(folder, host=settings.hostname)
        _tell(folder, "runner.renewed", f"{by} made this folder a runner of its own: {before} is now {now}")
        return Renewed(before=before, id=now, aside=aside)


def _put_aside(folder: StateFolder, before: str) -> Path | None:
    """Move away what speaks of the other runner's runs; results that it has to deliver are its own matter."""
    with closing(Database.open(folder.db)) as db:
        for result in history.unacknowledged(db):
            history.acknowledge(db, result.run.run_id)
    things = [one for place in (folder.runs, folder.running, folder.workspaces) for one in place.glob("*")]
    things += [one for one in (folder.ledger, *folder.root.glob(f"{folder.ledger.name}-*")) if one.exists()]
    if not things:
        return None
    aside = folder.root / "of-another-runner" / before
    for thing in things:
        (aside / thing.parent.name).mkdir(mode=0o700, parents=True, exist_ok=True)
        thing.rename(aside / thing.parent.name / thing.name)
        failpoint("put aside")
    return aside


def _folder(settings: Settings) -> StateFolder:
    folder = folder_of(settings)
    if not folder.root.is_dir():
        raise ConfigurationError(f"there is no state folder {folder.root}: set TSCHED_STATE as the runner has it")
    folder.create()
    return folder


@contextmanager
def _tasks(settings: Settings) -> Iterator[TaskSource]:
    """The task server, to write to. What this host's runner remembers of a server is not touched."""
    folder = folder_of(settings)
    if settings.tasks is None and not folder.root.is_dir():
        raise ConfigurationError(f"there is no state folder {folder.root}, and so no queue: see TSCHED_STATE")
    with closing(source_of(settings, folder, read_only=settings.tasks is not None)) as tasks:
        yield tasks


def _by_runner(tasks: TaskSource) -> dict[str, tuple[Task, ...]]:
    found: dict[str, tuple[Task, ...]] = {}
    for task in tasks.claims():
        if task.claim_runner is not None:
            found[task.claim_runner] = (*found.get(task.claim_runner, ()), task)
    return found


def _named(runner: str, ids: set[str]) -> str:
    meant = sorted(one for one in ids if one == runner or (len(runner) >= SHORTEST and one.startswith(runner)))
    if len(meant) > 1:
        raise ConfigurationError(f"{runner} may be {' or '.join(meant)}: write more of it")
    if not meant:
        raise ConfigurationError(
            f"no open task is claimed by a runner {runner}: `tsched runner list` shows who claims"
        )
    return meant[0]


def _tell(folder: StateFolder, kind: str, words: str) -> None:
    with closing(Database.open(folder.db)) as db, db.transaction():
        events.append(db, [Event(time=time.time(), kind=kind, subject="runner", message=words, revision=None)])
