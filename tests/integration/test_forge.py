"""The forge client over real HTTP, against servers that hold it to the documented APIs (forge_server.py)."""

import json
import logging
import os
import ssl
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.integration.forge_server import Fault, GitHubServer, GitLabServer, Recorder
from tsched.gitops.forge import Forge, forge_of
from tsched.model.errors import ConfigurationError, TransientError, TschedError
from tsched.rest.access import Limits

TOKEN = "ghp_CANARY/0123+456789=="  # quoted in an address it looks different
QUOTED = "ghp_CANARY%2F0123%2B456789%3D%3D"
SHA = "a" * 40
GITHUB = "https://ghe.example/acme/fleet.git"
GITLAB = "git@gitlab.example:group/sub/fleet.git"
Connect = Callable[..., Forge]


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no certificates of the person running the tests."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_token_in_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    for when in ("setup", "call"):
        for record in caplog.get_records(when):
            assert TOKEN not in record.getMessage() and QUOTED not in record.getMessage()


@pytest.fixture
def servers() -> Iterator[list[Recorder]]:
    """Servers to close; none of them may have been asked for an address with the token in it."""
    running: list[Recorder] = []
    yield running
    for server in running:
        server.close()
    for request in (request for server in running for request in server.seen):
        assert TOKEN not in request.target and QUOTED not in request.target


@pytest.fixture
def github(servers: list[Recorder]) -> GitHubServer:
    server = GitHubServer(TOKEN)
    servers.append(server)
    return server


@pytest.fixture
def gitlab(servers: list[Recorder]) -> GitLabServer:
    server = GitLabServer(TOKEN)
    servers.append(server)
    return server


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def connect(slept: list[float]) -> Iterator[Connect]:
    opened: list[Forge] = []

    def one(server: Recorder, *, timeout: float = 20.0, attempts: int = 4, **environ: str) -> Forge:
        kind, remote = ("github", GITHUB) if server.prefix.endswith("v3") else ("gitlab", GITLAB)
        limits = Limits(timeout=timeout, attempts=attempts, pause=0.0, sleep=slept.append)
        known = {"TSCHED_FORGE": kind, "TSCHED_FORGE_API": server.api, **(environ or {"TSCHED_FORGE_TOKEN": TOKEN})}
        opened.append(forge_of(remote, environ=known, limits=limits))
        return opened[-1]

    yield one
    for forge in opened:
        forge.close()


@pytest.fixture(params=["github", "gitlab"])
def server(request: pytest.FixtureRequest) -> GitHubServer | GitLabServer:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, GitHubServer | GitLabServer)
    return found


def open_one(forge: Forge, title: str = "Raise the limit", body: str = "dev: 2 → 3", head: str = "edit/dev") -> str:
    return forge.open_pull_request(head=head, base="main", title=title, body=body)


def status(forge: Forge, state: str = "success", description: str = "good", url: str = "") -> None:
    forge.set_status(SHA, context="tsched/validate", state=state, description=description, url=url)


def refusal(of: type[TschedError], act: Callable[[], object]) -> str:
    """The text of an error: one line, without the token in it or in anything a traceback would show."""
    with pytest.raises(of) as caught:
        act()
    whole = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert TOKEN not in whole and QUOTED not in whole
    text = str(caught.value)
    assert text.isprintable()
    return text


# Pull requests


def test_a_pull_request_is_opened_and_the_second_call_updates_it(github: GitHubServer, connect: Connect) -> None:
    forge = connect(github)
    assert open_one(forge) == "https://ghe.example/acme/fleet/pull/5"
    assert open_one(forge, "Raise it more", "dev: 2 → 4") == "https://ghe.example/acme/fleet/pull/5"
    assert [(one["number"], one["title"], one["body"]) for one in github.pulls] == [
        (5, "Raise it more", "dev: 2 → 4")
    ]
    assert (len(github.asked("POST")), len(github.asked("PATCH"))) == (1, 1)


def test_a_merge_request_is_opened_and_the_second_call_updates_it(gitlab: GitLabServer, connect: Connect) -> None:
    forge = connect(gitlab)
    url = "https://gitlab.example/group/sub/fleet/-/merge_requests/5"
    assert open_one(forge) == url
    assert open_one(forge, "Raise it more", "dev: 2 → 4") == url
    assert [(one["iid"], one["title"], one["description"]) for one in gitlab.merges] == [
        (5, "Raise it more", "dev: 2 → 4")
    ]
    assert (len(gitlab.asked("POST")), len(gitlab.asked("PUT"))) == (1, 1)


