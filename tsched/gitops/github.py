"""GitHub: github.com, GitHub Enterprise Cloud (NAME.ghe.com) and GitHub Enterprise Server."""

from urllib.parse import quote

import msgspec

from tsched.model.errors import ConfigurationError
from tsched.rest.access import Access, Limits
from tsched.rest.github import GitHubSelf, GitHubUser, github_api, github_http
from tsched.rest.refusal import Lost, Refused
from tsched.rest.texts import check_status, cut, marked

_PULLS = "`pull requests: write`"
_COMMENTS = "`issues: write` or `pull requests: write`"
_STATUSES = "`commit statuses: write`"
_TITLE, _BODY, _DESCRIPTION = 256, 65536, 140  # characters GitHub takes


class _Head(msgspec.Struct, frozen=True):
    label: str | None = None  # OWNER:BRANCH


class _Pull(msgspec.Struct, frozen=True):
    number: int
    html_url: str
    title: str
    head: _Head
    body: str | None = None


class _Comment(msgspec.Struct, frozen=True):
    id: int
    html_url: str
    body: str | None = None
    user: GitHubUser | None = None


class _Status(msgspec.Struct, frozen=True):
    state: str
    context: str
    description: str | None = None


class GitHub:
    """A Forge on GitHub's REST API."""

    name: str = "github"
    variables: tuple[str, ...] = ("GITHUB_TOKEN", "GH_TOKEN")

    @staticmethod
    def knows(host: str) -> bool:
        """Whether a host is GitHub by its name alone."""
        return host in ("github.com", "ssh.github.com") or host.endswith(".ghe.com")

    @staticmethod
    def api_of(place: str) -> str:
        """The API of a GitHub at a host (and port)."""
        return github_api(place)

    @staticmethod
    def project_of(path: str, _api: str) -> str:
        """OWNER/REPOSITORY. Raises ConfigurationError for a path that is none."""
        if path.count("/") != 1:
            raise ConfigurationError(f"{path!r} is no OWNER/REPOSITORY: set the remote to a repository on GitHub")
        return path

    def __init__(self, access: Access, limits: Limits) -> None:
        self._http = github_http(access, limits)
        self._owner = access.project.split("/")[0]
        self._root = f"/repos/{quote(access.project)}"
        self._self = GitHubSelf(self._http)

    def close(self) -> None:
        """Let go of all connections."""
        self._http.close()

    def open_pull_request(self, *, head: str, base: str, title: str, body: str) -> str:
        """Open a pull request, or update the one that is open for this head and base. Returns its web address."""
        wanted = {"title": cut(title, _TITLE), "body": cut(body, _BODY)}
        pull = self._pull(head, base)
        if pull is None:
            try:
                pull = self._http.ask(
                    _Pull, "POST", f"{self._root}/pulls", needs=_PULLS, body={**wanted, "head": head, "base": base}
                )
                return self._http.address(pull.html_url)
            except (Refused, Lost) as error:  # another opened it meanwhile; or it is open and we were not told
                if isinstance(error, Refused) and error.status != 422:
                    raise
                pull = self._pull(head, base)
                if pull is None:
                    raise
        if {"title": pull.title, "body": pull.body} != wanted:
            pull = self._http.ask(
                _Pull, "PATCH", f"{self._root}/pulls/{pull.number}", needs=_PULLS, body=wanted
            )  # fmt: skip
        return self._http.address(pull.html_url)

    def _pull(self, head: str, base: str) -> _Pull | None:
        label = head if ":" in head else f"{self._owner}:{head}"
        query = {"state": "open", "head": label, "base": base}
        for pull in self._http.pages(list[_Pull], f"{self._root}/pulls", needs=_PULLS, query=query):
            if (pull.head.label or "").casefold() == label.casefold():
                return pull
        return None

    def comment(self, number: int, *, marker: str, body: str) -> str:
        """Write our one comment with this marker on a pull request, or update it. Returns its web address."""
        text = cut(marked(marker, body), _BODY)
        own = self._own(number, marker)
        if own is None:
            path = f"{self._root}/issues/{number}/comments"
            try:
                own = self._http.ask(_Comment, "POST", path, needs=_COMMENTS, body={"body": text})
                return self._http.address(own.html_url)
            except Lost:
                own = self._own(number, marker)
                if own is None:
                    raise
        if own.body != text:
            path = f"{self._root}/issues/comments/{own.id}"
            own = self._http.ask(_Comment, "PATCH", path, needs=_COMMENTS, body={"body": text})
        return self._http.address(own.html_url)

    def _own(self, number: int, marker: str) -> _Comment | None:
        path, start = f"{self._root}/issues/{number}/comments", marked(marker).strip()
        for comment in self._http.pages(list[_Comment], path, needs=_COMMENTS, query={}):
            if (comment.body or "").startswith(start) and self._self.wrote(comment.user):
                return comment
        return None

    def set_status(self, revision: str, *, context: str, state: str, description: str, url: str = "") -> None:
        """Set the status of a commit under a context: success, failure, pending or error."""
        check_status(revision, state)
        description = cut(" ".join(description.split()), _DESCRIPTION)
        body = {"state": state, "context": context, "description": description}
        try:
            path = f"{self._root}/statuses/{revision}"
            self._http.tell(path, {**body, "target_url": url} if url else body, needs=_STATUSES)
        except Lost:
            path = f"{self._root}/commits/{revision}/statuses"
            for status in self._http.pages(list[_Status], path, needs=_STATUSES, query={}):
                if status.context.casefold() == context.casefold():  # the newest is first
                    if (status.state, status.description) == (state, description):
                        return
                    break
            raise
