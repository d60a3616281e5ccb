"""Hooks: what is genuine, and what starts something."""

import json

import pytest

from tests.integration.web_server import SECRET, generic, github, gitlab
from tsched.observe.web.hooks import KINDS, TOLERANCE, passed_over, trial
from tsched.serving import RefusedError

NOW = 1_768_903_200.0
PUSH = json.dumps({"ref": "refs/heads/main", "after": "a" * 40}).encode()
TRUE_GITLAB = {"x-gitlab-token": SECRET, "x-gitlab-event": "Push Hook"}


def genuine(
    kind: str, headers: dict[str, str], body: bytes = PUSH, *, secret: str = SECRET, now: float = NOW
) -> bool:
    hook = KINDS[kind]
    return hook.signed(headers, secret) and hook.genuine(headers, body, secret, now) is not None


def test_the_examples_that_the_inventors_publish_are_genuine() -> None:
    """GitHub's documentation, and the Standard Webhooks specification, whose way GitLab's signing token goes."""
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-hub-signature-256": f"sha256={digest}"}
    assert genuine("github", headers, b"Hello, World!", secret="It's a Secret to Everybody")
    standard = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,bm9ldHUjKzFob2VudXRob2VodWUzMjRvdWVvdW9ldQo= "
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert genuine("gitlab", standard, b'{"test": 2432232314}', secret=secret, now=1614265330)
    assert not genuine("gitlab", standard, b'{"test": 2432232315}', secret=secret, now=1614265330)


def test_ours_are_genuine() -> None:
    assert genuine("github", github(PUSH))
    assert genuine("gitlab", TRUE_GITLAB)
    assert genuine("gitlab", gitlab(PUSH, NOW))
    assert genuine("generic", generic(PUSH, NOW))


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("github", {}),
        ("github", github(PUSH, secret="other")),
        ("github", github(b"other")),
        ("github", {"x-hub-signature-256": ""}),
        ("github", {"x-hub-signature-256": "sha256="}),
        ("github", {"x-hub-signature": "sha1=0"}),
        ("github", {"x-hub-signature-256": github(PUSH)["x-hub-signature-256"].removeprefix("sha256=")}),
        ("github", TRUE_GITLAB),
        ("gitlab", {}),
        ("gitlab", {"x-gitlab-token": ""}),
        ("gitlab", {"x-gitlab-token": "other"}),
        ("gitlab", {**gitlab(PUSH, NOW), "webhook-id": "another"}),
        ("gitlab", {**gitlab(PUSH, NOW), "webhook-timestamp": str(int(NOW) + 1)}),
        ("gitlab", {**gitlab(b"other", NOW), "x-gitlab-token": SECRET}),
        ("gitlab", gitlab(PUSH, NOW - TOLERANCE - 1)),
        ("generic", {}),
        ("generic", generic(PUSH, NOW - TOLERANCE - 1)),
        ("generic", generic(PUSH, NOW + TOLERANCE + 1)),
        ("generic", {**generic(PUSH, NOW - 1), "x-tsched-timestamp": str(int(NOW))}),
        ("generic", {"x-tsched-signature-256": generic(PUSH, NOW)["x-tsched-signature-256"]}),
        ("generic", {**generic(PUSH, NOW), "x-tsched-timestamp": "now"}),
        ("generic", github(PUSH)),
    ],
)
def test_a_forgery_is_none(kind: str, headers: dict[str, str]) -> None:
    assert not genuine(kind, headers)


def test_a_delivery_has_one_name_whatever_of_it_is_not_signed() -> None:
    hook = KINDS["github"]
    first = hook.genuine({**github(PUSH), "x-github-delivery": "1"}, PUSH, SECRET, NOW)
    assert first == hook.genuine({**github(PUSH), "x-github-delivery": "2"}, PUSH, SECRET, NOW)
    other = PUSH + b" "
    assert first != hook.genuine(github(other), other, SECRET, NOW)


@pytest.mark.parametrize(
    ("kind", "event", "body", "starts"),
    [
        ("github", "push", {"ref": "refs/heads/main", "after": "a" * 40}, True),
        ("github", "push", {"ref": "refs/heads/other"}, False),
        ("github", "push", {"ref": "refs/tags/main"}, False),
        ("github", "push", {"ref": "refs/heads/main", "deleted": True}, False),
        ("github", "push", {}, False),
        ("github", "pull_request", {"ref": "refs/heads/main"}, False),
        ("gitlab", "Push Hook", {"ref": "refs/heads/main", "after": "a" * 40}, True),
        ("gitlab", "Push Hook", {"ref": "refs/heads/main", "after": "0" * 40}, False),
        ("gitlab", "Tag Push Hook", {"ref": "refs/tags/main"}, False),
        ("generic", "", {}, True),
        ("generic", "", {"ref": "main"}, True),
        ("generic", "", {"ref": "refs/heads/main"}, True),
        ("generic", "", {"ref": "refs/heads/other"}, False),
    ],
)
def test_only_pushes_to_the_branch_that_is_followed_start_something(
    kind: str, event: str, body: dict[str, object], starts: bool
) -> None:
    headers = {f"x-{kind}-event": event}
    assert (passed_over(KINDS[kind], headers, json.dumps(body).encode(), "main") is None) is starts


def test_githubs_form_is_read_too() -> None:
    headers = {"x-github-event": "push", "content-type": "application/x-www-form-urlencoded"}
    assert (
        passed_over(KINDS["github"], headers, b"payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%7D", "main") is None
    )


def test_a_trial_is_known() -> None:
    assert trial(KINDS["github"], {"x-github-event": "ping"})
    assert not trial(KINDS["github"], {"x-github-event": "push"})
    assert not trial(KINDS["gitlab"], {})
    assert not trial(KINDS["generic"], {})


@pytest.mark.parametrize("body", [b"{", b"[]", b"[" * 100_000, b"\xff\xfe{"])
def test_a_body_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError):
        passed_over(KINDS["github"], {"x-github-event": "push"}, body, "main")
