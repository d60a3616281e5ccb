"""GitHub issues as a board: labels say queue, agent, priority and state, closing completes (docs/github.md).

Endpoints, fields and limits are of GitHub's published OpenAPI, version 2022-11-28, and of its pages "Rate limits for
the REST API" and "Best practices for using the REST API".
"""

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec

from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.task import Task, TaskStatus
from tsched.rest import (
    Access,
    Answer,
    GitHubSelf,
    GitHubUser,
    Limited,
    Limits,
    Refused,
    check_token,
    cut,
    github_api,
    github_http,
)
from tsched.tasks.claims import Claim, Remark, parse
from tsched.tasks.commented import CommentedTasks
from tsched.tasks.ledger import Ledger
from tsched.tasks.wire import epoch

WORKING, PARKED, REVIEW = "tsched:working", "tsched:parked", "tsched:review"
_STATES = {TaskStatus.WORKING: WORKING, TaskStatus.PARKED: PARKED}
_NEEDS = "`issues: write`"
_LABEL, _BODY = 50, 65536  # characters that GitHub takes
_BLOCKERS = 20  # of one body that are looked at
_MAY_CLAIM = ("OWNER", "MEMBER", "COLLABORATOR")
_ROLES = {"admin", "maintain", "write", "triage"}
_VALUES = {"queue": "[a-z0-9][a-z0-9_-]{0,62}", "agent": "[a-z0-9][a-z0-9_-]{0,62}", "priority": "-?[0-9]{1,9}"}
_LIMITS = Limits(attempts=3, pause=2.0, patience=-1.0)  # whoever says to wait is asked again by a later pass
_PLACE = re.compile(r"github(?:\+(https?)://([\w.-]+(?::\d+)?)/|://)([\w-][\w.-]*)/((?!\.+/?\Z)[\w.-]+)/?")
_BLOCKED = re.compile(r"^[ \t]*(?:[-*][ \t]+)?blocked by:?[ \t]+(#\d+(?:[ \t]*(?:,|and)[ \t]*#\d+)*)", re.I | re.M)
_FENCED = re.compile(r"(`{3,})text\r?\n(.*)\r?\n\1\s*", re.DOTALL)
_MARK = re.compile(r"<!-- (tsched-(?:claim|end) .*|\[tsched:.*\]) -->(?:\r?\n|\Z)")


class _Label(msgspec.Struct, frozen=True):
    name: str | None = None


class _Dependencies(msgspec.Struct, frozen=True):
    blocked_by: int = 0  # open ones


class _Issue(msgspec.Struct, frozen=True):
    number: int
    title: str
    state: str
    created_at: str
    updated_at: str
    state_reason: str | None = None
    body: str | None = None
    labels: list[_Label | str] = []
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


class _Permissions(msgspec.Struct, frozen=True):
    pull: bool = False  # of a person always, of an App's token not
    push: bool = False
    triage: bool = False


class _Repository(msgspec.Struct, frozen=True):
    permissions: _Permissions | None = None  # the user's, of whose token it is


class _Permission(msgspec.Struct, frozen=True):
    permission: str = ""
    role_name: str = ""


class _Comment(msgspec.Struct, frozen=True):
    id: int
    body: str | None = None
    user: GitHubUser | None = None
    author_association: str = "NONE"
    created_at: str = ""


def issues_at(
    address: str, *, ledger: Path, token: str | None, review: bool = False, read_only: bool = False
) -> CommentedTasks:
    """A client of `github://OWNER/REPOSITORY`, or `github+https://HOST/OWNER/REPOSITORY`. Nothing is asked of it yet.

    `review`: a complete run's issue stays open, for a person. Raises ConfigurationError for an address or a token
    that can't be one.
    """
    found = _PLACE.fullmatch(address)
    scheme, place, owner, repository = found.groups() if found else ("", "", "", "")
    local = (place or "").partition(":")[0] in ("localhost", "127.0.0.1")
    if found is None or (scheme == "http" and not local):
        raise ConfigurationError(
            f"{address!r} is no GitHub repository: set TSCHED_TASKS to github://OWNER/REPOSITORY, "
            "or github+https://HOST/OWNER/REPOSITORY"
        )
    if token is None:
        raise ConfigurationError(
            f"no token for {owner}/{repository}: set TSCHED_TASKS_TOKEN to one that may read and write its issues"
        )
    api = github_api(place or "github.com")
    access = Access(
        api=api.replace("https:", "http:") if scheme == "http" else api, project=f"{owner}/{repository}",
        variable="TSCHED_TASKS_TOKEN", token=check_token("TSCHED_TASKS_TOKEN", token), address="TSCHED_TASKS",
    )  # fmt: skip
    return CommentedTasks(GitHubIssues(access, review=review), Ledger(ledger, address, read_only=read_only))


