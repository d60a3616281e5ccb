"""A GitHub and a GitLab that hold callers to their published REST documentation, over real HTTP.

Shapes are from GitHub's pages "REST API endpoints for pull requests" (list, create, update), "… for issue comments"
(list, create, update), "… for commit statuses" (list, create), "… for users" (get the authenticated user), "API
Versions", "Getting started with the REST API" (required headers), "Using pagination in the REST API", "Rate limits
for the REST API" and "Troubleshooting the REST API" (error bodies); and GitLab's pages "Merge requests API", "Notes
API", "Commits API" (list, set statuses), "Users API", "Jobs API" (a job token's job) and "REST API" (paging, errors).
"""

import json
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from jsonschema import Draft202012Validator

Json = dict[str, object]


def _object(required: str = "", /, **properties: object) -> Json:
    return {"type": "object", "required": required.split(), "properties": properties, "additionalProperties": False}


_TEXT: Json = {"type": "string"}
_NULLABLE: Json = {"type": ["string", "null"]}
_PAGING: Json = {"per_page": {"pattern": r"^([1-9]\d?|100)$"}, "page": {"pattern": r"^[1-9]\d*$"}}
_SINCE: Json = {"since": _TEXT, **_PAGING}

GITHUB_CREATE_PULL = _object(
    "head base", title=_TEXT, head=_TEXT, head_repo=_TEXT, base=_TEXT, body={"type": "string", "maxLength": 65536},
    maintainer_can_modify={"type": "boolean"}, draft={"type": "boolean"}, issue={"type": "integer"},
)  # fmt: skip
GITHUB_UPDATE_PULL = _object(
    title={"type": "string", "maxLength": 256}, body={"type": "string", "maxLength": 65536},
    state={"enum": ["open", "closed"]}, base=_TEXT, maintainer_can_modify={"type": "boolean"},
)  # fmt: skip
GITHUB_LIST_PULLS = _object(
    state={"enum": ["open", "closed", "all"]}, head=_TEXT, base=_TEXT,
    sort={"enum": ["created", "updated", "popularity", "long-running"]}, direction={"enum": ["asc", "desc"]},
    **_PAGING,
)  # fmt: skip
GITHUB_COMMENT = _object("body", body={"type": "string", "minLength": 1, "maxLength": 65536})
GITHUB_STATUS = _object(
    "state", state={"enum": ["error", "failure", "pending", "success"]}, context=_TEXT,
    target_url={"type": ["string", "null"], "pattern": "^https?://"},
    description={"type": ["string", "null"], "maxLength": 140},
)  # fmt: skip
GITLAB_CREATE_MERGE = _object(
    "source_branch target_branch title", source_branch=_TEXT, target_branch=_TEXT,
    title={"type": "string", "minLength": 1, "maxLength": 255},
    description={"type": "string", "maxLength": 1_048_576}, remove_source_branch={"type": "boolean"},
    squash={"type": "boolean"}, labels=_TEXT, target_project_id={"type": "integer"},
)  # fmt: skip
GITLAB_UPDATE_MERGE: Json = {
    **_object(
        title={"type": "string", "minLength": 1, "maxLength": 255},
        description={"type": "string", "maxLength": 1_048_576}, target_branch=_TEXT, labels=_TEXT,
        state_event={"enum": ["close", "reopen"]},
    ),
    "minProperties": 1,
}  # fmt: skip
GITLAB_LIST_MERGES = _object(
    state={"enum": ["opened", "closed", "locked", "merged", "all"]}, source_branch=_TEXT, target_branch=_TEXT,
    order_by=_TEXT, sort={"enum": ["asc", "desc"]}, **_PAGING,
)  # fmt: skip
GITLAB_NOTE = _object("body", body={"type": "string", "minLength": 1, "maxLength": 1_000_000})
GITLAB_LIST_NOTES = _object(
    sort={"enum": ["asc", "desc"]}, order_by={"enum": ["created_at", "updated_at"]}, **_PAGING
)
GITLAB_STATUS = _object(
    "state", state={"enum": ["pending", "running", "success", "failed", "canceled", "skipped"]},
    name={"type": "string", "maxLength": 255}, context=_TEXT, ref=_TEXT, pipeline_id={"type": "integer"},
    target_url={"type": "string", "maxLength": 255, "pattern": "^https?://"},
    description={"type": "string", "maxLength": 255}, coverage={"type": "number"},
)  # fmt: skip
GITLAB_LIST_STATUSES = _object(name=_TEXT, ref=_TEXT, stage=_TEXT, all={"type": "string"}, **_PAGING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as it came."""

    method: str
    target: str  # as on the wire
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True, strict_parsing=True))

    def json(self) -> Json:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to requests instead of, or with `late` after, what should.

    `half` breaks off within the body, `drop` before any answer, `hang` never answers, `drip` answers byte by byte
    and never to the end, `noise` is no HTTP.
    """

    method: str
    path: str  # a pattern found in the path
    how: Literal["reply", "half", "drop", "hang", "drip", "noise"] = "reply"
    status: int = 500
    reason: str = "Whatever"
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    late: bool = False
    times: int = 1


class Recorder:
    """An HTTP server that keeps what it was asked; by itself it has nothing to give."""

    prefix = ""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def origin(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    @property
    def api(self) -> str:
        return self.origin + self.prefix

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def asked(self, method: str, path: str = "") -> list[Seen]:
        """The requests of a method whose path has a pattern in it."""
        return [one for one in self.seen if one.method == method and re.search(path, one.path)]

    def answer(self, request: Seen) -> Reply:
        return Reply(status=404, body={"message": "Not Found"})

    def _take(self, request: Seen) -> tuple[Fault | None, Reply]:
        with self._lock:
            self.seen.append(request)
            for index, fault in enumerate(self.faults):
                if fault.method == request.method and re.search(fault.path, request.path):
                    left = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                    self.faults[index : index + 1] = left
                    return fault, self.answer(request) if fault.late else Reply(status=500)
            return None, self.answer(request)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def _any(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                request = Seen(
                    method=self.command, target=self.path, headers=dict(self.headers.items()),
                    body=self.rfile.read(length),
                )  # fmt: skip
                fault, reply = recorder._take(request)
                if fault is None:
                    body = json.dumps(reply.body).encode() if reply.body is not None else b""
                    self._send(reply.status, "OK", {"Content-Type": "application/json", **reply.headers}, body)
                    return
                self.close_connection = fault.how != "reply"
                try:
                    self._break(fault)
                except OSError:  # the caller has gone
                    self.close_connection = True

            def _break(self, fault: Fault) -> None:
                if fault.how == "reply":
                    self._send(fault.status, fault.reason, fault.headers, fault.body)
                elif fault.how == "half":
                    self._send(200, "OK", {}, b'[{"id": 1, "bo', claimed=1000)
                elif fault.how == "noise":
                    self.wfile.write(b"SSH-2.0-noise " + fault.body + b"\r\n\r\n")
                elif fault.how == "hang":
                    recorder.closing.wait()
                elif fault.how == "drip":
                    self._send(200, "OK", {}, b"[", claimed=400)
                    for _ in range(398):
                        self.wfile.write(b" ")
                        if recorder.closing.wait(0.02):
                            return
                    self.wfile.write(b"]")

            def _send(
                self, status: int, reason: str, headers: Mapping[str, str], body: bytes, claimed: int | None = None
            ) -> None:
                self.send_response(status, reason)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body) if claimed is None else claimed))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _any  # noqa: N815

        return Handler

    def page(self, request: Seen, entries: list[Json]) -> Reply:
        """One page of a list, with the Link header both forges use."""
        size, number = int(request.query.get("per_page", 30)), int(request.query.get("page", 1))
        headers = {}
        if number * size < len(entries):
            link = f"{self.origin}{request.path}?{urlencode({**request.query, 'page': number + 1})}"
            headers["Link"] = f'<{link}>; rel="next", <{self.origin}{request.path}?page=1>; rel="first"'
        return Reply(status=200, body=entries[(number - 1) * size : number * size], headers=headers)


