"""TinyTask as a board: its statuses are idle, working and complete; a parked task is assigned to `parked`."""

from collections.abc import Mapping, Sequence

from tsched.model.errors import TransientError
from tsched.model.task import Task, TaskStatus
from tsched.rest.texts import cut
from tsched.tasks.claims import PARKED, Remark, status_of
from tsched.tasks.embedded_tables import LONGEST_TITLE
from tsched.tasks.wire import NoteRow, TaskRow, Wire, epoch


class TinyTask:
    """A TinyTask server over one transport. See Board.

    The server has no conditional write, so between the last look at a task and our change to it there is a moment in
    which another's change is lost; on one machine the lease decides, between runners the claim comments do.
    """

    name = "tinytask"
    unpark = "assign it to an agent, or to nobody"
    longest = 1000

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._odd: dict[TaskStatus, Mapping[str, str]] = {}  # by listing

    def close(self) -> None:
        self._wire.close()

    def tasks(self, status: TaskStatus) -> Sequence[Task]:
        listing = self._wire.tasks(status=str(status))
        found, odd = [], dict(listing.odd)
        for row in listing.rows:
            try:
                found.append(_task(row))
            except TransientError as error:
                odd[str(row.id)] = str(error)
        self._odd[status] = odd
        return found

    def odd(self) -> Mapping[str, str]:
        return {name: words for found in self._odd.values() for name, words in found.items()}

    def look(self, task_id: str) -> tuple[Task, Sequence[Remark]] | None:
        row = self._wire.task(int(task_id))
        return None if row is None else (_task(row), [_remark(one) for one in row.comments])

    def change(self, now: Task, wanted: Task) -> Task:
        if (now.status, now.assigned_to) == (wanted.status, wanted.assigned_to):
            return now
        parked = wanted.status is TaskStatus.PARKED
        status, assigned_to = (TaskStatus.IDLE, PARKED) if parked else (wanted.status, wanted.assigned_to or "")
        return _task(self._wire.update(int(now.id), status=str(status), assigned_to=assigned_to))

    def comment(self, task_id: str, *, author: str, text: str) -> None:
        self._wire.comment(int(task_id), author=author, text=text)


def _remark(note: NoteRow) -> Remark:
    return Remark(id=note.id, text=note.content, author=note.created_by or "", created_at=epoch(note.created_at))


def _task(row: TaskRow) -> Task:
    """Raises TransientError for a status that TinyTask does not have."""
    try:
        status = status_of(row.status, assigned_to=row.assigned_to, archived=row.archived_at is not None)
    except ValueError as error:
        raise TransientError(f"task {row.id} has the status {row.status!r}, which is not known here") from error
    return Task(
        id=str(row.id),
        title=cut(row.title, LONGEST_TITLE),
        queue=row.queue_name or "",
        status=status,
        description=row.description or "",
        assigned_to=None if status is TaskStatus.PARKED else row.assigned_to,
        priority=row.priority,
        created_at=epoch(row.created_at),
        updated_at=epoch(row.updated_at),
        blocked_by=None if row.blocked_by_task_id is None else str(row.blocked_by_task_id),
        blocked=row.is_currently_blocked,
        created_by=row.created_by or "",
        parent=None if row.parent_task_id is None else str(row.parent_task_id),
    )
