"""Calls to one forge: limited in time, repeated where that is safe, the token kept from every text."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import httpx
import msgspec
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from tsched.model.errors import ConfigurationError, TransientError
from tsched.rest.access import Access, Limits
from tsched.rest.call import Answer, fetched
from tsched.rest.refusal import Again, Lost, judge

_LOGGERS = ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))
_UNCHANGED = 304
_REDIRECTS = (301, 302, 303, 307, 308)
_HOPS = 3
_PAGE = 100  # entries
_PAGES = 100
_BYTES = 32 * 1024 * 1024  # of one answer
T = TypeVar("T")


class Http:
    """One forge's API. Raises ConfigurationError for what a person mends, else TransientError (see refusal.py)."""

    def __init__(self, access: Access, headers: Mapping[str, str], limits: Limits) -> None:
        self._access = access
        self._limits = limits
        self._host = access.host
        try:
            self._client = httpx.Client(headers={"User-Agent": "tsched", **headers}, timeout=limits.timeout)
        except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
            words = f"no connection can be made ({access.clean(str(error))})"
            raise ConfigurationError(f"{words}: mend SSL_CERT_FILE or the proxy variables") from None
        self._jitter = wait_random_exponential(multiplier=min(0.5, limits.pause), max=limits.pause)
        self._filter = _Masking(self._access.mask)
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._filter)

    def close(self) -> None:
        self._client.close()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._filter)

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
        return self._access.mask(text)

    def _read(self, shape: type[T], answer: Answer) -> T:
        try:
            return msgspec.json.decode(answer.content, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise TransientError(
                f"{self._host} answers with something else than its API would ({self._access.clean(str(error))}): "
                f"try again later, or set {self._access.address} to the API's own address"
            ) from None

    def _call(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, object] | None, needs: str,
        known: Answer | None = None,
    ) -> Answer:  # fmt: skip
        again = Retrying(
            retry=retry_if_exception_type(Again), stop=stop_after_attempt(self._limits.attempts), wait=self._wait,
            sleep=self._limits.sleep, reraise=True,
        )  # fmt: skip
        url = httpx.URL(self._access.api + path, params=query) if query else httpx.URL(self._access.api + path)
        return again(self._once, method, url, body, needs, known)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return (error.after if isinstance(error, Again) else 0.0) + self._jitter(state)

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
        judge(answer, self._access, method=method, path=url.path, needs=needs, patience=self._limits.patience)
        return answer

    def _exchange(
        self, method: str, url: httpx.URL, body: Mapping[str, object] | None, headers: Mapping[str, str]
    ) -> Answer:
        try:
            return fetched(
                self._client, method, url, timeout=self._limits.timeout, most=_BYTES, json=body, headers=headers
            )
        except (httpx.RequestError, httpx.InvalidURL) as error:
            words = f"broke off ({self._access.clean(str(error))})"
            if "CERTIFICATE_VERIFY_FAILED" in words:
                raise ConfigurationError(
                    f"the certificate of {self._host} is not trusted: set SSL_CERT_FILE to its authority's ({words})"
                ) from None
            if isinstance(error, httpx.TimeoutException):
                words = f"gave no whole answer within {self._limits.timeout:g} s"
            text = f"{self._host} {words}: try again later"
            unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise (Lost(text) if method == "POST" and not unsent else Again(text)) from None

    def _onward(self, method: str, url: httpx.URL, answer: Answer) -> httpx.URL:
        try:
            target = url.join(answer.headers.get("location", ""))
        except httpx.InvalidURL:
            target = httpx.URL()
        if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
            place = self._access.clean(target.netloc.decode()) or "nowhere"
            raise ConfigurationError(
                f"{self._host} sends on to {place}, where the token does not go: "
                f"set {self._access.address} to the forge's own address"
            )
        if method != "GET" and answer.status not in (307, 308):
            raise ConfigurationError(
                f"{self._host} says that {self._access.project} has moved: "
                f"set {self._access.address} to its new address"
            )
        return target


class _Masking(logging.Filter):
    """Keeps the token out of what httpx and httpcore log of a call."""

    def __init__(self, mask: Callable[[str], str]) -> None:
        super().__init__()
        self._mask = mask

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._mask(record.getMessage()), ()
        return True
