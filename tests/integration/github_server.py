"""A GitHub whose issues are worked, over real HTTP; it holds callers to the cut-out of GitHub's OpenAPI beside it.

Behaviour beyond the OpenAPI is from GitHub's pages "Best practices for using the REST API" (conditional requests),
"Rate limits for the REST API" and "REST API endpoints for issues" (labels that don't exist are made).
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from jsonschema import Draft202012Validator

from tests.integration.forge_server import Json, Recorder, Reply, Seen, github_refusal

PATHS: Json = json.loads((Path(__file__).parent / "github_openapi.json").read_text())["paths"]
ROBOT: Json = {"login": "robot", "id": 7, "type": "User"}
STRANGER: Json = {"login": "mallory", "id": 66, "type": "User"}
APP: Json = {"login": "fleet[bot]", "id": 70, "type": "Bot"}


@dataclass(kw_only=True)
class Issue:
    """An issue as people see it."""

    number: int
    title: str = "t"
    body: str | None = None
    labels: list[str] = field(default_factory=list)
    state: str = "open"
    state_reason: str | None = None
    pull_request: bool = False
    locked: bool = False
    blocked_by: list[int] = field(default_factory=list)  # GitHub's own dependencies
    comments: list[Json] = field(default_factory=list)


class IssuesServer(Recorder):
    """GitHub Enterprise Server with the repository acme/app. `me` holds the token; `app`: it is an App's."""

    prefix = "/api/v3"

    def __init__(self, token: str) -> None:
        self.token = token
        self.me = ROBOT
        self.app = False
        self.permissions: Json | None = {"pull": True, "triage": True, "push": False}  # of the token's owner
        self.read_only = False  # the token may comment, not label
        self.makes_labels = True  # the role Triage may not
        self.labels: set[str] = set()  # of the repository
        self.roles: dict[str, str] = {}  # of other accounts
        self.hidden = False  # the token lost its rights to the repository
        self.issues: dict[int, Issue] = {}
        self.spent = 0  # requests that count against the rate limit
        self._comments = 0
        super().__init__()

    @property
    def address(self) -> str:
        """What TSCHED_TASKS is set to."""
        return f"github+{self.origin}/acme/app"

    # As people use it

    def add(self, *labels: str, **facts: object) -> Issue:
        issue = Issue(number=len(self.issues) + 1, labels=list(labels), **facts)  # type: ignore[arg-type]
        self.issues[issue.number] = issue
        self.labels |= set(labels)
        return issue

    def say(self, number: int, body: str, user: Json, association: str = "NONE") -> None:
        self._comments += 1
        self.issues[number].comments.append(
            {
                "id": self._comments,
                "body": body,
                "user": user,
                "author_association": association,
                "created_at": "2026-11-25T20:00:00Z",
            }
        )

    # As programs do

    def answer(self, request: Seen) -> Reply:
        reply = github_refusal(request, self.token) or self._routed(request)
        if request.method != "GET" or reply.status != 200:
            self.spent += 1
            return reply
        tag = f'W/"{hashlib.sha256(json.dumps(reply.body).encode()).hexdigest()}"'
        if {name.lower(): value for name, value in request.headers.items()}.get("if-none-match") == tag:
            return Reply(status=304, headers={"ETag": tag})
        self.spent += 1
        return Reply(status=200, body=reply.body, headers={**reply.headers, "ETag": tag})

    def _routed(self, request: Seen) -> Reply:
        for template, methods in PATHS.items():
            pattern = template.replace("{owner}/{repo}", "acme/app").replace("{issue_number}", r"(\d+)")
            pattern = re.sub(r"\{\w+\}", "([^/]+)", pattern)
            found = re.fullmatch(self.prefix + pattern, request.path)
            assert isinstance(methods, dict)
            if found and request.method.lower() in methods:
                wrong = _wrong(methods[request.method.lower()], request)
                if wrong:
                    return Reply(status=422, body={"message": "Validation Failed", "errors": wrong})
                if "{issue_number}" in template or template.endswith(("/issues", "/user", "{repo}")):
                    return self._done(request, template, *map(int, found.groups()))
                return self._beside(request, template, *map(unquote, found.groups()))
        return _missing()

    def _beside(self, request: Seen, template: str, name: str = "") -> Reply:
        """Labels and roles."""
        if template.endswith("/permission"):
            role = self.roles.get(name)
            found: Json = {"permission": "write" if role == "write" else "read", "role_name": role}
            return Reply(status=200, body=found) if role else _missing()
        if request.method == "POST":
            name = str(request.json()["name"])
            if not self.makes_labels:
                return Reply(status=403, body={"message": "Resource not accessible by personal access token"})
            if name in self.labels:
                return Reply(
                    status=422, body={"message": "Validation Failed", "errors": [{"code": "already_exists"}]}
                )
            self.labels.add(name)
        return Reply(status=200, body={"id": 1, "name": name}) if name in self.labels else _missing()

    def _done(self, request: Seen, template: str, number: int = 0) -> Reply:
        if template == "/user":
            refused = Reply(status=403, body={"message": "Resource not accessible by integration"})
            return refused if self.app else Reply(status=200, body=self.me)
        if template == "/repos/{owner}/{repo}":
            return Reply(status=200, body={"full_name": "acme/app", "permissions": self.permissions})
        issue = self.issues.get(number)
        if self.hidden or (issue is None and number):
            return _missing()
        if issue is None:
            return self.page(request, self._listed(request))
        if template.endswith("/comments"):
            if request.method == "GET":
                return self.page(request, issue.comments)
            if issue.locked and self.app:
                return Reply(status=403, body={"message": "Unable to create comment because issue is locked."})
            self.say(number, str(request.json()["body"]), self.me, "NONE" if self.app else "COLLABORATOR")
            return Reply(status=201, body=issue.comments[-1])
        if request.method == "PATCH" and self.read_only:
            return Reply(status=403, body={"message": "Must have admin rights to Repository.", "status": "403"})
        if request.method == "PATCH":
            unknown = set(map(str, request.json().get("labels") or ())) - self.labels  # type: ignore[call-overload]
            if unknown and not self.makes_labels:
                text = "You do not have permission to create labels on this repository."
                return Reply(status=403, body={"message": text})
            self.labels |= unknown
            self._change(issue, request.json())
        return Reply(status=200, body=self._shown(issue))

    def _listed(self, request: Seen) -> list[Json]:
        query = request.query
        state = query.get("state", "open")
        found = [self._shown(one) for one in self.issues.values() if state in ("all", one.state)]
        assert query.get("sort", "created") == "created", "nothing else is played here"
        return found if query.get("direction") == "asc" else found[::-1]

    def _change(self, issue: Issue, body: Json) -> None:
        if isinstance(labels := body.get("labels"), list):
            issue.labels = labels
        if "state" in body:
            issue.state = str(body["state"])
            issue.state_reason = str(body.get("state_reason") or "completed") if issue.state == "closed" else None

    def _shown(self, issue: Issue) -> Json:
        moment = datetime.fromtimestamp(1_795_455_787 + issue.number, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        shown: Json = {
            "number": issue.number, "title": issue.title, "body": issue.body, "state": issue.state,
            "state_reason": issue.state_reason, "user": {"login": "op", "id": 1, "type": "User"},
            "labels": [{"id": 1, "name": name, "color": "ededed"} for name in issue.labels],
            "locked": issue.locked, "created_at": moment, "updated_at": moment, "comments": len(issue.comments),
            "issue_dependencies_summary": {
                "blocked_by": sum(self.issues[one].state == "open" for one in issue.blocked_by),
                "total_blocked_by": len(issue.blocked_by), "blocking": 0, "total_blocking": 0,
            },
        }  # fmt: skip
        return shown | ({"pull_request": {"url": "…"}} if issue.pull_request else {})


def _missing() -> Reply:
    return Reply(status=404, body={"message": "Not Found", "documentation_url": "…", "status": "404"})


def _wrong(operation: Json, request: Seen) -> list[str]:
    """What of a request the OpenAPI does not know, or not so."""
    parameters = operation["parameters"]
    assert isinstance(parameters, list)
    known = {one["name"]: one["schema"] for one in parameters}
    wrong = [f"no query parameter {name}" for name in request.query.keys() - known.keys()]
    for name in request.query.keys() & known.keys():
        text = request.query[name]
        value = int(text) if known[name]["type"] == "integer" and text.isdecimal() else text
        wrong += [f"{name}: {one.message}" for one in Draft202012Validator(known[name]).iter_errors(value)]
    if request.query.get("per_page", "30") not in map(str, range(1, 101)):
        wrong.append("per_page: 1 to 100")
    body = operation.get("requestBody")
    if request.method != "GET":
        assert isinstance(body, dict)
        schema = {**body["schema"], "additionalProperties": False}
        wrong += [one.message for one in Draft202012Validator(schema).iter_errors(request.json())]
        labels = request.json().get("labels", [])
        assert isinstance(labels, list)
        wrong += [f"label {one}: is too long (maximum is 50 characters)" for one in labels if len(one) > 50]
        if len(str(request.json().get("body", ""))) > 65536:
            wrong.append("body is too long (maximum is 65536 characters)")
    return wrong
