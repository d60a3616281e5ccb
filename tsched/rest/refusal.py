"""What it means that a forge says no, or nothing: an exception each, by what its caller may do then."""

import httpx
import msgspec

from tsched.model.errors import ConfigurationError, TransientError
from tsched.rest.access import Access
from tsched.rest.call import Answer, wait_asked

_MINUTE = 60.0


class Refused(ConfigurationError):  # noqa: N818  # named for what happened
    """The forge said no, and why."""

    def __init__(self, text: str, *, status: int, reason: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


class Lost(TransientError):  # noqa: N818  # named for what happened
    """No answer came to a POST: it may have taken effect, so look before you repeat it."""


class Limited(TransientError):  # noqa: N818
    """The forge takes no more calls for `after` seconds: none may be made before."""

    def __init__(self, text: str, after: float) -> None:
        super().__init__(text, after=after)


class Again(TransientError):  # noqa: N818
    """Safe to repeat, `after` so many seconds."""

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text, after=after)


def judge(answer: Answer, access: Access, *, method: str, path: str, needs: str, patience: float) -> None:
    """Raises for what is no success. `needs` names what the token must be allowed.

    `patience`: the longest, in seconds, that the server may ask us to wait.
    """
    status, host = answer.status, access.host
    if 200 <= status < 300:
        return
    reason = _reason(access, answer.content)
    after, when = wait_asked(answer.headers)
    if status == 429 or (status == 403 and _limited(answer.headers, reason)):
        text = f"{host} takes no more calls for now ({status}: {reason}): try again {when or 'in a minute'}"
        if status == 403 or (after or 0.0) > patience:
            raise Limited(text, _MINUTE if after is None else after)
        raise Again(text, after or 0.0)
    if status >= 500 or status == 408:
        text = f"{host} is in trouble ({status}: {reason}): try again {when or 'later'}"
        if method == "POST":
            raise Lost(text)
        if status in (502, 503, 504) and (after or 0.0) <= patience:
            raise Again(text, after or 0.0)
        raise TransientError(text)
    variable, project = access.variable, access.project
    words = {
        401: f"{host} does not take the token in {variable} (401: {reason}): set a valid one with {needs}",
        403: f"the token in {variable} may not do this in {project} (403: {reason}): give it {needs}",
        404: f"{host} shows no {access.clean(path)} (404: {reason}): check the address and the "
        f"number, and give the token in {variable} access to {project} with {needs}",
    }.get(status, f"{host} refuses {method} {access.clean(path)} ({status}): {reason}")
    raise Refused(words, status=status, reason=reason)


def _reason(access: Access, content: bytes) -> str:
    try:
        said = _words(msgspec.json.decode(content))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        said = ""
    return access.clean(said) or "no reason given"


def _words(said: object) -> str:
    """What an error body says, in GitHub's shapes (message, errors) and GitLab's (message or error, of any depth)."""
    match said:
        case str() | int():
            return str(said)
        case list():
            return "; ".join(filter(None, map(_words, said)))
        case {"message": message, "errors": errors}:
            return f"{_words(message)}: {_words(errors)}"
        case {"message": message} | {"error": message}:
            return _words(message)
        case dict():
            return ", ".join(f"{name} {_words(value)}" for name, value in said.items())
    return ""


def _limited(headers: httpx.Headers, reason: str) -> bool:
    return (
        "retry-after" in headers
        or headers.get("x-ratelimit-remaining") == "0"
        or "secondary rate limit" in reason.lower()
    )