def test_what_is_already_so_is_not_written_again(server: GitHubServer | GitLabServer, connect: Connect) -> None:
    forge = connect(server)
    for _ in range(2):
        open_one(forge)
        forge.comment(5, marker="tsched plan", body="+ agent")
    assert [len(server.asked(method)) for method in ("POST", "PATCH", "PUT")] == [2, 0, 0]


def test_a_forks_or_another_bases_or_a_closed_pull_request_is_not_ours(
    github: GitHubServer, connect: Connect
) -> None:
    github.pulls += [
        github.pull(1, "edit/dev", "main", owner="stranger"),
        github.pull(2, "edit/dev", "stable"),
        github.pull(3, "edit/dev", "main", state="closed"),
    ]
    assert open_one(connect(github)).endswith("/pull/8")
    assert not github.asked("PATCH")
    assert github.asked("GET", "/pulls$")[0].query["head"] == "acme:edit/dev"  # a bare branch filters nothing


def test_a_forks_or_another_targets_or_a_closed_merge_request_is_not_ours(
    gitlab: GitLabServer, connect: Connect
) -> None:
    gitlab.merges += [
        gitlab.merge(1, "edit/dev", "main", project=4),
        gitlab.merge(2, "edit/dev", "stable"),
        gitlab.merge(3, "edit/dev", "main", state="closed"),
    ]
    assert open_one(connect(gitlab)).endswith("/merge_requests/8")
    assert not gitlab.asked("PUT")


def test_one_that_another_opened_meanwhile_is_updated(github: GitHubServer, connect: Connect) -> None:
    github.pulls.append(github.pull(5, "edit/dev", "main", title="theirs"))
    github.faults.append(Fault(method="GET", path="/pulls$", status=200, body=b"[]"))  # asked just before
    assert open_one(connect(github)).endswith("/pull/5")
    assert [one["title"] for one in github.pulls] == ["Raise the limit"]


def test_a_merge_request_that_another_opened_meanwhile_is_updated(gitlab: GitLabServer, connect: Connect) -> None:
    gitlab.merges.append(gitlab.merge(5, "edit/dev", "main", title="theirs"))
    gitlab.faults.append(Fault(method="GET", path="/merge_requests$", status=200, body=b"[]"))
    assert open_one(connect(gitlab)).endswith("/merge_requests/5")
    assert [one["title"] for one in gitlab.merges] == ["Raise the limit"]


def test_the_apis_own_words_say_what_it_refuses(github: GitHubServer, gitlab: GitLabServer, connect: Connect) -> None:
    text = refusal(ConfigurationError, lambda: open_one(connect(github), head="gone"))
    assert "(422): Validation Failed: resource PullRequest, field head, code invalid" in text
    text = refusal(ConfigurationError, lambda: open_one(connect(gitlab), head="gone"))
    assert "(400): source_branch does not exist" in text


def test_a_refusal_without_end_is_told_in_short(server: GitHubServer | GitLabServer, connect: Connect) -> None:
    body = json.dumps({"message": "b" * 2_000_000}).encode()
    server.faults.append(Fault(method="GET", path="/(pulls|merge)", status=422, body=body))
    assert refusal(ConfigurationError, lambda: open_one(connect(server))).endswith("b" * 100 + "…")


def test_long_texts_are_cut_to_what_the_forge_takes(server: GitHubServer | GitLabServer, connect: Connect) -> None:
    forge = connect(server)
    open_one(forge, "t" * 2000, "b" * 1_100_000)
    open_one(forge, "u" * 2000, "c" * 1_100_000)
    forge.comment(5, marker="m", body="c" * 1_100_000)
    status(forge, description="d" * 2000)
    limit = 140 if isinstance(server, GitHubServer) else 255
    assert server.statuses[0]["description"] == "d" * (limit - 1) + "…"


# Comments


def crowd(server: GitHubServer | GitLabServer, count: int, at: int, ours: str, **author: object) -> dict[str, object]:
    """A pull request 5 with many comments, one of which has a text of ours (by another, if so told)."""
    add = server.add_comment if isinstance(server, GitHubServer) else server.add_note
    if isinstance(server, GitLabServer):
        server.merges.append(server.merge(5, "edit/dev", "main"))
    for number in range(count):
        if number == at:
            found = add(5, ours, {**server.me, **author})
        else:
            add(5, f"<!-- other --> I think {number}", {"id": 100 + number, "type": "User"})
    return found


def test_a_comment_is_made_once_and_updated_in_place_among_250(
    server: GitHubServer | GitLabServer, connect: Connect
) -> None:
    ours = crowd(server, 250, 240, "<!-- tsched plan -->\nold")
    url = connect(server).comment(5, marker="tsched plan", body="new")
    assert ours["body"] == "<!-- tsched plan -->\nnew"
    assert url.endswith(f"{'issuecomment-' if isinstance(server, GitHubServer) else 'note_'}{ours['id']}")
    assert [one.query["per_page"] for one in server.asked("GET", "/(comments|notes)$")] == ["100"] * 3
    assert not server.asked("POST")
    assert connect(server).comment(5, marker="another", body="x") != url
    assert connect(server).comment(5, marker="another", body="y") != url
    assert len(server.asked("POST")) == 1


