"""Changes in words: one line each, for tables, events and comments."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from enum import StrEnum
from typing import assert_never

from tsched.model.alert import Alerts
from tsched.model.change import AgentChange, Change, LimitsChange, PoolChange, RecipeChange, RuntimeChange, keyed
from tsched.model.fleet import Agent, DrainPolicy, Pool, Retry, Suspend, Workspace
from tsched.model.units import format_duration, iso

DURATIONS = frozenset({"max_runtime", "stall", "loop_interval", "heartbeat", "stop_grace", "backoff", "max_backoff"})


def describe(change: Change) -> str:
    """What changed, such as `limit 2 → 5, runtime goose → codex`."""
    match change:
        case AgentChange(old=None, new=Agent() as agent):
            return f"added to pool {change.new_pool}: limit {agent.limit}, runtime {agent.runtime}"
        case AgentChange(new=None):
            return f"removed from pool {change.old_pool}"
        case AgentChange():
            return ", ".join(_agent(change))
        case PoolChange(old=None, new=Pool() as pool):
            return f"added, queue {pool.queue}"
        case PoolChange(new=None):
            return "removed"
        case PoolChange(old=Pool() as old, new=Pool() as new):
            return ", ".join(_fields(old, new))
        case LimitsChange(key="alerts"):
            return f"alerts: {_alerts(change.old.alerts, change.new.alerts)}"
        case LimitsChange():
            before, after = getattr(change.old, change.key), getattr(change.new, change.key)
            return f"{change.key} {value(change.key, before)} → {value(change.key, after)}"
        case RuntimeChange() | RecipeChange():
            return change.kind.partition(".")[2] if change.old is None or change.new is None else "content changed"
        case PoolChange():
            return ""
    assert_never(change)


def _agent(change: AgentChange) -> Iterator[str]:
    if change.moved:
        same = change.old_pool == change.new_pool
        yield (
            f"queue {change.old_queue} → {change.new_queue}"
            if same
            else f"pool {change.old_pool} → {change.new_pool}"
        )
    if change.old is not None and change.new is not None:
        yield from _fields(change.old, change.new)


def _fields(old: Agent | Pool, new: Agent | Pool) -> Iterator[str]:
    for key in (field.name for field in fields(old) if field.name != "agents"):
        before, after = getattr(old, key), getattr(new, key)
        if before != after:
            yield f"{key} {value(key, before)} → {value(key, after)}"


def _alerts(old: Alerts, new: Alerts) -> str:
    """What changed in the rules and in who is told: `+deep, -gone, errors changed`."""
    delta = keyed({rule.name: rule for rule in old.rules}, {rule.name: rule for rule in new.rules})
    told = (old.webhooks, old.commands, old.log) != (new.webhooks, new.commands, new.log)
    parts = [*(f"+{name}" for name in delta.added), *(f"-{name}" for name in delta.removed)]
    parts += [f"{name} changed" for name in delta.changed]
    return ", ".join([*parts, *(["who is told"] if told else [])])


def _digest(text: str) -> str:
    import hashlib  # it loads OpenSSL, and few commands need it

    return hashlib.sha256(text.encode()).hexdigest()[:6]


def value(key: str, given: object) -> str:
    """One setting's value as a person writes it."""
    match given:
        case None:
            return "none"
        case DrainPolicy():
            return f"{format_duration(given.deadline)}/{given.on_deadline}"
        case Retry():
            return f"{given.attempts}/{format_duration(given.backoff)}/{format_duration(given.max_backoff)}"
        case Suspend():
            return "on" + (f" until {iso(given.until)}" if given.until is not None else "")
        case Mapping() if key == "labels":
            return ",".join(f"{name}={one}" for name, one in given.items()) or "none"
        case Workspace():
            hooks = (f", {name} {_digest(script)}" for name, script in given.hooks.scripts().items())
            return f"{given.repo}@{given.ref}, keep {given.keep}{''.join(hooks)}"
        case StrEnum():
            return str(given)
        case float() if key in DURATIONS:
            return format_duration(given)
        case str() if key == "recipe":
            return given.removeprefix("recipes/")
        case _:
            return str(given)
