"""Tells a webhook of an alert: one POST, no redirect followed, no answer kept, a time limit on all of it."""

from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import closing
from threading import Thread
from typing import TYPE_CHECKING

from tsched.failpoint import failpoint
from tsched.model.alert import AlertStep, AlertTransition, WebhookFormat
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.units import iso

if TYPE_CHECKING:
    import httpx

HASTE = 5.0  # seconds: who is told slowly may not hold up the agents
_LOSABLE = (408, 425, 429)  # what passes by itself, besides 5xx
_ICONS = {AlertStep.FIRED: "🔥", AlertStep.REMINDED: "🔁", AlertStep.RESOLVED: "✅"}


def payload(told: AlertTransition, form: WebhookFormat, *, host: str) -> Mapping[str, object]:
    """What is posted. `generic` has the alert's own fields; `id` is the same when it is posted again."""
    alert = told.alert
    if form is WebhookFormat.SLACK:
        return {"text": f"{_ICONS[told.step]} {escaped(told.words)} ({escaped(host)})"}
    return {
        "id": f"{alert.fingerprint}-{int(told.at * 1000)}",
        "step": str(told.step),
        "rule": alert.rule,
        "severity": str(alert.severity),
        "subject": alert.subject,
        "summary": alert.summary,
        "since": iso(alert.since),
        "time": iso(told.at),
        "fingerprint": alert.fingerprint,
        "host": host,
    }


def escaped(text: str) -> str:
    """Slack's three control characters as it wants them, so that no text can mention or link (api.slack.com)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def post(url: str, body: Mapping[str, object], *, timeout: float = HASTE) -> None:
    """POST it. Raises TransientError where a later try may succeed, ConfigurationError where none will.

    Neither names the address: a webhook's is a secret. httpx limits each read, and nothing limits the look-up of a
    name, so a thread does it that is waited for no longer than `timeout` seconds in all.
    """
    import httpx  # slow to load, and seldom needed: every pass and `tsched why` load this module

    try:
        client = httpx.Client(timeout=timeout, headers={"User-Agent": "tsched"})
    except (OSError, ValueError, ImportError, httpx.InvalidURL):
        raise ConfigurationError("no connection can be made: mend SSL_CERT_FILE or the proxy variables") from None
    answer: Future[int] = Future()
    failpoint("POST to be sent")
    Thread(target=_ask, args=(client, url, body, answer), name="webhook", daemon=True).start()
    try:
        with closing(client):  # which also ends the thread, should it still wait
            status = answer.result(timeout)
            failpoint("POST answered")
    except TimeoutError:
        raise TransientError(f"it does not answer within {timeout:g} s") from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise ConfigurationError("its address is none: write one such as https://host/path") from None
    except httpx.HTTPError as error:
        raise TransientError(f"it does not answer ({type(error).__name__})") from None
    if 200 <= status < 300:
        return
    words = f"it answers {status}"
    if status >= 500 or status in _LOSABLE:
        raise TransientError(words)
    raise ConfigurationError(words)


def _ask(client: "httpx.Client", url: str, body: Mapping[str, object], answer: Future[int]) -> None:
    try:
        with client.stream("POST", url, json=body) as response:
            status = response.status_code
    except Exception as error:  # whatever it is, it is the asker's to judge
        answer.set_exception(error)
    else:
        answer.set_result(status)