def test_a_strangers_comment_with_our_marker_is_not_edited(
    server: GitHubServer | GitLabServer, connect: Connect
) -> None:
    theirs = crowd(server, 3, 1, "<!-- tsched plan -->\ntrust me", id=8)
    connect(server).comment(5, marker="tsched plan", body="new")
    assert theirs["body"] == "<!-- tsched plan -->\ntrust me"
    assert len(server.asked("POST")) == 1 and not server.asked("P(ATCH|UT)")


def test_our_own_comment_that_only_quotes_a_marker_is_another(
    server: GitHubServer | GitLabServer, connect: Connect
) -> None:
    ours = crowd(server, 1, 0, "> <!-- tsched plan -->\nquoted")
    connect(server).comment(5, marker="tsched plan", body="new")
    assert ours["body"] == "> <!-- tsched plan -->\nquoted"


@pytest.mark.parametrize(("kind", "edited"), [("Bot", True), ("User", False)])
def test_an_apps_token_knows_its_comment_by_marker_among_those_of_bots(
    github: GitHubServer, connect: Connect, kind: str, edited: bool
) -> None:
    github.bot = True
    found = github.add_comment(5, "<!-- m -->\nold", {"id": 41898282, "login": "github-actions[bot]", "type": kind})
    connect(github).comment(5, marker="m", body="new")
    assert (found["body"] == "<!-- m -->\nnew") is edited


def test_a_comment_of_a_deleted_account_is_not_ours(github: GitHubServer, connect: Connect) -> None:
    found = github.add_comment(5, "<!-- m -->\nold", {})
    found["user"] = None
    connect(github).comment(5, marker="m", body="new")
    assert found["body"] == "<!-- m -->\nold"


def test_gitlabs_system_notes_are_passed_over(gitlab: GitLabServer, connect: Connect) -> None:
    gitlab.merges.append(gitlab.merge(5, "edit/dev", "main"))
    found = gitlab.add_note(5, "<!-- m -->\nold", gitlab.me, system=True)
    connect(gitlab).comment(5, marker="m", body="new")
    assert found["body"] == "<!-- m -->\nold"


def test_what_others_wrote_commands_nothing_on_gitlab(gitlab: GitLabServer, connect: Connect) -> None:
    forge = connect(gitlab)
    open_one(forge, body="/merge\n  /approve\nsee /etc and a/b")
    forge.comment(5, marker="m", body="plan:\n/close\n```\n/label ~x\n```")
    written = f"{gitlab.merges[0]['description']}\n{gitlab.notes[5][0]['body']}"
    assert not [line for line in written.splitlines() if line.strip().startswith("/")]
    assert "see /etc and a/b" in written


@pytest.mark.parametrize("start", ["ORIGIN/steal", "http://[bad", "//evil.example/x", ""])
def test_the_next_pages_address_cannot_lead_away(
    server: GitHubServer | GitLabServer, connect: Connect, servers: list[Recorder], start: str
) -> None:
    """A proxy's wrong host in a Link header costs nothing: only its query is believed."""
    other = Recorder()
    servers.append(other)
    ours = crowd(server, 150, 140, "<!-- m -->\nold")
    listed = "/comments$" if isinstance(server, GitHubServer) else "/notes$"
    link = f'<{start.replace("ORIGIN", other.origin)}?per_page=100&page=2>; rel="next"'
    server.faults.append(Fault(method="GET", path=listed, status=200, body=b"[]", headers={"Link": link}))
    connect(server).comment(5, marker="m", body="new")
    assert ours["body"] == "<!-- m -->\nnew" and not other.seen


def test_a_list_without_an_end_is_given_up(github: GitHubServer, connect: Connect) -> None:
    link = {"Link": f'<{github.api}/?page=2>; rel="next"'}
    github.faults.append(Fault(method="GET", path="/comments$", status=200, body=b"[]", headers=link, times=1000))
    assert "does not end" in refusal(TransientError, lambda: connect(github).comment(5, marker="m", body="x"))


@pytest.mark.parametrize("marker", ["", "a --> b", "a--b", "a\nb", "<b>", "-"])
def test_a_marker_cannot_end_the_comment_it_is_in(github: GitHubServer, connect: Connect, marker: str) -> None:
    assert "no marker" in refusal(ConfigurationError, lambda: connect(github).comment(5, marker=marker, body="x"))
    assert not github.asked("POST")


# Statuses


