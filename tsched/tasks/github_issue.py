"""A GitHub issue as a task: labels say queue, agent, priority and state, lines of its body what blocks it."""

import re
from collections.abc import Collection

import msgspec

from tsched.model.task import Task, TaskStatus
from tsched.rest.github import GitHubUser
from tsched.tasks.wire import epoch

WORKING, PARKED, REVIEW = "tsched:working", "tsched:parked", "tsched:review"
_STATES = {TaskStatus.WORKING: WORKING, TaskStatus.PARKED: PARKED}
_BLOCKERS = 20  # of one body that are looked at
_VALUES = {"queue": "[a-z0-9][a-z0-9_-]{0,62}", "agent": "[a-z0-9][a-z0-9_-]{0,62}", "priority": "-?[0-9]{1,9}"}
_BLOCKED = re.compile(r"^[ \t]*(?:[-*][ \t]+)?blocked by:?[ \t]+(#\d+(?:[ \t]*(?:,|and)[ \t]*#\d+)*)", re.I | re.M)


class Label(msgspec.Struct, frozen=True):
    """A label, as GitHub gives it."""

    name: str | None = None


class _Dependencies(msgspec.Struct, frozen=True):
    blocked_by: int = 0  # open ones


class Issue(msgspec.Struct, frozen=True):
    """An issue, or a pull request, as GitHub gives it."""

    number: int
    title: str
    state: str
    created_at: str
    updated_at: str
    state_reason: str | None = None
    body: str | None = None
    labels: list[Label | str] = []
    locked: bool = False
    user: GitHubUser | None = None
    pull_request: object = None
    issue_dependencies_summary: _Dependencies | None = None

    @property
    def names(self) -> list[str]:
        """The labels' names."""
        return [name for one in self.labels if (name := one if isinstance(one, str) else one.name)]

    def named(self, kind: str) -> str | None:
        """What follows `queue:`, `agent:` or `priority:` in a label; of several, the first by name.

        GitHub's labels don't tell case apart. What can't be such a name is a label like any other.
        """
        return min((found for one in self.names if (found := _value(one, kind)) is not None), default=None)


def _value(label: str, kind: str) -> str | None:
    found = re.fullmatch(rf"{kind}:\s*({_VALUES[kind]})", label.lower())
    return found[1] if found else None


def task_of(issue: Issue, blockers: Collection[int]) -> Task:
    """The task that the issue is. `blockers`: the open issues that its body names."""
    labels = {one.lower() for one in issue.names}
    if issue.state == "closed":
        finished = issue.state_reason in (None, "completed")
        status = TaskStatus.COMPLETE if finished else TaskStatus.CANCELLED
    elif REVIEW in labels:
        status = TaskStatus.COMPLETE
    else:
        status = next((one for one, label in _STATES.items() if label in labels), TaskStatus.IDLE)
    dependencies = issue.issue_dependencies_summary
    return Task(
        id=str(issue.number),
        title=issue.title,
        queue=issue.named("queue") or "",
        status=status,
        description=issue.body or "",
        assigned_to=issue.named("agent"),
        priority=int(issue.named("priority") or 0),
        created_at=epoch(issue.created_at),
        updated_at=epoch(issue.updated_at),
        blocked_by=next(map(str, blockers), None),
        blocked=bool(blockers) or (dependencies is not None and dependencies.blocked_by > 0),
        created_by=issue.user.login if issue.user else "",
    )


def blockers_of(issue: Issue) -> list[int]:
    """The issues (or pull requests) that a line `Blocked by #12, #13` of its body names."""
    named = [int(one) for line in _BLOCKED.findall(issue.body or "") for one in re.findall(r"\d{1,9}", line)]
    return [one for one in dict.fromkeys(named) if one != issue.number][:_BLOCKERS]


def labels_for(issue: Issue, wanted: Task, *, review: bool) -> list[str]:
    """All labels the issue shall have: people's own, and ours."""
    state = _STATES.get(wanted.status)
    if wanted.status is TaskStatus.COMPLETE and issue.state == "open" and review:
        state = REVIEW
    agent = f"agent:{wanted.assigned_to}" if wanted.assigned_to is not None else None
    theirs = [one for one in issue.names if one.lower() not in (WORKING, PARKED, REVIEW)]
    theirs = [one for one in theirs if _value(one, "agent") is None]
    return [*theirs, *(one for one in (agent, state) if one is not None)]
