"""What this runner knows of the claims and ends on a task server, so that a pass reads no task's comments again.

The comments on the server are the truth; a lost ledger costs some requests, nothing else.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from tsched.sqlite import open_database, open_in_memory, open_read_only, transaction, translated
from tsched.tasks.claims import Claim, Standing

MIGRATIONS = (
    "CREATE TABLE tasks (server TEXT NOT NULL, id TEXT NOT NULL, standing TEXT NOT NULL, PRIMARY KEY (server, id))",
)


class Ledger:
    """One row for each task of `server` whose claim or newest end is known. Raises as tsched.sqlite does."""

    def __init__(self, path: Path, server: str, *, read_only: bool = False) -> None:
        self._path = path
        self._server = server
        if read_only:
            self._db = open_read_only(path, migrations=MIGRATIONS) or open_in_memory(migrations=MIGRATIONS)
        else:
            self._db = open_database(path, migrations=MIGRATIONS)
        with translated(path):
            rows = self._db.execute("SELECT id, standing FROM tasks WHERE server = ?", (server,)).fetchall()
        self._known: dict[str, Standing] = {}
        for task_id, text in rows:
            with suppress(msgspec.DecodeError):  # what can't be read is not known: the comments are the truth
                self._known[task_id] = msgspec.json.decode(text, type=Standing)

    def close(self) -> None:
        self._db.close()

    def of(self, task_id: str) -> Standing:
        """What is known of the task."""
        return self._known.get(task_id, Standing())

    def claims(self, runner: str) -> Mapping[str, Claim]:
        """The claims of that runner, by task id."""
        return {
            task_id: known.claim
            for task_id, known in self._known.items()
            if known.claim is not None and known.claim.runner == runner
        }

    def put(self, task_id: str, standing: Standing) -> None:
        """Remember it, durably; a task that nothing is known of is forgotten."""
        if self._known.get(task_id, Standing()) == standing:
            return
        with translated(self._path), transaction(self._db):
            if standing == Standing():
                self._db.execute("DELETE FROM tasks WHERE server = ? AND id = ?", (self._server, task_id))
            else:
                text = msgspec.json.encode(standing).decode()
                self._db.execute("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?)", (self._server, task_id, text))
        if standing == Standing():
            self._known.pop(task_id, None)
        else:
            self._known[task_id] = standing

    def keep(self, task_ids: Collection[str], runner: str) -> None:
        """Forget each task that is none of these and is not claimed by that runner: it waits no longer."""
        stay = {*task_ids, *self.claims(runner)}
        for task_id in self._known.keys() - stay:
            self.put(task_id, Standing())