@pytest.mark.parametrize("state", ["success", "failure", "pending", "error"])
def test_a_status_is_set(server: GitHubServer | GitLabServer, connect: Connect, state: str) -> None:
    status(connect(server), state, "two\n  lines", "https://ci.example/1")
    (one,) = server.statuses
    if isinstance(server, GitHubServer):
        assert (one["state"], one["context"]) == (state, "tsched/validate")
    else:
        assert (one["status"], one["name"]) == (
            {"failure": "failed", "error": "failed"}.get(state, state),
            "tsched/validate",
        )
    assert (one["description"], one["target_url"]) == ("two lines", "https://ci.example/1")


def test_pending_may_be_said_again(server: GitHubServer | GitLabServer, connect: Connect) -> None:
    for state in ("pending", "pending", "success"):
        status(connect(server), state)
    assert (server.statuses[-1].get("status") or server.statuses[-1]["state"]) == "success"


def test_a_link_too_long_for_gitlab_is_left_out(gitlab: GitLabServer, connect: Connect) -> None:
    status(connect(gitlab), url="https://ci.example/" + "x" * 300)
    assert "target_url" not in gitlab.statuses[0]


@pytest.mark.parametrize(
    ("revision", "state", "words"),
    [
        ("main", "success", "no full commit hash"),
        ("A" * 40, "success", "no full commit hash"),
        (SHA, "ok", "success,"),
    ],
)
def test_a_status_that_no_forge_takes_is_not_sent(
    server: GitHubServer | GitLabServer, connect: Connect, revision: str, state: str, words: str
) -> None:
    forge = connect(server)
    act = lambda: forge.set_status(revision, context="c", state=state, description="d")  # noqa: E731
    assert words in refusal(ConfigurationError, act)
    assert not server.seen


def test_a_commit_that_was_not_pushed(github: GitHubServer, connect: Connect) -> None:
    github.revisions.clear()
    assert "(422): No commit found for SHA: aaa" in refusal(ConfigurationError, lambda: status(connect(github)))


# Refusals in words


@pytest.mark.parametrize("code", [401, 403, 404])
@pytest.mark.parametrize(
    ("act", "path", "needs"),
    [
        (open_one, "pulls", "`pull requests: write`"),
        (lambda forge: forge.comment(5, marker="m", body="x"), "comments", "`issues: write`"),
        (status, "statuses", "`commit statuses: write`"),
    ],
)
def test_a_refusal_names_the_permission_and_the_variable(
    github: GitHubServer, connect: Connect, code: int, act: Callable[[Forge], object], path: str, needs: str
) -> None:
    body = b'{"message": "Resource not accessible by personal access token"}'
    github.faults.append(Fault(method="POST", path=path, status=code, body=body))
    text = refusal(ConfigurationError, lambda: act(connect(github, GITHUB_TOKEN=TOKEN)))
    assert f"({code}: Resource not accessible by personal access token)" in text
    assert needs in text and "GITHUB_TOKEN" in text
    assert len(github.asked("POST")) == 1


def test_a_job_tokens_refusal_says_what_to_use_instead(servers: list[Recorder], connect: Connect) -> None:
    servers.append(server := GitLabServer("", job=TOKEN))
    server.faults.append(
        Fault(method="POST", path="/merge_requests", status=403, body=b'{"message":"403 Forbidden"}')
    )
    text = refusal(ConfigurationError, lambda: open_one(connect(server, CI_JOB_TOKEN=TOKEN)))
    assert "set GITLAB_TOKEN to a project access token" in text


def test_a_job_tokens_own_comment_is_known_by_the_jobs_user(servers: list[Recorder], connect: Connect) -> None:
    servers.append(server := GitLabServer("", job=TOKEN))
    theirs, ours = (crowd(server, 1, 0, "<!-- m -->\nold", id=ident) for ident in (8, 7))
    connect(server, CI_JOB_TOKEN=TOKEN).comment(5, marker="m", body="new")
    assert (theirs["body"], ours["body"]) == ("<!-- m -->\nold", "<!-- m -->\nnew")


def test_a_token_that_is_not_valid(server: GitHubServer | GitLabServer, connect: Connect) -> None:
    server.token = "another"
    text = refusal(ConfigurationError, lambda: open_one(connect(server)))
    assert "does not take the token in TSCHED_FORGE_TOKEN (401: " in text


