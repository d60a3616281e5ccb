"""Rights in a GitHub repository: whether ours suffice to label its issues, and whose comments may be claims."""

from collections.abc import Collection, Sequence
from urllib.parse import quote

import msgspec

from tsched.model.errors import TransientError
from tsched.rest.github import GitHubSelf
from tsched.rest.http import Http
from tsched.rest.refusal import Refused
from tsched.tasks.claims import parse
from tsched.tasks.github_comment import Comment, read
from tsched.tasks.github_issue import Issue, Label

NEEDS = "`issues: write`"  # what the token must be allowed
_MAY_CLAIM = ("OWNER", "MEMBER", "COLLABORATOR")
_ROLES = {"admin", "maintain", "write", "triage"}


class _Permissions(msgspec.Struct, frozen=True):
    pull: bool = False  # of a person always, of an App's token not
    push: bool = False
    triage: bool = False


class _Repository(msgspec.Struct, frozen=True):
    permissions: _Permissions | None = None  # the user's, of whose token it is


class _Permission(msgspec.Struct, frozen=True):
    permission: str = ""
    role_name: str = ""


class Rights:
    """What accounts may do in a repository, as far as we have asked. Raises as Http."""

    def __init__(self, http: Http, project: str) -> None:
        self._http = http
        self._project = project
        self._repository = f"/repos/{project}"
        self._self = GitHubSelf(http)
        self._may_label = False  # as far as we have seen
        self._labels: set[str] = set()  # those that are there
        self._writers: dict[str, bool] = {}  # accounts that were asked for

    def doubt(self) -> None:
        """Ask anew, before the next claim, whether we may label."""
        self._may_label = False

    def prepare(self, number: int, names: Sequence[str], wanted: Collection[str]) -> None:
        """Before a claim: whoever may comment may not always label, and would comment at each pass.

        `number`: of the issue, `names`: its labels, `wanted`: those that it may get. Raises TransientError too.
        """
        for label in sorted({*wanted} - self._labels):
            self._make(label)
            self._labels.add(label)
        if self._may_label:
            return
        rights = self._http.ask(_Repository, "GET", self._repository, needs=NEEDS).permissions
        if rights is not None and rights.pull and not (rights.push or rights.triage):
            raise TransientError(
                f"the owner of the token in TSCHED_TASKS_TOKEN may not label issues of {self._project}: "
                "give that account the role Triage, or Write, there"
            )
        same = {"labels": names}
        self._http.ask(Issue, "PATCH", f"{self._repository}/issues/{number}", needs=NEEDS, body=same)
        self._may_label = True

    def may_claim(self, comment: Comment) -> bool:
        """Anybody may comment on a public repository; only those who may write to it, and we ourselves, may claim."""
        if comment.author_association in _MAY_CLAIM or self._self.wrote(comment.user):
            return True
        if comment.user is None or comment.user.type != "User" or parse(read(comment.body or "")) is None:
            return False
        return self._writes(comment.user.login)  # GitHub hides members of an organization that are so in private

    def _writes(self, login: str) -> bool:
        """Whether that account may label issues here. Asked once of each."""
        if login not in self._writers:
            path = f"{self._repository}/collaborators/{quote(login, safe='')}/permission"
            try:
                found = self._http.ask(_Permission, "GET", path, needs=NEEDS)
                self._writers[login] = bool({found.permission, found.role_name} & _ROLES)
            except Refused:
                self._writers[login] = False
        return self._writers[login]

    def _make(self, label: str) -> None:
        """Have that label in the repository."""
        try:
            self._http.ask(Label, "GET", f"{self._repository}/labels/{quote(label, safe='')}", needs=NEEDS)
        except Refused as error:
            if error.status != 404:
                raise
        else:
            return
        try:
            words = "set and taken off by tsched" if label.startswith("tsched:") else "worked on by this agent"
            self._http.tell(f"{self._repository}/labels", {"name": label, "description": words}, needs=NEEDS)
        except Refused as error:
            if error.status != 422:  # another has just made it
                raise TransientError(
                    f"{self._project} has no label {label}, and the owner of the token in TSCHED_TASKS_TOKEN may not "
                    f"make one ({error.reason}): make it by hand, or give that account the role Write"
                ) from error
