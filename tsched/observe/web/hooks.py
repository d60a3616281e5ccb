"""Hooks of forges: whether one is genuine, and whether it speaks of the branch that is followed. Pure."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from tsched.serving import RefusedError, json_object

MOST: Final = 1024 * 1024  # bytes of a hook
TOLERANCE: Final = 300.0  # seconds that a signed time may be away from ours
_WHOLE = re.compile(r"[0-9]{1,12}")
Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A kind of hook. `signed` looks at headers alone: False where a signature is missing or plainly wrong.

    `genuine` judges the whole: what names this delivery, so that it counts once, or None for a forgery. `event`: the
    header that says what happened, with the words for a push and for a trial.
    """

    what: str
    signed: Callable[[Headers, str], bool]
    genuine: Callable[[Headers, bytes, str, float], str | None]
    event: tuple[str, str, str] | None = None


def _digest(secret: bytes, *parts: bytes) -> bytes:
    return hmac.new(secret, b".".join(parts), hashlib.sha256).digest()


def _alike(given: str, wanted: str) -> bool:
    """How long it takes tells nothing of where they differ."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def _near(stamp: str, now: float) -> bool:
    return _WHOLE.fullmatch(stamp) is not None and abs(int(stamp) - now) <= TOLERANCE


# GitHub: an HMAC of the body. Its delivery id is not signed, so the signature is what names a delivery.


def _github(headers: Headers, body: bytes, secret: str, now: float) -> str | None:
    wanted = "sha256=" + _digest(secret.encode(), body).hex()
    return f"github {wanted}" if _alike(headers.get("x-hub-signature-256", ""), wanted) else None


# GitLab: the secret itself; newer ones sign id, time and body by a signing token (the Standard Webhooks way).


def _gitlab_signed(headers: Headers, secret: str) -> bool:
    if "webhook-signature" in headers:
        return True
    return _alike(headers.get("x-gitlab-token", ""), secret)


def _gitlab(headers: Headers, body: bytes, secret: str, now: float) -> str | None:
    if "webhook-signature" not in headers:
        name = headers.get("idempotency-key") or headers.get("x-gitlab-event-uuid", "")
        known = f"gitlab {name} {hashlib.sha256(body).hexdigest()}"
        return known if _gitlab_signed(headers, secret) else None
    number, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    key = _standard_key(secret)
    if key is None or not _near(stamp, now):
        return None
    wanted = "v1," + base64.b64encode(_digest(key, number.encode(), stamp.encode(), body)).decode()
    given = headers["webhook-signature"].split(" ")
    return f"gitlab {wanted}" if any(_alike(one, wanted) for one in given[:8]) else None


def _standard_key(secret: str) -> bytes | None:
    """The key of a signing token: `whsec_` and base64, or as it stands."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return None


# Anything else: the time is signed with the body, so that an old one is worth nothing.


def _generic(headers: Headers, body: bytes, secret: str, now: float) -> str | None:
    stamp = headers.get("x-tsched-timestamp", "")
    wanted = "sha256=" + _digest(secret.encode(), stamp.encode(), body).hex()
    genuine = _alike(headers.get("x-tsched-signature-256", ""), wanted)
    return f"generic {stamp} {wanted}" if genuine and _near(stamp, now) else None


KINDS: Final[Mapping[str, Hook]] = {
    "github": Hook(
        what="A GitHub webhook, signed by X-Hub-Signature-256.",
        signed=lambda headers, secret: "x-hub-signature-256" in headers, genuine=_github,
        event=("x-github-event", "push", "ping"),
    ),
    "gitlab": Hook(
        what="A GitLab webhook, with X-Gitlab-Token or signed by webhook-signature.",
        signed=_gitlab_signed, genuine=_gitlab, event=("x-gitlab-event", "Push Hook", ""),
    ),
    "generic": Hook(
        what="Any other, signed by X-Tsched-Signature-256 over `<X-Tsched-Timestamp>.<body>`.",
        signed=lambda headers, secret: {"x-tsched-signature-256", "x-tsched-timestamp"} <= set(headers),
        genuine=_generic,
    ),
}  # fmt: skip


def trial(hook: Hook, headers: Headers) -> bool:
    """Whether the forge only tries whether we answer."""
    return hook.event is not None and bool(hook.event[2]) and headers.get(hook.event[0]) == hook.event[2]


def passed_over(hook: Hook, headers: Headers, body: bytes, branch: str) -> str | None:
    """Why a genuine hook starts nothing; None where it speaks of the branch that is followed.

    Raises RefusedError where its body can't be read.
    """
    if hook.event is not None:
        name, push, _ = hook.event
        if headers.get(name) != push:
            return f"it is no {push.lower()}"
    said = _payload(headers, body)
    ref = said.get("ref")
    if ref is None and hook.event is None:
        return None
    if ref != f"refs/heads/{branch}" and not (hook.event is None and ref == branch):
        return f"the branch {branch} is followed"
    gone = said.get("deleted") is True or not str(said.get("after", "1")).strip("0")
    return "the branch was deleted" if gone else None


def _payload(headers: Headers, body: bytes) -> Mapping[str, object]:
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):  # GitHub's other form
        try:
            body = parse_qs(body.decode(), max_num_fields=10).get("payload", [""])[0].encode()
        except ValueError:
            raise RefusedError("the body is no form", 400) from None
    return json_object(body)