# Rate limits


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Retry-After": "3600"}, "(in 3600 s)"),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "4102444800"}, "at 2100-01-01T00:00:00Z"),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999999999999"}, "in a minute"),
        ({"Retry-After": "9" * 30}, "in a minute"),
        ({}, "in a minute"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_githubs_rate_limits_are_told_with_their_end(
    github: GitHubServer, connect: Connect, slept: list[float], headers: dict[str, str], words: str, method: str
) -> None:
    said = "Slow down." if headers else "You have exceeded a secondary rate limit."
    body = json.dumps({"message": said}).encode()
    github.faults.append(Fault(method=method, path="/pulls", status=403, headers=headers, body=body))
    text = refusal(TransientError, lambda: open_one(connect(github)))
    assert words in text and said in text
    assert slept == [] and len(github.asked(method)) == 1


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_a_short_wait_that_is_asked_for_is_waited(
    github: GitHubServer, connect: Connect, slept: list[float], method: str
) -> None:
    if method == "PATCH":
        github.pulls.append(github.pull(5, "edit/dev", "main"))
    github.faults.append(Fault(method=method, path="/pulls", status=429, headers={"Retry-After": "7"}))
    assert open_one(connect(github)).endswith("/pull/5")
    assert slept == [7.0] and len(github.pulls) == 1


def test_a_long_wait_that_is_asked_for_is_left_to_the_caller(
    server: GitHubServer | GitLabServer, connect: Connect, slept: list[float]
) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(days=2), usegmt=True)
    for code in (429, 503):
        server.faults.append(Fault(method="GET", path="/(pulls|merge)", status=code, headers={"Retry-After": later}))
        text = refusal(TransientError, lambda: open_one(connect(server)))
        assert f"{datetime.now(UTC) + timedelta(days=2):at %Y-%m-%dT}" in text
    assert slept == []


# Trouble


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_what_only_reads_is_tried_again(server: GitHubServer | GitLabServer, connect: Connect, code: int) -> None:
    server.faults.append(Fault(method="GET", path="/(pulls|merge)", status=code, times=3))
    assert open_one(connect(server)).endswith("/5")


@pytest.mark.parametrize("how", ["half", "drop", "noise"])
def test_half_an_answer_to_a_read_is_asked_for_again(
    server: GitHubServer | GitLabServer, connect: Connect, how: str
) -> None:
    server.faults.append(Fault(method="GET", path="/(pulls|merge)", how=how))  # type: ignore[arg-type]
    assert open_one(connect(server)).endswith("/5")


@pytest.mark.parametrize("how", ["half", "drop", "noise", "reply"])
def test_trouble_that_stays_is_told_after_a_few_attempts(
    server: GitHubServer | GitLabServer, connect: Connect, how: str, slept: list[float]
) -> None:
    server.faults.append(Fault(method="GET", path="/(pulls|merge)", how=how, status=502, times=99))  # type: ignore[arg-type]
    assert "try again later" in refusal(TransientError, lambda: open_one(connect(server)))
    assert (len(server.seen), len(slept)) == (4, 3)


@pytest.mark.parametrize("how", ["half", "drop", "noise", "reply"])
def test_a_write_whose_answer_was_lost_is_looked_for_and_never_repeated(
    server: GitHubServer | GitLabServer, connect: Connect, how: str
) -> None:
    forge = connect(server)
    late = Fault(method="POST", path="", how=how, status=504, late=True)  # type: ignore[arg-type]
    server.faults.append(late)
    assert open_one(forge).endswith("/5")
    server.faults.append(late)
    url = forge.comment(5, marker="m", body="x")
    server.faults.append(late)
    status(forge)
    assert not server.faults
    assert url == forge.comment(5, marker="m", body="x")
    made = (server.pulls, server.comments) if isinstance(server, GitHubServer) else (server.merges, server.notes)
    assert (len(made[0]), len(made[1][5]), len(server.statuses)) == (1, 1, 1)
    assert len(server.asked("POST")) == 3


@pytest.mark.parametrize(
    "act", [open_one, lambda forge: forge.comment(5, marker="m", body="x"), status], ids=["open", "comment", "status"]
)
def test_a_write_that_was_lost_and_is_not_there_is_told(
    server: GitHubServer | GitLabServer, connect: Connect, act: Callable[[Forge], object]
) -> None:
    if isinstance(server, GitLabServer):
        server.merges.append(server.merge(5, "other", "main"))
    forge = connect(server)
    status(forge, description="an older one")
    server.faults.append(Fault(method="POST", path="", status=503, headers={"Retry-After": "1"}))
    assert "try again" in refusal(TransientError, lambda: act(forge))
    assert len(server.asked("POST")) == 2
    act(forge)
    assert len(server.asked("POST")) == 3


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_server_that_never_ends_its_answer_is_left(
    server: GitHubServer | GitLabServer, connect: Connect, how: str
) -> None:
    server.faults.append(Fault(method="GET", path="/(pulls|merge)", how=how, times=99))  # type: ignore[arg-type]
    forge = connect(server, timeout=0.2, attempts=2)
    assert "gave no whole answer within 0.2 s" in refusal(TransientError, lambda: open_one(forge))
    assert len(server.seen) == 2


