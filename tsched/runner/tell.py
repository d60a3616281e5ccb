"""Delivers what is to be told of alerts, in order, to each sink by itself; a sink that fails is given time."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from tsched.executors.runtimes import HOST_NAMES
from tsched.executors.told import tell
from tsched.model.alert import Alerts, AlertTransition, Webhook, WebhookFormat
from tsched.model.errors import ConfigurationError, TransientError
from tsched.observe.notify import payload, post
from tsched.runner.record import Pass
from tsched.settings import Settings
from tsched.state import alarms
from tsched.state.alarms import Message

PAUSE, LONGEST = 30.0, 600.0  # seconds before a failed message is tried again: doubled each time, up to the longest
GIVEN_UP = 24 * 3600.0  # seconds after which a message is news to nobody
BUDGET = 10.0  # seconds of a pass after which no more is told in it: a sink that is slow is no failure
MOST = 1000  # messages that wait for one sink; the oldest beyond are given up


def sinks(alerts: Alerts) -> Iterator[str]:
    """The names of all that are told, the same for as long as they stand in the fleet."""
    yield from (_webhook(one) for one in alerts.webhooks)
    yield from (msgspec.json.encode(["command", *one.argv]).decode() for one in alerts.commands)


def _webhook(one: Webhook) -> str:
    return msgspec.json.encode(["webhook", one.url, one.url_env, str(one.format)]).decode()


def deliver(p: Pass, alerts: Alerts) -> None:
    """Tell each sink its messages, oldest first, until one fails or the pass's share of time is used up.

    None is told twice but by a crash in between.
    """
    end = time.monotonic() + BUDGET
    waiting = alarms.waiting(p.host.db)
    left = Counter(message.sink for message in waiting)
    wanted, stopped = set(sinks(alerts)), set[str]()
    for message in waiting:
        if message.sink not in wanted or p.now - message.told.at > GIVEN_UP or left[message.sink] > MOST:
            p.log.warning(f"Nobody was told: {message.told.words}")
            alarms.delivered(p.host.db, message)
            left[message.sink] -= 1
        elif message.sink not in stopped:
            ready = not p.now < message.not_before <= p.now + LONGEST and time.monotonic() < end
            if not (ready and _told(p, message)):
                stopped.add(message.sink)


def _told(p: Pass, message: Message) -> bool:
    """Whether the next message of the same sink may follow."""
    name = _shown(message.sink)
    try:
        _tell(p, message)
    except TransientError as error:
        wait = min(LONGEST, PAUSE * 2.0**message.tries)
        p.error("alert", f"{name} is not told of an alert: {error}; again in {wait:g} s")
        alarms.failed(p.host.db, message, not_before=p.now + wait)
        return False
    except (ConfigurationError, ValueError) as error:  # the latter: words that can't be sent; never tried again
        p.error("alert", f"{name} can't be told of an alert: {error}. Lost: {message.told.words}")
    alarms.delivered(p.host.db, message)
    return True


def _tell(p: Pass, message: Message) -> None:
    host = p.host.settings.hostname
    kind, *rest = msgspec.json.decode(message.sink, type=list[str])
    if kind == "command":
        generic = payload(message.told, WebhookFormat.GENERIC, host=host)
        tell(rest, msgspec.json.encode(generic), environ={**_environ(p.host.settings), **_facts(message.told)})
        return
    url, variable, form = rest
    if variable and not (url := p.host.settings.environ.get(variable, "")):
        raise ConfigurationError(f"{variable} is not set on this host: it has to hold the webhook's address")
    post(url, payload(message.told, WebhookFormat(form), host=host))


def _facts(told: AlertTransition) -> Mapping[str, str]:
    """What a command finds in its environment, besides the whole alert as JSON on its standard input."""
    alert = told.alert
    return {
        "TSCHED_ALERT_STEP": str(told.step),
        "TSCHED_ALERT_RULE": alert.rule,
        "TSCHED_ALERT_SEVERITY": str(alert.severity),
        "TSCHED_ALERT_SUBJECT": alert.subject,
        "TSCHED_ALERT_SUMMARY": alert.summary,
    }


def _environ(settings: Settings) -> Mapping[str, str]:
    """What agents see of this host, for who writes the fleet repo chooses the command: no token but by pass_env."""
    names = (*HOST_NAMES, *settings.pass_env)
    return {name: settings.environ[name] for name in names if name in settings.environ}


def _shown(sink: str) -> str:
    kind, *rest = msgspec.json.decode(sink, type=list[str])
    return f"the command {rest[0]}" if kind == "command" else f"the webhook {rest[1] or 'of limits.yaml'}"
