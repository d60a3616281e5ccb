"""`alerts:` of limits.yaml: from checked values to the fleet's rules, and what a schema can't say of them."""

from collections.abc import Collection, Iterator
from typing import TypedDict

from tsched.model.alert import (
    AlertCommand,
    Alerts,
    AlertSeverity,
    DepthRule,
    DrainRule,
    ErrorsRule,
    NoAssignmentRule,
    RemoteRule,
    RevisionRule,
    UnservedRule,
    Webhook,
    WebhookFormat,
)
from tsched.model.diagnostic import Diagnostic, Severity
from tsched.validate.near import Near
from tsched.validate.values import Mapped, items, mapping, seconds, whole
from tsched.validate.written import Written

PASSES = 5
WINDOW = 3600.0


class _Common(TypedDict):
    name: str
    severity: AlertSeverity
    wait: float
    repeat: float | None


def alerts_of(value: Mapped) -> Alerts:
    """The rules and sinks of a checked `alerts:` ({}: none, and the log)."""
    rules = sorted((mapping(one) for one in items(value.get("rules"))), key=lambda one: str(one["name"]))
    sinks = [mapping(one) for one in items(value.get("notify"))]
    return Alerts(
        depth=tuple(
            DepthRule(**_common(one), above=whole(one["above"], 0), queue=_queue(one)) for one in _of("depth", rules)
        ),
        no_assignment=tuple(
            NoAssignmentRule(**_common(one), passes=whole(one.get("passes"), PASSES))
            for one in _of("no_assignment", rules)
        ),
        errors=tuple(
            ErrorsRule(**_common(one), above=whole(one["above"], 0), window=seconds(one.get("window"), WINDOW))
            for one in _of("errors", rules)
        ),
        unserved=tuple(UnservedRule(**_common(one), queue=_queue(one)) for one in _of("unserved", rules)),
        drain=tuple(DrainRule(**_common(one)) for one in _of("drain", rules)),
        revision=tuple(RevisionRule(**_common(one)) for one in _of("revision", rules)),
        remote=tuple(RemoteRule(**_common(one)) for one in _of("remote", rules)),
        webhooks=tuple(_webhook(one) for one in _of("webhook", sinks)),
        commands=tuple(
            AlertCommand(argv=tuple(str(word) for word in items(one["argv"]))) for one in _of("command", sinks)
        ),
        log=not sinks or any(True for _ in _of("log", sinks)),
    )


def _of(kind: str, values: Collection[Mapped]) -> Iterator[Mapped]:
    return (one for one in values if one["type"] == kind)


def _common(value: Mapped) -> _Common:
    return {
        "name": str(value["name"]),
        "severity": AlertSeverity(str(value.get("severity", AlertSeverity.WARNING))),
        "wait": seconds(value.get("for"), 0.0),
        "repeat": seconds(value["repeat"], 0.0) if "repeat" in value else None,
    }


def _queue(value: Mapped) -> str | None:
    return str(value["queue"]) if "queue" in value else None


def _webhook(value: Mapped) -> Webhook:
    return Webhook(
        url=str(value.get("url", "")),
        url_env=str(value.get("url_env", "")),
        format=WebhookFormat(str(value.get("format", WebhookFormat.GENERIC))),
    )


def alert_rules(limits: Written, queues: Collection[str] | None) -> Iterator[Diagnostic]:
    """TS318, TS319. `queues`: those that pools serve, None where not all pools could be read."""
    seen: set[str] = set()
    near = Near()
    for index, value in enumerate(items(mapping((limits.value or {}).get("alerts")).get("rules"))):
        rule = mapping(value)
        name, queue = str(rule["name"]), _queue(rule)
        if name in seen:
            message = f"The alert rule {name!r} stands in this file already."
            yield limits.at(
                "TS318", ["alerts", "rules", index, "name"], message, "Give one of them another name."
            )  # fmt: skip
        seen.add(name)
        if queues is not None and queue is not None and queue not in queues and rule["type"] == "depth":
            meant = near(queue, sorted(queues))
            yield limits.at(
                "TS319", ["alerts", "rules", index, "queue"], f"No pool serves the queue {queue!r}.",
                f"Did you mean {meant!r}?" if meant else "Name a queue that a pool serves, or take the rule out.",
                severity=Severity.WARNING,
            )  # fmt: skip


def webhooks(limits: Written) -> Iterator[Diagnostic]:
    """TS320"""
    for index, value in enumerate(items(mapping((limits.value or {}).get("alerts")).get("notify"))):
        sink = mapping(value)
        if sink["type"] == "webhook" and ("url" in sink) is ("url_env" in sink):
            which = "two addresses" if "url" in sink else "no address"
            yield limits.at(
                "TS320", ["alerts", "notify", index], f"The webhook has {which}.",
                "Give it `url_env:`, the variable of the runner's host that holds it, or a plain `url:`.",
            )  # fmt: skip