def test_nobody_there(connect: Connect) -> None:
    gone = GitHubServer(TOKEN)
    forge = connect(gone)
    gone.close()
    assert "try again later" in refusal(TransientError, lambda: status(forge))


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Sign in</html>", b"{}", b'{"message": 1}', b"[{}]", b"[" * 100_000, b"\xff\xfe", b'[{"id": 1']
)  # fmt: skip
def test_an_answer_that_is_not_the_apis(server: GitHubServer | GitLabServer, connect: Connect, body: bytes) -> None:
    server.faults.append(Fault(method="GET", path="/(pulls|merge)", status=200, body=body))
    assert "TSCHED_FORGE_API" in refusal(TransientError, lambda: open_one(connect(server)))
    assert not server.asked("POST")


def test_an_answer_without_limit_is_not_kept(github: GitHubServer, connect: Connect) -> None:
    github.faults.append(Fault(method="GET", path="/pulls", status=200, body=b" " * 34_000_000, times=9))
    assert "more than" in refusal(TransientError, lambda: open_one(connect(github, attempts=1)))


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://x/\x1b[2J", "", "https://a b"])
def test_an_address_that_is_none_is_not_passed_on(github: GitHubServer, connect: Connect, url: str) -> None:
    github.pulls.append(github.pull(5, "edit/dev", "main", html_url=url))
    assert "web address" in refusal(TransientError, lambda: open_one(connect(github)))


# Redirects


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_token_follows_no_redirect_to_another_host(
    server: GitHubServer | GitLabServer, connect: Connect, servers: list[Recorder], code: int, method: str
) -> None:
    other = Recorder()
    servers.append(other)
    to = {"Location": f"{other.origin}/{QUOTED}?x={QUOTED}"}
    server.faults.append(Fault(method=method, path="", status=code, headers=to))
    text = refusal(ConfigurationError, lambda: open_one(connect(server)))
    assert "where the token does not go" in text and other.origin.removeprefix("http://") in text
    assert not other.seen


@pytest.mark.parametrize("to", ["https://127.0.0.1:PORT/", "http://[bad/", "//evil.example/x", "http://127.0.0.1:1/"])
def test_neither_to_another_scheme_or_port_nor_to_nonsense(github: GitHubServer, connect: Connect, to: str) -> None:
    to = to.replace("PORT", github.origin.rpartition(":")[2])
    github.faults.append(Fault(method="GET", path="", status=302, headers={"Location": to}))
    assert "the token does not go" in refusal(ConfigurationError, lambda: open_one(connect(github)))


def test_a_renamed_repository_is_followed_on_its_own_host(github: GitHubServer, connect: Connect) -> None:
    new = f"{github.api}/repos/acme/fleet/pulls"
    github.faults.append(
        Fault(
            method="GET", path="/pulls$", status=301, headers={"Location": f"{new}?state=open&base=main&head=acme:x"}
        )
    )
    github.faults.append(Fault(method="POST", path="/pulls$", status=307, headers={"Location": new}))
    assert open_one(connect(github)).endswith("/pull/5")
    assert len(github.pulls) == 1


def test_a_write_is_not_turned_into_a_read(github: GitHubServer, connect: Connect) -> None:
    github.faults.append(Fault(method="POST", path="", status=301, headers={"Location": f"{github.api}/repos/a/b"}))
    assert "has moved" in refusal(ConfigurationError, lambda: open_one(connect(github)))


def test_a_redirect_to_itself_ends(github: GitHubServer, connect: Connect) -> None:
    github.faults.append(
        Fault(method="GET", path="", status=302, headers={"Location": f"{github.api}/user"}, times=99)
    )
    assert "(302)" in refusal(ConfigurationError, lambda: open_one(connect(github)))


# The token


@pytest.mark.parametrize("code", [200, 400, 401, 403, 404, 409, 422, 429, 500, 502])
def test_a_server_that_echoes_the_token_spreads_it_nowhere(
    server: GitHubServer | GitLabServer, connect: Connect, code: int
) -> None:
    """In body, header and reason, at the place where a long text is cut, plain and quoted; logs are looked at too."""
    said = f"\x1b[31m\r\n\u202e{'x' * 280} {TOKEN} {QUOTED}"
    for body in ({"message": f"bad {TOKEN}"}, {"message": said}, {"error": {TOKEN: [said]}}, [{TOKEN: 1}]):
        fault = Fault(
            method="GET", path="/(pulls|merge)", status=code, reason=f"No {TOKEN}", body=json.dumps(body).encode(),
            headers={"X-Echo": f"{TOKEN} {QUOTED}"}, times=4,
        )  # fmt: skip
        server.faults[:] = [fault]
        text = refusal(TschedError, lambda: open_one(connect(server)))
        assert "CANARY" not in text


