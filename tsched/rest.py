"""Careful HTTP for the APIs of forges: time limits, few retries, paging, no token where it does not belong."""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from tsched.failpoint import failpoint
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.secrets import mask

STATES = ("success", "failure", "pending", "error")
_LOGGERS = ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))
_UNCHANGED = 304
_REDIRECTS = (301, 302, 303, 307, 308)
_HOPS = 3
_MINUTE = 60.0
_PAGE = 100  # entries
_PAGES = 100
_BYTES = 32 * 1024 * 1024  # of one answer
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long to wait and how often to try, in seconds."""

    timeout: float = 20.0  # for one call, answer included
    attempts: int = 4
    pause: float = 8.0  # the longest between two attempts that nobody asked for
    patience: float = 30.0  # the longest a forge may ask us to wait before we give up for now
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where a forge's API is, the project in it, and the token that opens it."""

    api: str
    project: str
    variable: str  # the environment variable the token came from
    token: str = field(repr=False)
    job: bool = False  # a GitLab CI job token
    address: str = "the remote, or TSCHED_FORGE_API,"  # what a person sets where the address is wrong


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


class _Again(TransientError):  # noqa: N818
    """Safe to repeat, `after` so many seconds."""

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text, after=after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a call brought."""

    status: int
    headers: httpx.Headers
    next: str  # the address of the next page
    content: bytes


def fetched(
    client: httpx.Client, method: str, url: httpx.URL | str, *, timeout: float, most: int, **parts: Any
) -> Answer:
    """One call with its whole answer, of at most `most` bytes, within `timeout` seconds; httpx limits each read only.

    Raises httpx.RequestError.
    """
    end = time.monotonic() + timeout
    content = bytearray()
    failpoint(f"{method} to be sent")
    with client.stream(method, url, **parts) as response:
        for chunk in response.iter_bytes():
            content += chunk
            if time.monotonic() > end:
                raise httpx.ReadTimeout(f"no whole answer within {timeout:g} s")
            if len(content) > most:
                raise httpx.ReadError(f"more than {most} bytes")
    failpoint(f"{method} answered")
    following = response.links.get("next", {}).get("url", "")
    return Answer(status=response.status_code, headers=response.headers, next=following, content=bytes(content))


class Http:
    """Calls to one forge: limited in time, repeated where that is safe, the token kept from every text."""

    def __init__(self, access: Access, headers: Mapping[str, str], limits: Limits) -> None:
        self._access = access
        self._limits = limits
        self._host = httpx.URL(access.api).netloc.decode()
        try:
            self._client = httpx.Client(headers={"User-Agent": "tsched", **headers}, timeout=limits.timeout)
        except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
            raise ConfigurationError(
                f"no connection can be made ({self._clean(str(error))}): mend SSL_CERT_FILE or the proxy variables"
            ) from None
        self._jitter = wait_random_exponential(multiplier=min(0.5, limits.pause), max=limits.pause)
        self._filter = _Masking(self.mask)
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._filter)

    def close(self) -> None:
        self._client.close()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._filter)

    def mask(self, text: str) -> str:
        token = self._access.token
        return text.replace(token, "***").replace(quote(token, safe=""), "***")

    def ask(
        self, shape: type[T], method: str, path: str, *, needs: str, query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> T:  # fmt: skip
        """Call and read the answer. `needs` names, for a refusal, what the token must be allowed."""
        return self._read(shape, self._call(method, path, query or {}, body, needs))

    def tell(self, path: str, body: Mapping[str, object], *, needs: str) -> None:
        """POST what has no answer worth reading."""
        self._call("POST", path, {}, body, needs)

    def pages(
        self, shape: type[list[T]], path: str, *, needs: str, query: Mapping[str, str] | None = None,
        known: dict[str, Answer] | None = None,
    ) -> Iterator[T]:  # fmt: skip
        """Every entry of a list, page after page; only the query of the next page's address is believed.

        `known` keeps the pages of a list that is asked for again and again: those that have not changed since are
        not sent again (nor counted against GitHub's rate limit). It is brought up to date at the list's end.
        """
        query = {**(query or {}), "per_page": str(_PAGE)}
        now: dict[str, Answer] = {}
        for _ in range(_PAGES):
            place = str(httpx.QueryParams(query))
            answer = self._call("GET", path, query, None, needs, (known or {}).get(place))
            entries = self._read(shape, answer)
            yield from entries
            if answer.next or len(entries) < _PAGE:  # a full last page is the same also once another follows it
                now[place] = answer
            if not answer.next:
                if known is not None:
                    known.clear()
                    known.update(now)
                return
            query = {**query, **httpx.QueryParams(answer.next.partition("?")[2])}
        raise TransientError(f"{self._host}: the list at {path} does not end after {_PAGES} pages")

    def address(self, text: str) -> str:
        """A web address the forge gave, fit to be printed."""
        if not re.match(r"https?://", text) or not text.isprintable() or " " in text:
            raise TransientError(f"{self._host} answers without a web address: try again later")
        return self.mask(text)

    def _read(self, shape: type[T], answer: Answer) -> T:
        try:
            return msgspec.json.decode(answer.content, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise TransientError(
                f"{self._host} answers with something else than its API would ({self._clean(str(error))}): "
                f"try again later, or set {self._access.address} to the API's own address"
            ) from None

    def _call(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, object] | None, needs: str,
        known: Answer | None = None,
    ) -> Answer:  # fmt: skip
        again = Retrying(
            retry=retry_if_exception_type(_Again), stop=stop_after_attempt(self._limits.attempts), wait=self._wait,
            sleep=self._limits.sleep, reraise=True,
        )  # fmt: skip
        url = httpx.URL(self._access.api + path, params=query) if query else httpx.URL(self._access.api + path)
        return again(self._once, method, url, body, needs, known)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return (error.after if isinstance(error, _Again) else 0.0) + self._jitter(state)

    def _once(
        self, method: str, url: httpx.URL, body: Mapping[str, object] | None, needs: str, known: Answer | None
    ) -> Answer:
        tag = known.headers.get("etag") if known is not None else None
        headers = {"If-None-Match": tag} if tag else {}
        for _ in range(_HOPS):
            answer = self._exchange(method, url, body, headers)
            if known is not None and answer.status == _UNCHANGED:
                return known
            if answer.status not in _REDIRECTS:
                break
            url = self._onward(method, url, answer)
        self._judge(method, url, answer, needs)
        return answer

    def _exchange(
        self, method: str, url: httpx.URL, body: Mapping[str, object] | None, headers: Mapping[str, str]
    ) -> Answer:
        try:
            return fetched(
                self._client, method, url, timeout=self._limits.timeout, most=_BYTES, json=body, headers=headers
            )
        except (httpx.RequestError, httpx.InvalidURL) as error:
            words = f"broke off ({self._clean(str(error))})"
            if "CERTIFICATE_VERIFY_FAILED" in words:
                raise ConfigurationError(
                    f"the certificate of {self._host} is not trusted: set SSL_CERT_FILE to its authority's ({words})"
                ) from None
            if isinstance(error, httpx.TimeoutException):
                words = f"gave no whole answer within {self._limits.timeout:g} s"
            text = f"{self._host} {words}: try again later"
            unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise (Lost(text) if method == "POST" and not unsent else _Again(text)) from None

    def _onward(self, method: str, url: httpx.URL, answer: Answer) -> httpx.URL:
        try:
            target = url.join(answer.headers.get("location", ""))
        except httpx.InvalidURL:
            target = httpx.URL()
        if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
            raise ConfigurationError(
                f"{self._host} sends on to {self._clean(target.netloc.decode()) or 'nowhere'}, where the token does "
                f"not go: set {self._access.address} to the forge's own address"
            )
        if method != "GET" and answer.status not in (307, 308):
            raise ConfigurationError(
                f"{self._host} says that {self._access.project} has moved: "
                f"set {self._access.address} to its new address"
            )
        return target

    def _judge(self, method: str, url: httpx.URL, answer: Answer, needs: str) -> None:
        status, patience = answer.status, self._limits.patience
        if 200 <= status < 300:
            return
        reason = self._reason(answer.content)
        after, when = wait_asked(answer.headers)
        if status == 429 or (status == 403 and _limited(answer.headers, reason)):
            text = f"{self._host} takes no more calls for now ({status}: {reason}): try again {when or 'in a minute'}"
            if status == 403 or (after or 0.0) > patience:
                raise Limited(text, _MINUTE if after is None else after)
            raise _Again(text, after or 0.0)
        if status >= 500 or status == 408:
            text = f"{self._host} is in trouble ({status}: {reason}): try again {when or 'later'}"
            if method == "POST":
                raise Lost(text)
            if status in (502, 503, 504) and (after or 0.0) <= patience:
                raise _Again(text, after or 0.0)
            raise TransientError(text)
        variable, project = self._access.variable, self._access.project
        words = {
            401: f"{self._host} does not take the token in {variable} (401: {reason}): set a valid one with {needs}",
            403: f"the token in {variable} may not do this in {project} (403: {reason}): give it {needs}",
            404: f"{self._host} shows no {self._clean(url.path)} (404: {reason}): check the address and the "
            f"number, and give the token in {variable} access to {project} with {needs}",
        }.get(status, f"{self._host} refuses {method} {self._clean(url.path)} ({status}): {reason}")
        raise Refused(words, status=status, reason=reason)

    def _reason(self, content: bytes) -> str:
        try:
            said = _words(msgspec.json.decode(content))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            said = ""
        return self._clean(said) or "no reason given"

    def _clean(self, text: str) -> str:
        """One short line without the token and without anything a terminal would obey."""
        line = "".join(c if c.isprintable() else " " for c in self.mask(text)[:2000])
        line = mask(" ".join(line.split()))  # on a little: its time grows with the square of a long word
        return line if len(line) <= 300 else line[:299] + "…"


class _Masking(logging.Filter):
    """Keeps the token out of what httpx and httpcore log of a call."""

    def __init__(self, mask: Callable[[str], str]) -> None:
        super().__init__()
        self._mask = mask

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._mask(record.getMessage()), ()
        return True


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


def wait_asked(headers: httpx.Headers) -> tuple[float | None, str]:
    """How many seconds a server asks us to wait, and until when in words."""
    asked, now = headers.get("retry-after", ""), datetime.now(UTC)
    spent = [kind for kind in ("x-ratelimit", "ratelimit") if headers.get(f"{kind}-remaining") == "0"]
    try:
        if asked.isdecimal():
            until = now + timedelta(seconds=int(asked))
        elif asked:
            until = parsedate_to_datetime(asked).astimezone(UTC)
        elif spent:
            until = datetime.fromtimestamp(int(headers.get(f"{spent[0]}-reset", "")), UTC)
        else:
            return None, ""
    except (ValueError, OverflowError, OSError):
        return None, ""
    after = max(0.0, (until - now).total_seconds())
    return after, f"at {until:%Y-%m-%dT%H:%M:%SZ} (in {after:.0f} s)"


def check_token(variable: str, text: str) -> str:
    """A token as a header may carry it. Raises ConfigurationError."""
    if not re.fullmatch(r"[!#-&(-\[\]-~]+", text):
        raise ConfigurationError(f"{variable} holds no token: set it to one, without quotes, spaces or line breaks")
    return text


def github_api(place: str) -> str:
    """The API of a GitHub at a host (and port): github.com, NAME.ghe.com or an Enterprise Server."""
    if place in ("github.com", "ssh.github.com"):
        return "https://api.github.com"
    return f"https://api.{place}" if place.endswith(".ghe.com") else f"https://{place}/api/v3"


def github_http(access: Access, limits: Limits) -> Http:
    """Calls to a GitHub, in the version of its API that this is written for."""
    headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    return Http(access, {**headers, "Authorization": f"Bearer {access.token}"}, limits)


class GitHubUser(msgspec.Struct, frozen=True):
    """Who wrote something on GitHub."""

    id: int
    login: str = ""
    type: str = ""


class GitHubSelf:
    """Whose token calls carry. An App's token (that of Actions too) may not ask who it is, but is a bot."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._me: GitHubUser | None = None

    def wrote(self, author: GitHubUser | None) -> bool:
        """Whether it is us. Asks GitHub who we are, the first time; raises as `Http.ask` does."""
        if self._me is None:
            try:
                self._me = self._http.ask(GitHubUser, "GET", "/user", needs="any permission")
            except Refused as error:
                if error.status not in (403, 404):
                    raise
                self._me = GitHubUser(id=0, type="Bot")
        if author is None:
            return False
        return author.id == self._me.id or (self._me.id == 0 and author.type == "Bot")


def cut(text: str, limit: int) -> str:
    """Text within a forge's limit of characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def marked(marker: str, body: str = "") -> str:
    """A comment's text: the HTML comment it is found again by, then the body."""
    if not re.fullmatch(r"(?!.*--)[\w.:/ -]*\w", marker):
        raise ConfigurationError(f"{marker!r} is no marker of a comment: use letters, digits and single - . : / only")
    return f"<!-- {marker} -->\n{body}"


def check_status(revision: str, state: str) -> None:
    """Raises ConfigurationError for what no forge would take."""
    if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", revision):
        raise ConfigurationError(f"{revision!r} is no full commit hash: a status needs all of it")
    if state not in STATES:
        raise ConfigurationError(f"{state!r} is no state of a commit: use one of {', '.join(STATES)}")
