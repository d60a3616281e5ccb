"""One HTTP call: its whole answer, limited in time and size, and how long the server asks us to wait."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from tsched.failpoint import failpoint


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