def test_neither_does_one_that_speaks_no_http(github: GitHubServer, connect: Connect) -> None:
    github.faults.append(Fault(method="GET", path="/pulls", how="noise", body=TOKEN.encode(), times=4))
    assert "noise ***" in refusal(TransientError, lambda: open_one(connect(github)))


def test_an_address_with_the_token_in_it_is_masked(github: GitHubServer, connect: Connect) -> None:
    github.pulls.append(github.pull(5, "edit/dev", "main", html_url=f"https://x:{TOKEN}@ghe.example/5?t={QUOTED}"))
    assert open_one(connect(github)) == "https://x:***@ghe.example/5?t=***"


def test_neither_forge_nor_its_parts_show_the_token(server: GitHubServer | GitLabServer, connect: Connect) -> None:
    forge = connect(server)
    http = vars(forge)["_http"]
    assert not [one for one in (repr(forge), repr(http), repr(vars(http)), str(vars(http))) if TOKEN in one]


def test_logging_is_left_as_it_was(github: GitHubServer) -> None:
    before = [logging.getLogger(name).filters[:] for name in ("httpx", "httpcore.http11")]
    with closing(forge_of(GITHUB, environ={"TSCHED_FORGE": "github", "GH_TOKEN": TOKEN})):
        assert len(logging.getLogger("httpx").filters) == len(before[0]) + 1
    assert [logging.getLogger(name).filters for name in ("httpx", "httpcore.http11")] == before


def test_a_certificate_nobody_vouches_for(tmp_path: Path, servers: list[Recorder], connect: Connect) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
         "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    servers.append(server := GitHubServer(TOKEN, context))
    assert "set SSL_CERT_FILE" in refusal(ConfigurationError, lambda: open_one(connect(server)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificate))
        assert open_one(connect(server)).endswith("/5")
        patch.setenv("SSL_CERT_FILE", str(key))
        assert "mend SSL_CERT_FILE" in refusal(ConfigurationError, lambda: connect(server))


# Which forge


@pytest.mark.parametrize(
    ("remote", "environ", "api", "project"),
    [
        ("https://github.com/o/r", {}, "https://api.github.com", "o/r"),
        ("https://github.com/o/r.git/", {}, "https://api.github.com", "o/r"),
        ("https://x:y@GitHub.com/o/r.git", {}, "https://api.github.com", "o/r"),
        ("git@github.com:o/r.git", {}, "https://api.github.com", "o/r"),
        ("ssh://git@github.com:22/o/r", {}, "https://api.github.com", "o/r"),
        ("ssh://git@ssh.github.com:443/o/r.git", {}, "https://api.github.com", "o/r"),
        ("git@acme.ghe.com:o/r.git", {}, "https://api.acme.ghe.com", "o/r"),
        ("https://ghe.example:8443/o/r", {"TSCHED_FORGE": "github"}, "https://ghe.example:8443/api/v3", "o/r"),
        ("ssh://git@ghe.example:2222/o/r", {"TSCHED_FORGE": "github"}, "https://ghe.example/api/v3", "o/r"),
        ("git@gitlab.com:g/s/t/r.git", {}, "https://gitlab.com/api/v4", "g/s/t/r"),
        ("ssh://git@altssh.gitlab.com:443/g/r.git", {}, "https://gitlab.com/api/v4", "g/r"),
        ("https://git.example/g/s/r", {"TSCHED_FORGE": "gitlab"}, "https://git.example/api/v4", "g/s/r"),
        (
            "https://git.example/lab/g/r",
            {"TSCHED_FORGE": "gitlab", "TSCHED_FORGE_API": "https://git.example/lab/api/v4/"},
            "https://git.example/lab/api/v4",
            "g/r",
        ),
    ],
)
def test_the_remote_says_where_the_api_is(remote: str, environ: dict[str, str], api: str, project: str) -> None:
    with closing(forge_of(remote, environ={**environ, "TSCHED_FORGE_TOKEN": TOKEN})) as forge:
        access = vars(vars(forge)["_http"])["_access"]
        assert (access.api, access.project) == (api, project)


def test_what_is_told_comes_before_the_environment_and_that_before_the_name(
    github: GitHubServer, gitlab: GitLabServer
) -> None:
    environ = {"TSCHED_FORGE": "gitlab", "TSCHED_FORGE_API": gitlab.api, "TSCHED_FORGE_TOKEN": TOKEN}
    with closing(forge_of("https://github.com/group/sub/fleet", environ=environ)) as forge:
        assert forge.name == "gitlab"
        open_one(forge)
    with closing(forge_of("https://gitlab.com/acme/fleet", environ=environ, kind="github", api=github.api)) as forge:
        assert forge.name == "github"
        open_one(forge)
    assert (len(gitlab.merges), len(github.pulls)) == (1, 1)


