"""The embedded queue: a SQLite file in the state folder, used by many processes at once."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tsched.model.errors import TransientError
from tsched.model.task import Comment, QueueDepth, Settlement, Task, Verdict
from tsched.sqlite import open_beside, open_database, open_in_memory, open_read_only, transaction, translated
from tsched.tasks.embedded_tables import LONGEST_TEXT, LONGEST_TITLE, MIGRATIONS, check_text, is_id, tasks_in


class EmbeddedTasks:
    """The default task source; see TaskSource for each promise. `clock` gives seconds since the epoch.

    `read_only`: as it is now, without touching anything. `beside`: to watch it, never in its writers' way.
    """

    name = "embedded"
    unpark = "run `tsched task reopen {id}`"

    def __init__(
        self, path: Path, *, read_only: bool = False, beside: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._path = path
        self._answers: dict[str, tuple[object, Sequence[Task]]] = {}  # what a pass asks, while nobody has written
        if read_only or beside:
            opened = open_beside if beside else open_read_only
            self._db = opened(path, migrations=MIGRATIONS) or open_in_memory(migrations=MIGRATIONS)
        else:
            self._db = open_database(path, migrations=MIGRATIONS)
        self._failed: TransientError | None = None  # the newest write that did

    def close(self) -> None:
        self._db.close()

    def waiting(self, *, queues: Collection[str], agents: Collection[str]) -> Sequence[Task]:
        def ask() -> Sequence[Task]:
            known, named = set(queues), set(agents)
            rows = self._tasks("WHERE t.status = 'idle' AND t.claim_run IS NULL")
            return [task for task in rows if task.queue in known or task.assigned_to in named]

        return self._again("waiting", ask, list(queues), list(agents))

    def held(self, runner_id: str) -> Sequence[Task]:
        return self._again("held", lambda: self._tasks("WHERE t.claim_runner = ?", runner_id), runner_id)

    def adrift(self) -> Sequence[Task]:
        idle_below = "NOT EXISTS (SELECT 1 FROM tasks c WHERE c.parent = t.id AND c.status = 'working')"
        where = f"WHERE t.status = 'working' AND t.claim_run IS NULL AND {idle_below}"
        return self._again("adrift", lambda: self._tasks(where))

    def others(self, runner_id: str) -> Sequence[Task]:
        return self._again("others", lambda: self._tasks("WHERE t.claim_runner <> ?", runner_id), runner_id)

    def claims(self) -> Sequence[Task]:
        return self._tasks("WHERE t.claim_runner IS NOT NULL")

    def odd(self) -> Mapping[str, str]:
        return {}

    def get(self, ids: Collection[str]) -> Mapping[str, Task]:
        wanted = [int(one) for one in ids if is_id(one)]
        found: dict[str, Task] = {}
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            found.update((task.id, task) for task in self._tasks(f"WHERE t.id IN ({marks})", *part))
        return found

    def claim(self, task: Task, *, agent: str, run_id: str, runner_id: str) -> Task | None:
        with self._writing():
            self._db.execute(
                "UPDATE tasks SET status = 'working', assigned_to = ?, claim_run = ?, claim_runner = ?, "
                "claim_agent = ?, claim_queue = queue, updated_at = ? WHERE id = ? AND status = 'idle' "
                "AND claim_run IS NULL AND assigned_to IS ? AND queue = ? AND NOT EXISTS (SELECT 1 FROM tasks b "
                "WHERE b.id = tasks.blocked_by AND b.status IN ('idle', 'working', 'parked') AND ?)",
                (agent, run_id, runner_id, agent, self._clock(), int(task.id), task.assigned_to, task.queue,
                 not task.blocked),
            )  # fmt: skip
            self._follow(task.id)
            now = self._one(task.id)
        return now if now is not None and now.claim_run == run_id else None

    def settle(self, task_id: str, run_id: str, settlement: Settlement) -> bool:
        if not is_id(task_id):
            return False
        with self._writing():
            row = self._db.execute(
                "SELECT status = 'working' AND assigned_to IS claim_agent FROM tasks WHERE id = ? AND claim_run = ?",
                (int(task_id), run_id),
            ).fetchone()
            if row is None:
                return False
            verdict = settlement.verdict if row[0] else Verdict.STAND
            self._db.execute(
                f"UPDATE tasks SET claim_run = NULL, claim_runner = NULL, claim_agent = NULL, claim_queue = NULL, "
                f"runs = runs + 1, attempts = attempts + ?, updated_at = ?{_LEFT[verdict]} WHERE id = ?",
                (int(settlement.charged), self._clock(), *_values(verdict, settlement), int(task_id)),
            )
            self._follow(task_id)
        return True

    def comment(self, task_id: str, *, author: str, text: str, tag: str) -> None:
        self._comment(task_id, author, text, tag)

    def comments(self, task_id: str) -> Sequence[Comment]:
        if self._one(task_id) is None:
            return []
        with translated(self._path):
            rows = self._db.execute(
                "SELECT author, text, created_at, tag FROM comments WHERE task_id = ? ORDER BY id",
                (int(task_id),),
            ).fetchall()
        return [Comment(author=author, text=text, created_at=at, tag=tag) for author, text, at, tag in rows]

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._writing():
            self._failed = None
            yield
            if self._failed is not None:  # half of what it meant to write may be there: none of it shall stand
                raise self._failed

    def hand_back(self, *, agent: str, queue: str) -> int:
        with self._writing():
            return self._db.execute(
                "UPDATE tasks SET assigned_to = NULL, updated_at = ? "
                "WHERE assigned_to = ? AND queue = ? AND status = 'idle' AND claim_run IS NULL",
                (self._clock(), agent, queue),
            ).rowcount

    def depths(self) -> Sequence[QueueDepth]:
        with translated(self._path):
            rows = self._db.execute(
                "SELECT t.queue, sum(t.status = 'idle'), "
                "sum(t.status = 'idle' AND coalesce(b.status IN ('idle', 'working', 'parked'), 0)), "
                "sum(t.status = 'working') FROM tasks t LEFT JOIN tasks b ON b.id = t.blocked_by "
                "WHERE t.status IN ('idle', 'working', 'parked') GROUP BY t.queue ORDER BY t.queue"
            ).fetchall()
        return [QueueDepth(name=name, idle=idle, blocked=blocked, working=busy) for name, idle, blocked, busy in rows]

    def _follow(self, task_id: object) -> None:
        """A parent is complete once all its subtasks are, and works while one does, unless a run claimed it."""
        row = self._db.execute("SELECT parent FROM tasks WHERE id = ?", (int(str(task_id)),)).fetchone()
        if row is not None and row[0] is not None:
            self._sum_up(row[0])

    def _sum_up(self, parent: int) -> None:
        below = {
            status
            for (status,) in self._db.execute(
                "SELECT DISTINCT status FROM tasks "
                "WHERE parent = ? AND archived_at IS NULL AND status <> 'cancelled'",
                (parent,),
            )
        }
        if not below:
            return
        status = "complete" if below == {"complete"} else "working" if "working" in below else "idle"
        self._db.execute(
            "UPDATE tasks SET status = ?, updated_at = ? WHERE id = ? AND claim_run IS NULL AND status <> ? "
            "AND status IN ('idle', 'working', 'complete') AND archived_at IS NULL",
            (status, self._clock(), parent, status),
        )
        self._follow(parent)

    def _comment(self, task_id: str, author: str, text: str, tag: str | None) -> None:
        check_text("comment", text, LONGEST_TEXT)
        check_text("author", author, LONGEST_TITLE)
        if not is_id(task_id):
            return
        with self._writing():
            self._db.execute(
                "INSERT OR IGNORE INTO comments (task_id, author, text, created_at, tag) "
                "SELECT id, ?, ?, ?, ? FROM tasks WHERE id = ?",
                (author, text, self._clock(), tag, int(task_id)),
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with translated(self._path), transaction(self._db):
                yield
        except TransientError as error:
            self._failed = error
            raise

    def _one(self, task_id: str) -> Task | None:
        if not is_id(task_id):
            return None
        return next(iter(self._tasks("WHERE t.id = ?", int(task_id))), None)

    def _again(self, question: str, ask: Callable[[], Sequence[Task]], *about: object) -> Sequence[Task]:
        """The answer, the same object for as long as nobody has written to the file and the same is asked."""
        with translated(self._path):
            others = self._db.execute("PRAGMA data_version").fetchone()[0]
        asked = (others, self._db.total_changes, about)
        before = self._answers.get(question)
        if before is not None and before[0] == asked:
            return before[1]
        answer = ask()
        if not self._db.in_transaction:  # what it says now may still be undone
            self._answers[question] = (asked, answer)
        return answer

    def _tasks(self, where: str, *values: object) -> Sequence[Task]:
        with translated(self._path):
            return tasks_in(self._db, where, values)


_LEFT = {
    Verdict.COMPLETE: ", status = 'complete'",
    Verdict.RETRY: ", status = 'idle', assigned_to = ?, not_before = ?",
    Verdict.PARK: ", status = 'parked', assigned_to = ?",
    Verdict.STAND: "",
}


def _values(verdict: Verdict, settlement: Settlement) -> tuple[object, ...]:
    match verdict:
        case Verdict.RETRY:
            return (settlement.assigned_to, settlement.not_before)
        case Verdict.PARK:
            return (settlement.assigned_to,)
        case Verdict.COMPLETE | Verdict.STAND:
            return ()
