"""Claims that come to the embedded queue as comments, carried out; and its own claims, said as such comments."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from tsched.model.errors import ConfigurationError
from tsched.tasks.claims import STORE, Claim, End, Left, Remark, parse, standing
from tsched.tasks.served_rows import Json

LAST = 2**52  # the id of a comment that is nowhere stored: after all others


class TakenError(ConfigurationError):
    """A claim that lost."""


def heed(db: sqlite3.Connection, number: int, text: str) -> None:
    """Carry out a claim or an end: the store's own claim then agrees with the comments. Raises TakenError."""
    word = parse(text)
    if isinstance(word, Claim):
        taken = db.execute(
            "UPDATE tasks SET claim_run = ?, claim_runner = ?, claim_agent = ?, claim_queue = queue "
            "WHERE id = ? AND status = 'idle' AND (claim_run IS NULL OR claim_runner = ?)",
            (word.run, word.runner, word.agent, number, word.runner),
        )
        if not taken.rowcount:
            raise TakenError(f"task {number} is not to be had: it is claimed already, or not idle")
    elif isinstance(word, End) and _claimed_here(db, number, word.run):
        db.execute(
            "UPDATE tasks SET claim_run = NULL, claim_runner = NULL, claim_agent = NULL, claim_queue = NULL, "
            "attempts = ?, runs = ?, not_before = ? WHERE id = ? AND claim_run = ?",
            (word.attempts, word.runs, word.not_before, number, word.run),
        )


def _claimed_here(db: sqlite3.Connection, number: int, run: str) -> bool:
    """Whether that run claimed by a comment: the claims of a runner on the store itself are its own alone."""
    start = f"tsched-claim {run} "
    words = "SELECT 1 FROM comments WHERE task_id = ? AND substr(text, 1, ?) = ? LIMIT 1"
    return db.execute(words, (number, len(start), start)).fetchone() is not None


def check_remark(db: sqlite3.Connection, number: object) -> None:
    """Raises ConfigurationError for a comment that is more than a remark."""
    row = db.execute("SELECT text FROM comments WHERE id = ?", (number,)).fetchone()
    if row is not None and parse(row[0]) is not None:
        raise ConfigurationError(f"comment {number} is a runner's claim, or the end of one: it stays as it is")


def own_words(db: sqlite3.Connection, task: Json, said: Sequence[Json]) -> Sequence[Json]:
    """What a runner on the store itself would have said in comments, for those who read nothing else."""
    row = db.execute(
        "SELECT claim_run, claim_runner, claim_agent, queue, attempts, runs, not_before, status "
        "FROM tasks WHERE id = ?",
        (task["id"],),
    ).fetchone()
    run, runner, agent, queue, attempts, runs, not_before, status = row
    seen = standing(Remark(id=int(str(one["id"])), text=str(one["content"])) for one in said)
    text = ""
    if run is not None and (seen.claim is None or seen.claim.run != run):
        text = Claim(run=run, runner=runner, agent=agent or "-", queue=queue, attempts=attempts, runs=runs).text()
    elif run is None and status == "idle":
        left = Left(status=status, assigned_to=str(task["assigned_to"]) if task["assigned_to"] else None, queue=queue)
        end = End(run=STORE, attempts=attempts, runs=runs, not_before=not_before, left=left)
        known = seen.end if seen.claim is None else None
        if replace(known, run=STORE) != end if known is not None else (attempts, runs, not_before) != (0, 0, 0):
            text = end.text()
    if not text:
        return []
    times = {"created_at": task["updated_at"], "updated_at": task["updated_at"]}
    return [{"id": LAST, "task_id": task["id"], "content": text, "created_by": "tsched", **times}]
