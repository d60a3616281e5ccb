"""GitHub issues as a board: an issue is a task, closing it completes it (docs/github.md).

Endpoints, fields and limits are of GitHub's published OpenAPI, version 2022-11-28, and of its pages "Rate limits for
the REST API" and "Best practices for using the REST API".
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.task import Task, TaskStatus
from tsched.rest.access import Access, Limits, check_token
from tsched.rest.github import github_api, github_http
from tsched.rest.refusal import Limited, Refused
from tsched.tasks.claims import Claim, Remark, parse
from tsched.tasks.commented import CommentedTasks
from tsched.tasks.github_comment import Comment, remark_of, written
from tsched.tasks.github_issue import PARKED, REVIEW, WORKING, Issue, blockers_of, labels_for, task_of
from tsched.tasks.github_rights import NEEDS, Rights
from tsched.tasks.ledger import Ledger

if TYPE_CHECKING:
    from tsched.rest.call import Answer

_LABEL = 50  # characters that GitHub takes
_LIMITS = Limits(attempts=3, pause=2.0, patience=-1.0)  # whoever says to wait is asked again by a later pass
_PLACE = re.compile(r"github(?:\+(https?)://([\w.-]+(?::\d+)?)/|://)([\w-][\w.-]*)/((?!\.+/?\Z)[\w.-]+)/?")


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
        self._path = f"/repos/{access.project}/issues"
        self._project = access.project
        self._review = review
        self._clock = clock
        self._until = 0.0  # GitHub wants no calls before, by the clock
        self._pages: dict[str, Answer] = {}
        self._seen: dict[str, Issue] = {}
        self._rights = Rights(self._http, access.project)

    def close(self) -> None:
        self._http.close()

    def tasks(self, status: TaskStatus) -> Sequence[Task]:
        query = {"state": "open", "sort": "created", "direction": "asc"}
        with self._calling():
            issues = list(self._http.pages(list[Issue], self._path, needs=NEEDS, query=query, known=self._pages))
        self._seen = {str(one.number): one for one in issues}
        open_ones = {one.number for one in issues}
        ours = [one for one in issues if one.pull_request is None and (one.named("queue") or one.named("agent"))]
        ours = [one for one in ours if not one.locked or WORKING in one.names]  # nobody could say that it is claimed
        wanted = (status, TaskStatus.PARKED) if status is TaskStatus.IDLE else (status,)
        tasks = [task_of(one, [number for number in blockers_of(one) if number in open_ones]) for one in ours]
        return [task for task in tasks if task.status in wanted]

    def odd(self) -> Mapping[str, str]:
        return {}

    def look(self, task_id: str) -> tuple[Task, Sequence[Remark]] | None:
        with self._calling():
            issue = self._issue(int(task_id))
            if issue is None or issue.pull_request is not None or issue.number != int(task_id):
                return None
            path = f"{self._path}/{issue.number}/comments"
            comments = list(self._http.pages(list[Comment], path, needs=NEEDS))
            remarks = [remark_of(one) for one in comments if self._rights.may_claim(one)]
            return task_of(issue, [one for one in blockers_of(issue) if self._is_open(one)]), remarks

    def change(self, now: Task, wanted: Task) -> Task:
        issue = self._seen[now.id]
        labels = labels_for(issue, wanted, review=self._review)
        body: dict[str, object] = {}
        if {one.lower() for one in labels} != {one.lower() for one in issue.names}:
            body["labels"] = labels
        if wanted.status is TaskStatus.COMPLETE and issue.state == "open" and not self._review:
            body |= {"state": "closed", "state_reason": "completed"}
        if not body:
            return now
        with self._calling():
            path = f"{self._path}/{issue.number}"
            after = self._http.ask(Issue, "PATCH", path, needs=NEEDS, body=body)
        self._seen[now.id] = after
        return task_of(after, [] if now.blocked_by is None else [int(now.blocked_by)])

    def comment(self, task_id: str, *, author: str, text: str) -> None:
        issue, word = self._seen[task_id], parse(text)
        with self._calling():
            if isinstance(word, Claim):
                ours = {WORKING, PARKED, f"agent:{word.agent}", *([REVIEW] if self._review else [])}
                self._rights.prepare(issue.number, issue.names, ours)
            try:
                self._http.tell(f"{self._path}/{issue.number}/comments", {"body": written(text)}, needs=NEEDS)
            except Refused as error:
                if error.status != 403 or not issue.locked:
                    raise  # what can't be said on a locked issue is not worth holding its result up

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
            self._rights.doubt()
            raise TransientError(str(error)) from error

    def _issue(self, number: int) -> Issue | None:
        try:
            issue = self._http.ask(Issue, "GET", f"{self._path}/{number}", needs=NEEDS)
        except Refused as error:
            if error.status not in (404, 410):
                raise
            # Gone; or all is hidden from a token that lost its rights, and then the list is too.
            self._http.ask(list[Issue], "GET", self._path, needs=NEEDS, query={"per_page": "1"})
            return None
        self._seen[str(number)] = issue
        return issue

    def _is_open(self, number: int) -> bool:
        issue = self._issue(number)
        return issue is not None and issue.state == "open"
