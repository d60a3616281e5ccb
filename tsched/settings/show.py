"""What `tsched config` shows: every resolved value with its source, secrets masked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tsched.model.fleet import Limits
from tsched.model.secrets import MASK, masked
from tsched.model.selector import Selector
from tsched.model.units import format_duration, format_size
from tsched.settings.host import Settings
from tsched.settings.variables import VARIABLES

Shown = str | int | float | bool | None | list[str] | dict[str, int] | dict[str, str]
BUILT_IN = Limits()
_DURATIONS = ("loop_interval", "heartbeat", "max_runtime")


def rows(settings: Settings) -> Sequence[tuple[str, str, str]]:
    """(setting, value as text, source as text) of each setting but the agent limits (they have their own lines)."""
    return [
        (name, _text(name, settings), str(settings.sources[name])) for name in VARIABLES if name != "agent_limits"
    ]


def as_json(
    settings: Settings, *, limits: Limits = BUILT_IN, agent_limits: Mapping[str, int] | None = None
) -> dict[str, Shown]:
    """Every setting by name, TinyScheduler's own keys too. Durations are seconds.

    `loop_interval` and its like are this host's overrides or null; `loop_interval_sec` and its like are in force:
    the override, else the figure of `limits`. `agent_limits`: the agents' limits of an applied fleet, if any;
    the settings' own are laid over them.
    """
    shown: dict[str, Shown] = {name: _plain(name, settings) for name in VARIABLES}
    tasks = settings.tasks or ""
    return shown | {
        "agent_limits": {**(agent_limits or {}), **settings.agent_limits},
        "agent_control_file": str(settings.control_file),
        "mcp_endpoint": masked(tasks.removeprefix("tinytask+")) or None,
        "loop_interval_sec": in_force(settings.loop_interval, limits.loop_interval),
        "heartbeat_interval_sec": in_force(settings.heartbeat, limits.heartbeat),
        "max_runtime_sec": in_force(settings.max_runtime, limits.max_runtime),
        "hostname": settings.hostname,
        "sources": {name: str(source) for name, source in settings.sources.items()},
        "notes": list(settings.notes),
    }


def in_force(override: float | None, figure: float) -> float:
    """The figure that counts: this host's override where there is one."""
    return figure if override is None else override


def _plain(name: str, settings: Settings) -> Shown:
    value = getattr(settings, name)
    if name in ("webhook_secret", "status_token", "serve_token", "tasks_token"):
        return None if value is None else MASK
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Selector):
        return list(value.words())
    if isinstance(value, tuple):
        return list(value)
    return masked(value) if isinstance(value, str) else value


def _text(name: str, settings: Settings) -> str:
    value = _plain(name, settings)
    if name in _DURATIONS:
        return "the fleet's own" if value is None else format_duration(float(str(value)))
    if name == "run_log_max":
        return format_size(settings.run_log_max)
    if name == "tasks" and value is None:
        return "embedded"
    if value is None or value == []:
        return "all" if name == "pools" else "-"
    if isinstance(value, list):
        return ", ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