class GitHubIssues:
    """A repository's issues. See Board.

    GitHub has no conditional write: a label that a person sets in the moment between our last look at an issue and
    our change of it is lost.
    """

    name = "github"
    unpark = f"take the label {PARKED} off"
    longest = _LABEL - len("agent:")

    def __init__(
        self, access: Access, *, review: bool, limits: Limits = _LIMITS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._http = github_http(access, limits)
        self._repository = f"/repos/{access.project}"
        self._path = f"{self._repository}/issues"
        self._project = access.project
        self._review = review
        self._clock = clock
        self._until = 0.0  # GitHub wants no calls before, by the clock
        self._pages: dict[str, Answer] = {}
        self._seen: dict[str, _Issue] = {}
        self._self = GitHubSelf(self._http)
        self._may_label = False  # as far as we have seen
        self._labels: set[str] = set()  # those that are there
        self._writers: dict[str, bool] = {}  # accounts that were asked for

    def close(self) -> None:
        self._http.close()

    def tasks(self, status: TaskStatus) -> Sequence[Task]:
        query = {"state": "open", "sort": "created", "direction": "asc"}
        with self._calling():
            issues = list(
                self._http.pages(list[_Issue], self._path, needs=_NEEDS, query=query, known=self._pages)
            )  # fmt: skip
        self._seen = {str(one.number): one for one in issues}
        open_ones = {one.number for one in issues}
        ours = [one for one in issues if one.pull_request is None and (one.named("queue") or one.named("agent"))]
        ours = [one for one in ours if not one.locked or WORKING in one.names]  # nobody could say that it is claimed
        wanted = (status, TaskStatus.PARKED) if status is TaskStatus.IDLE else (status,)
        tasks = [_task(one, [number for number in _blockers(one) if number in open_ones]) for one in ours]
        return [task for task in tasks if task.status in wanted]

    def odd(self) -> Mapping[str, str]:
        return {}

    def look(self, task_id: str) -> tuple[Task, Sequence[Remark]] | None:
        with self._calling():
            issue = self._issue(int(task_id))
            if issue is None or issue.pull_request is not None or issue.number != int(task_id):
                return None
            path = f"{self._path}/{issue.number}/comments"
            comments = list(self._http.pages(list[_Comment], path, needs=_NEEDS))
            remarks = [_remark(one) for one in comments if self._may_claim(one)]
            return _task(issue, [one for one in _blockers(issue) if self._is_open(one)]), remarks

    def change(self, now: Task, wanted: Task) -> Task:
        issue = self._seen[now.id]
        labels = _labels(issue, wanted, review=self._review)
        body: dict[str, object] = {}
        if {one.lower() for one in labels} != {one.lower() for one in issue.names}:
            body["labels"] = labels
        if wanted.status is TaskStatus.COMPLETE and issue.state == "open" and not self._review:
            body |= {"state": "closed", "state_reason": "completed"}
        if not body:
            return now
        with self._calling():
            path = f"{self._path}/{issue.number}"
            after = self._http.ask(_Issue, "PATCH", path, needs=_NEEDS, body=body)
        self._seen[now.id] = after
        return _task(after, [] if now.blocked_by is None else [int(now.blocked_by)])

    def comment(self, task_id: str, *, author: str, text: str) -> None:
        issue, word = self._seen[task_id], parse(text)
        with self._calling():
            if isinstance(word, Claim):
                self._prepare(issue, word.agent)
            try:
                self._http.tell(f"{self._path}/{issue.number}/comments", {"body": _written(text)}, needs=_NEEDS)
            except Refused as error:
                if error.status != 403 or not issue.locked:
                    raise  # what can't be said on a locked issue is not worth holding its result up

    def _make(self, label: str) -> None:
        """Have that label in the repository."""
        try:
            self._http.ask(_Label, "GET", f"{self._repository}/labels/{quote(label, safe='')}", needs=_NEEDS)
        except Refused as error:
            if error.status != 404:
                raise
        else:
            return
        try:
            words = "set and taken off by tsched" if label.startswith("tsched:") else "worked on by this agent"
            self._http.tell(f"{self._repository}/labels", {"name": label, "description": words}, needs=_NEEDS)
        except Refused as error:
            if error.status != 422:  # another has just made it
                raise TransientError(
                    f"{self._project} has no label {label}, and the owner of the token in TSCHED_TASKS_TOKEN may not "
                    f"make one ({error.reason}): make it by hand, or give that account the role Write"
                ) from error

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Every refusal becomes a TransientError; where GitHub says to wait, nothing is asked meanwhile."""
        wait = self._until - self._clock()
        if wait > 0:
            text = f"GitHub takes no more calls for {self._project}: we ask again in {wait:.0f} s"
            raise TransientError(text, after=wait)
        try:
            yield
        except Limited as error:
            self._until = self._clock() + error.after
            raise
        except ConfigurationError as error:  # also where a person must mend it, the server may be mended meanwhile
            self._may_label = False
            raise TransientError(str(error)) from error

    def _prepare(self, issue: _Issue, agent: str) -> None:
        """Before a claim: whoever may comment may not always label, and would comment at each pass."""
        wanted = {WORKING, PARKED, f"agent:{agent}", *([REVIEW] if self._review else [])}
        for label in sorted(wanted - self._labels):
            self._make(label)
            self._labels.add(label)
        if self._may_label:
            return
        rights = self._http.ask(_Repository, "GET", self._repository, needs=_NEEDS).permissions
        if rights is not None and rights.pull and not (rights.push or rights.triage):
            raise TransientError(
                f"the owner of the token in TSCHED_TASKS_TOKEN may not label issues of {self._project}: "
                "give that account the role Triage, or Write, there"
            )
        same = {"labels": issue.names}
        self._http.ask(_Issue, "PATCH", f"{self._path}/{issue.number}", needs=_NEEDS, body=same)
        self._may_label = True

    def _issue(self, number: int) -> _Issue | None:
        try:
            issue = self._http.ask(_Issue, "GET", f"{self._path}/{number}", needs=_NEEDS)
        except Refused as error:
            if error.status not in (404, 410):
                raise
            # Gone; or all is hidden from a token that lost its rights, and then the list is too.
            self._http.ask(list[_Issue], "GET", self._path, needs=_NEEDS, query={"per_page": "1"})
            return None
        self._seen[str(number)] = issue
        return issue

    def _is_open(self, number: int) -> bool:
        issue = self._issue(number)
        return issue is not None and issue.state == "open"

    def _may_claim(self, comment: _Comment) -> bool:
        """Anybody may comment on a public repository; only those who may write to it, and we ourselves, may claim."""
        if comment.author_association in _MAY_CLAIM or self._self.wrote(comment.user):
            return True
        if comment.user is None or comment.user.type != "User" or parse(_read(comment.body or "")) is None:
            return False
        return self._writes(comment.user.login)  # GitHub hides members of an organization that are so in private

    def _writes(self, login: str) -> bool:
        """Whether that account may label issues here. Asked once of each."""
        if login not in self._writers:
            path = f"{self._repository}/collaborators/{quote(login, safe='')}/permission"
            try:
                found = self._http.ask(_Permission, "GET", path, needs=_NEEDS)
                self._writers[login] = bool({found.permission, found.role_name} & _ROLES)
            except Refused:
                self._writers[login] = False
        return self._writers[login]


def _value(label: str, kind: str) -> str | None:
    found = re.fullmatch(rf"{kind}:\s*({_VALUES[kind]})", label.lower())
    return found[1] if found else None


def _task(issue: _Issue, blockers: Collection[int]) -> Task:
    """`blockers`: the open issues that its body names."""
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


def _blockers(issue: _Issue) -> list[int]:
    """The issues (or pull requests) that a line `Blocked by #12, #13` of its body names."""
    named = [int(one) for line in _BLOCKED.findall(issue.body or "") for one in re.findall(r"\d{1,9}", line)]
    return [one for one in dict.fromkeys(named) if one != issue.number][:_BLOCKERS]


def _labels(issue: _Issue, wanted: Task, *, review: bool) -> list[str]:
    """All labels the issue shall have: people's own, and ours."""
    state = _STATES.get(wanted.status)
    if wanted.status is TaskStatus.COMPLETE and issue.state == "open" and review:
        state = REVIEW
    agent = f"agent:{wanted.assigned_to}" if wanted.assigned_to is not None else None
    theirs = [one for one in issue.names if one.lower() not in (WORKING, PARKED, REVIEW)]
    theirs = [one for one in theirs if _value(one, "agent") is None]
    return [*theirs, *(one for one in (agent, state) if one is not None)]


def _remark(comment: _Comment) -> Remark:
    author = comment.user.login if comment.user else ""
    return Remark(id=comment.id, text=_read(comment.body or ""), author=author, created_at=epoch(comment.created_at))


def _written(text: str) -> str:
    """A comment's text as it is posted: what is for programs is hidden, and what agents said calls nobody."""
    first, _, rest = text.partition("\n")
    if parse(text) is not None:
        return cut(f"<!-- {first} -->\n{rest}", _BODY)
    words, _, tag = text.rpartition("\n")
    fence = "`" * max(3, 1 + max((len(one) for one in re.findall(r"`+", words)), default=0))
    room = _BODY - len(tag) - 2 * len(fence) - 20
    return f"<!-- {tag} -->\n{fence}text\n{cut(words, room)}\n{fence}"


def _read(body: str) -> str:
    """A comment's text as it was before it was posted, as far as claims and tags go."""
    mark = _MARK.match(body)
    if mark is None:
        return body
    rest = body[mark.end() :]
    if not mark[1].startswith("["):
        return f"{mark[1]}\n{rest}"
    fenced = _FENCED.fullmatch(rest)
    return f"{fenced[2] if fenced else rest}\n{mark[1]}"
