"""TinyTask's operations on comments and links, on the embedded queue."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tsched.model.errors import ConfigurationError
from tsched.tasks.embedded import EmbeddedTasks
from tsched.tasks.embedded_tables import LONGEST_TEXT, check_text
from tsched.tasks.served_claims import check_remark, heed
from tsched.tasks.served_rows import Json, NotFoundError, ShownRows


class NotedTasks(EmbeddedTasks):
    """Each operation takes checked arguments (tools.py) and gives JSON. Raises ConfigurationError for bad ones."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._shown = ShownRows(self._db, path)

    def add_comment(self, given: Mapping[str, object]) -> Json:
        text = str(given["content"]).strip()
        if not text:
            raise ConfigurationError("Comment content is required")
        check_text("comment", text, LONGEST_TEXT)
        number = int(str(given["task_id"]))
        with self._writing():
            self._shown.task(number)
            now = self._clock()
            added = self._db.execute(
                "INSERT INTO comments (task_id, author, text, created_at) VALUES (?, ?, ?, ?)",
                (number, given.get("created_by") or "", text, now),
            ).lastrowid
            heed(self._db, number, text)
            return self._shown.comments("id = ?", added)[0]

    def list_comments(self, given: Mapping[str, object]) -> Sequence[Json]:
        return self._shown.comments("task_id = ?", given["task_id"])

    def update_comment(self, given: Mapping[str, object]) -> Json:
        text = str(given["content"]).strip()
        if not text:
            raise ConfigurationError("Comment content cannot be empty")
        check_text("comment", text, LONGEST_TEXT)
        with self._writing():
            check_remark(self._db, given["id"])
            self._touch("comments", given["id"], "text = ?, updated_at = ?", text, self._clock())
            return self._shown.comments("id = ?", given["id"])[0]

    def delete_comment(self, given: Mapping[str, object]) -> Json:
        with self._writing():
            check_remark(self._db, given["id"])
            return self._delete("comments", given["id"])

    def add_link(self, given: Mapping[str, object]) -> Json:
        number = int(str(given["task_id"]))
        if not str(given["url"]).strip():
            raise ConfigurationError("Link URL is required")
        with self._writing():
            self._shown.task(number)
            added = self._db.execute(
                "INSERT INTO links (task_id, url, description, created_by, created_at) VALUES (?, ?, ?, ?, ?)",
                (number, given["url"], given.get("description"), given.get("created_by"), self._clock()),
            ).lastrowid
            return self._shown.links("id = ?", added)[0]

    def list_links(self, given: Mapping[str, object]) -> Sequence[Json]:
        return self._shown.links("task_id = ?", given["task_id"])

    def update_link(self, given: Mapping[str, object]) -> Json:
        with self._writing():
            for key in ("url", "description"):
                if key in given:
                    self._touch("links", given["id"], f"{key} = ?", given[key])
            found = self._shown.links("id = ?", given["id"])
        if not found:
            raise NotFoundError(f"Link not found: {given['id']}")
        return found[0]

    def delete_link(self, given: Mapping[str, object]) -> Json:
        return self._delete("links", given["id"])

    def _touch(self, table: str, number: object, change: str, *values: object) -> None:
        done = self._db.execute(f"UPDATE {table} SET {change} WHERE id = ?", (*values, number))
        if not done.rowcount:
            raise NotFoundError(f"{table[:-1].capitalize()} not found: {number}")

    def _delete(self, table: str, number: object) -> Json:
        with self._writing():
            if not self._db.execute(f"DELETE FROM {table} WHERE id = ?", (number,)).rowcount:
                raise NotFoundError(f"{table[:-1].capitalize()} not found: {number}")
        return {"success": True, "id": number}