def _wrong(schema: Json, found: object) -> list[str]:
    return [
        f"{'/'.join(map(str, error.absolute_path)) or 'body'}: {error.message}"
        for error in Draft202012Validator(schema).iter_errors(found)
    ]


def github_refusal(request: Seen, token: str) -> Reply | None:
    """What GitHub answers to headers that it does not take."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    if not headers.get("user-agent", "").startswith("tsched"):
        return Reply(status=403, body={"message": "Request forbidden by administrative rules."})
    if "authorization" not in headers:
        return Reply(status=401, body={"message": "Requires authentication", "status": "401"})
    if headers["authorization"] != f"Bearer {token}":
        return Reply(status=401, body={"message": "Bad credentials", "status": "401"})
    if headers.get("x-github-api-version") != "2022-11-28":
        return Reply(status=400, body={"message": "The X-GitHub-Api-Version header is not supported"})
    if headers.get("accept") != "application/vnd.github+json":
        return Reply(status=415, body={"message": "Unsupported 'Accept' header"})
    if request.body and headers.get("content-type") != "application/json":
        return Reply(status=400, body={"message": "Problems parsing JSON"})
    return None


class GitHubServer(Recorder):
    """GitHub Enterprise Server with the repository acme/fleet."""

    prefix = "/api/v3"

    def __init__(self, token: str, tls: ssl.SSLContext | None = None) -> None:
        self.token = token
        self.me: Json = {"login": "robot", "id": 7, "type": "User"}
        self.bot = False  # an App's token may not ask who it is
        self.branches = {"main", "edit/dev"}
        self.revisions = {"a" * 40}
        self.pulls: list[Json] = []
        self.comments: dict[int, list[Json]] = {5: []}
        self.statuses: list[Json] = []
        super().__init__(tls)

    def answer(self, request: Seen) -> Reply:
        refused = github_refusal(request, self.token)
        if refused is not None:
            return refused
        routes: list[tuple[str, str, Json, Callable[..., Reply]]] = [
            ("GET", r"/user", _object(), self._user),
            ("GET", r"/repos/acme/fleet/pulls", GITHUB_LIST_PULLS, self._list_pulls),
            ("POST", r"/repos/acme/fleet/pulls", GITHUB_CREATE_PULL, self._create_pull),
            ("PATCH", r"/repos/acme/fleet/pulls/(\d+)", GITHUB_UPDATE_PULL, self._update_pull),
            ("GET", r"/repos/acme/fleet/issues/(\d+)/comments", _object(**_SINCE), self._list_comments),
            ("POST", r"/repos/acme/fleet/issues/(\d+)/comments", GITHUB_COMMENT, self._create_comment),
            ("PATCH", r"/repos/acme/fleet/issues/comments/(\d+)", GITHUB_COMMENT, self._update_comment),
            ("GET", r"/repos/acme/fleet/commits/(\w+)/statuses", _object(**_PAGING), self._list_statuses),
            ("POST", r"/repos/acme/fleet/statuses/(\w+)", GITHUB_STATUS, self._create_status),
        ]
        for method, path, schema, do in routes:
            found = re.fullmatch(self.prefix + path, request.path)
            if found and method == request.method:
                wrong = _wrong(schema, request.query if method == "GET" else request.json())
                return self.invalid(*wrong) if wrong else do(request, *found.groups())
        return self._missing()

    def invalid(self, *errors: object) -> Reply:
        return Reply(
            status=422,
            body={"message": "Validation Failed", "errors": list(errors), "documentation_url": "…", "status": "422"},
        )

    def _missing(self) -> Reply:
        return Reply(status=404, body={"message": "Not Found", "documentation_url": "…", "status": "404"})

    def _user(self, _: Seen) -> Reply:
        if self.bot:
            return Reply(status=403, body={"message": "Resource not accessible by integration", "status": "403"})
        return Reply(status=200, body=self.me)

    def pull(self, number: int, head: str, base: str, owner: str = "acme", **more: object) -> Json:
        """A pull request, as it is listed."""
        return {
            "number": number, "html_url": f"https://ghe.example/acme/fleet/pull/{number}", "state": "open",
            "title": "", "body": None, "user": self.me, "base": {"ref": base, "label": f"acme:{base}"},
            "head": {"ref": head, "label": f"{owner}:{head}"}, **more,
        }  # fmt: skip

    def _listed(self, state: str, label: str, base: str) -> list[Json]:
        return [
            one for one in self.pulls
            if state in ("all", one["state"])
            and (":" not in label or _deep(one, "head", "label") == label)  # without a user it filters nothing
            and base in ("", _deep(one, "base", "ref"))
        ]  # fmt: skip

    def _list_pulls(self, request: Seen) -> Reply:
        query = request.query
        return self.page(
            request, self._listed(query.get("state", "open"), query.get("head", ""), query.get("base", ""))
        )

    def _create_pull(self, request: Seen) -> Reply:
        wanted = request.json()
        head, base = str(wanted["head"]), str(wanted["base"])
        for end, branch in (("head", head), ("base", base)):
            if branch not in self.branches:
                return self.invalid({"resource": "PullRequest", "field": end, "code": "invalid"})
        if self._listed("open", f"acme:{head}", base):
            text = f"A pull request already exists for acme:{head}."
            return self.invalid({"resource": "PullRequest", "code": "custom", "message": text})
        one = self.pull(5 + len(self.pulls), head, base, title=wanted["title"], body=wanted.get("body"))
        self.pulls.append(one)
        return Reply(status=201, body=one)

    def _update_pull(self, request: Seen, number: str) -> Reply:
        for one in self.pulls:
            if one["number"] == int(number):
                one.update(request.json())
                return Reply(status=200, body=one)
        return self._missing()

    def add_comment(self, number: int, body: str, user: Json) -> Json:
        ident = 1000 * number + len(self.comments[number])
        url = f"https://ghe.example/acme/fleet/pull/{number}#issuecomment-{ident}"
        one: Json = {"id": ident, "html_url": url, "body": body, "user": user}
        self.comments[number].append(one)
        return one

    def _list_comments(self, request: Seen, number: str) -> Reply:
        if int(number) not in self.comments:
            return self._missing()
        return self.page(request, self.comments[int(number)])

    def _create_comment(self, request: Seen, number: str) -> Reply:
        if int(number) not in self.comments:
            return self._missing()
        return Reply(status=201, body=self.add_comment(int(number), str(request.json()["body"]), self.me))

    def _update_comment(self, request: Seen, ident: str) -> Reply:
        for one in (one for some in self.comments.values() for one in some):
            if one["id"] == int(ident):
                one["body"] = request.json()["body"]
                return Reply(status=200, body=one)
        return self._missing()

    def _list_statuses(self, request: Seen, revision: str) -> Reply:
        newest = [one for one in reversed(self.statuses) if one["sha"] == revision]
        return self.page(request, newest)

    def _create_status(self, request: Seen, revision: str) -> Reply:
        if revision not in self.revisions:
            return Reply(status=422, body={"message": f"No commit found for SHA: {revision}", "status": "422"})
        one: Json = {"context": "default", "description": None, **request.json(), "sha": revision}
        self.statuses.append(one)
        return Reply(status=201, body=one)


def _deep(one: Json, *names: str) -> object:
    found: object = one
    for name in names:
        assert isinstance(found, dict)
        found = found[name]
    return found


class GitLabServer(Recorder):
    """A GitLab with the project group/sub/fleet."""

    prefix = "/api/v4"

    def __init__(self, token: str, job: str = "") -> None:
        self.token = token
        self.job = job
        self.me: Json = {"id": 7, "username": "robot"}
        self.branches = {"main", "edit/dev"}
        self.revisions = {"a" * 40}
        self.merges: list[Json] = []
        self.notes: dict[int, list[Json]] = {}
        self.statuses: list[Json] = []
        super().__init__()

    def answer(self, request: Seen) -> Reply:
        headers = {name.lower(): value for name, value in request.headers.items()}
        own = bool(self.token) and headers.get("private-token") == self.token
        job = bool(self.job) and headers.get("job-token") == self.job
        if not own and not job:
            return Reply(status=401, body={"message": "401 Unauthorized"})
        if request.body and headers.get("content-type") != "application/json":
            return Reply(status=406, body={"error": "The requested content-type is not supported."})
        root = r"/projects/group%2Fsub%2Ffleet"
        merge = rf"{root}/merge_requests/(\d+)"
        routes: list[tuple[str, str, Json, Callable[..., Reply]]] = [
            ("GET", r"/user", _object(), self._user if own else self._denied),
            ("GET", r"/job", _object(), self._denied if own else self._job),
            ("GET", rf"{root}/merge_requests", GITLAB_LIST_MERGES, self._list_merges),
            ("POST", rf"{root}/merge_requests", GITLAB_CREATE_MERGE, self._create_merge),
            ("GET", merge, _object(), self._one_merge),
            ("PUT", merge, GITLAB_UPDATE_MERGE, self._update_merge),
            ("GET", rf"{merge}/notes", GITLAB_LIST_NOTES, self._list_notes),
            ("POST", rf"{merge}/notes", GITLAB_NOTE, self._create_note),
            ("PUT", rf"{merge}/notes/(\d+)", GITLAB_NOTE, self._update_note),
            ("GET", rf"{root}/repository/commits/(\w+)/statuses", GITLAB_LIST_STATUSES, self._list_statuses),
            ("POST", rf"{root}/statuses/(\w+)", GITLAB_STATUS, self._create_status),
        ]
        for method, path, schema, do in routes:
            found = re.fullmatch(self.prefix + path, request.path)
            if found and method == request.method:
                wrong = _wrong(schema, request.query if method == "GET" else request.json())
                return Reply(status=400, body={"error": ", ".join(wrong)}) if wrong else do(request, *found.groups())
        return Reply(status=404, body={"message": "404 Project Not Found"})

    def _denied(self, _: Seen) -> Reply:
        return Reply(status=401, body={"message": "401 Unauthorized"})

    def _user(self, _: Seen) -> Reply:
        return Reply(status=200, body=self.me)

    def _job(self, _: Seen) -> Reply:
        return Reply(status=200, body={"id": 99, "status": "running", "user": self.me})

    def merge(self, iid: int, source: str, target: str, project: int = 3, **more: object) -> Json:
        """A merge request, as it is listed."""
        return {
            "id": 900 + iid, "iid": iid, "state": "opened", "title": "", "description": None, "source_branch": source,
            "target_branch": target, "source_project_id": project, "target_project_id": 3, "author": self.me,
            "web_url": f"https://gitlab.example/group/sub/fleet/-/merge_requests/{iid}", **more,
        }  # fmt: skip

    def _list_merges(self, request: Seen) -> Reply:
        asked = {k: v for k, v in request.query.items() if k in ("state", "source_branch", "target_branch")}
        return self.page(request, [one for one in self.merges if all(one[k] == v for k, v in asked.items())])

    def _create_merge(self, request: Seen) -> Reply:
        wanted = request.json()
        source, target = str(wanted["source_branch"]), str(wanted["target_branch"])
        if not {source, target} <= self.branches:
            return Reply(status=400, body={"message": {"source_branch": ["does not exist"]}})
        for one in self.merges:
            ends = (one["source_branch"], one["target_branch"], one["source_project_id"], one["state"])
            if ends == (source, target, 3, "opened"):
                text = f"Another open merge request already exists for this source branch: !{one['iid']}"
                return Reply(status=409, body={"message": [text]})
        one = self.merge(
            5 + len(self.merges), source, target, title=wanted["title"], description=wanted.get("description")
        )  # fmt: skip
        self.merges.append(one)
        return Reply(status=201, body=one)

    def _found(self, iid: str) -> Json | None:
        return next((one for one in self.merges if one["iid"] == int(iid)), None)

    def _one_merge(self, _: Seen, iid: str) -> Reply:
        one = self._found(iid)
        return Reply(status=200, body=one) if one else Reply(status=404, body={"message": "404 Not found"})

    def _update_merge(self, request: Seen, iid: str) -> Reply:
        one = self._found(iid)
        if one is None:
            return Reply(status=404, body={"message": "404 Not found"})
        one.update(request.json())
        return Reply(status=200, body=one)

    def add_note(self, iid: int, body: str, author: Json, **more: object) -> Json:
        notes = self.notes.setdefault(iid, [])
        one: Json = {"id": 1000 * iid + len(notes), "body": body, "author": author, "system": False, **more}
        notes.append(one)
        return one

    def _list_notes(self, request: Seen, iid: str) -> Reply:
        found = self.notes.get(int(iid), [])
        return self.page(request, found if request.query.get("sort") == "asc" else found[::-1])

    def _create_note(self, request: Seen, iid: str) -> Reply:
        return Reply(status=201, body=self.add_note(int(iid), str(request.json()["body"]), self.me))

    def _update_note(self, request: Seen, iid: str, ident: str) -> Reply:
        for one in self.notes.get(int(iid), []):
            if one["id"] == int(ident) and one["author"] == self.me:
                one["body"] = request.json()["body"]
                return Reply(status=200, body=one)
        return Reply(status=403, body={"message": "403 Forbidden"})

    def _list_statuses(self, request: Seen, revision: str) -> Reply:
        name = request.query.get("name")
        return self.page(
            request, [one for one in self.statuses if one["sha"] == revision and name in (None, one["name"])]
        )

    def _create_status(self, request: Seen, revision: str) -> Reply:
        if revision not in self.revisions:
            return Reply(status=404, body={"message": "404 Commit Not Found"})
        wanted = request.json()
        one: Json = {"name": "default", "description": None, **wanted, "sha": revision, "status": wanted["state"]}
        for old in self.statuses:
            if (old["sha"], old["name"]) == (revision, one["name"]):
                if old["status"] == one["status"] == "pending":
                    text = "Cannot transition status via :enqueue from :pending (Reason(s): Status cannot transition)"
                    return Reply(status=400, body={"message": text})
                self.statuses.remove(old)
                break
        self.statuses.append(one)
        return Reply(status=201, body=one)
