"""GitLab: gitlab.com and self-hosted. A pull request is called a merge request there, a comment a note."""

import re
from urllib.parse import quote, urlsplit

import msgspec

from tsched.rest.access import Access, Limits
from tsched.rest.http import Http
from tsched.rest.refusal import Lost, Refused
from tsched.rest.texts import check_status, cut, marked

_TITLE, _BODY, _NOTE, _DESCRIPTION, _URL = 255, 1_048_576, 1_000_000, 255, 255  # characters GitLab takes
_STATES = {"success": "success", "failure": "failed", "error": "failed", "pending": "pending"}
_QUICK_ACTION = re.compile(r"^([^\S\n]*)/(?=\w)", re.MULTILINE)


class _User(msgspec.Struct, frozen=True):
    id: int


class _Job(msgspec.Struct, frozen=True):
    user: _User


class _Merge(msgspec.Struct, frozen=True):
    iid: int
    web_url: str
    title: str
    source_project_id: int | None
    target_project_id: int
    description: str | None = None


class _Note(msgspec.Struct, frozen=True):
    id: int
    body: str
    author: _User
    system: bool = False


class _Status(msgspec.Struct, frozen=True):
    status: str
    name: str
    description: str | None = None


class GitLab:
    """A Forge on GitLab's REST API."""

    name: str = "gitlab"
    variables: tuple[str, ...] = ("GITLAB_TOKEN", "CI_JOB_TOKEN")

    @staticmethod
    def knows(host: str) -> bool:
        """Whether a host is GitLab by its name alone."""
        return host in ("gitlab.com", "altssh.gitlab.com")

    @staticmethod
    def api_of(place: str) -> str:
        """The API of a GitLab at a host (and port)."""
        return f"https://{'gitlab.com' if GitLab.knows(place) else place}/api/v4"

    @staticmethod
    def project_of(path: str, api: str) -> str:
        """GROUP/…/PROJECT: the path without that of a GitLab that is not at its host's root."""
        root = urlsplit(api).path.removesuffix("/api/v4").strip("/")
        return path.removeprefix(f"{root}/") if root and path.count("/") > root.count("/") + 1 else path

    def __init__(self, access: Access, limits: Limits) -> None:
        header = "JOB-TOKEN" if access.job else "PRIVATE-TOKEN"
        self._http = Http(access, {"Accept": "application/json", header: access.token}, limits)
        self._root = f"/projects/{quote(access.project, safe='')}"
        self._job = access.job
        self._me: _User | None = None
        self._needs = "the scope `api` and the role Developer"
        if access.job:
            self._needs += ", which a CI job's token lacks: set GITLAB_TOKEN to a project access token"

    def close(self) -> None:
        """Let go of all connections."""
        self._http.close()

    def open_pull_request(self, *, head: str, base: str, title: str, body: str) -> str:
        """Open a merge request, or update the one that is open for this head and base. Returns its web address."""
        wanted = {"title": cut(title, _TITLE), "description": cut(_inert(body), _BODY)}
        merge = self._merge(head, base)
        if merge is None:
            try:
                ends = {"source_branch": head, "target_branch": base}
                path = f"{self._root}/merge_requests"
                merge = self._http.ask(_Merge, "POST", path, needs=self._needs, body={**wanted, **ends})
                return self._http.address(merge.web_url)
            except (Refused, Lost) as error:  # another opened it meanwhile; or it is open and we were not told
                if isinstance(error, Refused) and error.status != 409:
                    raise
                merge = self._merge(head, base)
                if merge is None:
                    raise
        if {"title": merge.title, "description": merge.description} != wanted:
            path = f"{self._root}/merge_requests/{merge.iid}"
            merge = self._http.ask(_Merge, "PUT", path, needs=self._needs, body=wanted)
        return self._http.address(merge.web_url)

    def _merge(self, head: str, base: str) -> _Merge | None:
        query = {"state": "opened", "source_branch": head, "target_branch": base}
        for merge in self._http.pages(list[_Merge], f"{self._root}/merge_requests", needs=self._needs, query=query):
            if merge.source_project_id == merge.target_project_id:  # not a fork's branch of that name
                return merge
        return None

    def comment(self, number: int, *, marker: str, body: str) -> str:
        """Write our one note with this marker on a merge request, or update it. Returns its web address."""
        text = cut(marked(marker, _inert(body)), _NOTE)
        path = f"{self._root}/merge_requests/{number}"
        merge = self._http.ask(_Merge, "GET", path, needs=self._needs)
        note = self._own(number, marker)
        if note is None:
            try:
                note = self._http.ask(_Note, "POST", f"{path}/notes", needs=self._needs, body={"body": text})
            except Lost:
                note = self._own(number, marker)
                if note is None:
                    raise
        if note.body != text:
            note = self._http.ask(_Note, "PUT", f"{path}/notes/{note.id}", needs=self._needs, body={"body": text})
        return f"{self._http.address(merge.web_url)}#note_{note.id}"

    def _own(self, number: int, marker: str) -> _Note | None:
        path, start = f"{self._root}/merge_requests/{number}/notes", marked(marker).strip()
        query = {"sort": "asc", "order_by": "created_at"}
        for note in self._http.pages(list[_Note], path, needs=self._needs, query=query):
            if note.body.startswith(start) and not note.system and self._is_mine(note.author):
                return note
        return None

    def _is_mine(self, author: _User) -> bool:
        """Whether we wrote a note. A job's token may ask for its job only, whose user it acts as."""
        if self._me is None:
            if self._job:
                self._me = self._http.ask(_Job, "GET", "/job", needs=self._needs).user
            else:
                self._me = self._http.ask(_User, "GET", "/user", needs=self._needs)
        return author.id == self._me.id

    def set_status(self, revision: str, *, context: str, state: str, description: str, url: str = "") -> None:
        """Set the status of a commit under a context: success, failure, pending or error (which is failed here)."""
        check_status(revision, state)
        state, description = _STATES[state], cut(" ".join(description.split()), _DESCRIPTION)
        body = {"state": state, "name": context, "description": description}
        if 0 < len(url) <= _URL:  # GitLab refuses a longer one, and half a link is none
            body["target_url"] = url
        try:
            self._http.tell(f"{self._root}/statuses/{revision}", body, needs=self._needs)
        except (Refused, Lost) as error:
            again = isinstance(error, Refused) and "annot transition" in error.reason  # pending to pending is refused
            if isinstance(error, Refused) and not again:
                raise
            path = f"{self._root}/repository/commits/{revision}/statuses"
            for status in self._http.pages(list[_Status], path, needs=self._needs, query={"name": context}):
                same = status.name == context and status.status == state
                if same and (again or status.description == description):
                    return
            raise


def _inert(body: str) -> str:
    """A body that commands nothing: GitLab obeys lines such as `/merge`; a character of no width stops that."""
    return _QUICK_ACTION.sub("\\1\u200b/", body)