@pytest.mark.parametrize(
    ("remote", "environ", "variable"),
    [
        ("https://github.com/o/r", {"TSCHED_FORGE_TOKEN": "t1", "GITHUB_TOKEN": "t2"}, "TSCHED_FORGE_TOKEN"),
        ("https://github.com/o/r", {"GITHUB_TOKEN": "t2", "GH_TOKEN": "t3", "GITLAB_TOKEN": "t4"}, "GITHUB_TOKEN"),
        ("https://github.com/o/r", {"GITHUB_TOKEN": " \n", "GH_TOKEN": "t3\n"}, "GH_TOKEN"),
        (
            "https://gitlab.com/o/r",
            {"GITHUB_TOKEN": "t2", "GITLAB_TOKEN": "t4", "CI_JOB_TOKEN": "t5"},
            "GITLAB_TOKEN",
        ),
        ("https://gitlab.com/o/r", {"GITHUB_TOKEN": "t2", "CI_JOB_TOKEN": "t5"}, "CI_JOB_TOKEN"),
    ],
)
def test_the_first_token_of_that_forge_is_taken(remote: str, environ: dict[str, str], variable: str) -> None:
    with closing(forge_of(remote, environ=environ)) as forge:
        access = vars(vars(forge)["_http"])["_access"]
        assert (access.variable, access.token) == (variable, environ[variable].strip())


@pytest.mark.parametrize(
    ("remote", "environ", "words"),
    [
        ("https://git.example/o/r", {"GITHUB_TOKEN": TOKEN}, "set TSCHED_FORGE to github or gitlab"),
        ("https://github.com.evil.example/o/r", {"GITHUB_TOKEN": TOKEN}, "set TSCHED_FORGE to github or gitlab"),
        ("https://github.com/o/r", {"TSCHED_FORGE": "gitea"}, "'gitea' is no kind of forge: set TSCHED_FORGE"),
        ("https://github.com/o/r", {"GITLAB_TOKEN": TOKEN}, "set TSCHED_FORGE_TOKEN (or GITHUB_TOKEN or GH_TOKEN)"),
        ("https://gitlab.com/o/r", {"GITHUB_TOKEN": TOKEN}, "TSCHED_FORGE_TOKEN (or GITLAB_TOKEN or CI_JOB_TOKEN)"),
        ("https://github.com/o/r", {"GITHUB_TOKEN": f"{TOKEN}\r\nX: y"}, "GITHUB_TOKEN holds no token"),
        ("https://github.com/o/r", {"GITHUB_TOKEN": f"{TOKEN}é"}, "GITHUB_TOKEN holds no token"),
        ("https://github.com/o/r/s", {"GITHUB_TOKEN": TOKEN}, "no OWNER/REPOSITORY"),
        ("https://github.com/o", {"GITHUB_TOKEN": TOKEN}, "no repository on a forge"),
        ("https://github.com/o/../r", {"GITHUB_TOKEN": TOKEN}, "no repository on a forge"),
        ("https://github.com/o/r%3Fx", {"GITHUB_TOKEN": TOKEN}, "no repository on a forge"),
        (f"https://x:{TOKEN}@github.com/", {"GITHUB_TOKEN": TOKEN}, "no repository on a forge"),
        ("https://github.com:x/o/r", {"GITHUB_TOKEN": TOKEN}, "no repository on a forge"),
        ("/srv/git/fleet.git", {"GITHUB_TOKEN": TOKEN}, "no repository on a forge"),
        ("file:///srv/git/fleet.git", {"GITHUB_TOKEN": TOKEN}, "no repository on a forge"),
        ("", {"GITHUB_TOKEN": TOKEN}, "no repository on a forge"),
        ("https://github.com/o/r", {"GH_TOKEN": TOKEN, "TSCHED_FORGE_API": "ftp://x"}, "set TSCHED_FORGE_API to"),
        (
            "https://github.com/o/r",
            {"GH_TOKEN": TOKEN, "TSCHED_FORGE_API": "http://x:y@z"},
            "set TSCHED_FORGE_API to",
        ),
        (
            "https://github.com/o/r",
            {"GH_TOKEN": TOKEN, "TSCHED_FORGE_API": f"https://x:{TOKEN}@h/"},
            "set TSCHED_FORGE_API to",
        ),
    ],
)
def test_what_cannot_be_told_names_what_to_set(remote: str, environ: dict[str, str], words: str) -> None:
    assert words in refusal(ConfigurationError, lambda: forge_of(remote, environ=environ))
