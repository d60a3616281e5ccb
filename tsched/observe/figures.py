"""Figures of work as people read them, and as programs do."""

from collections.abc import Sequence

from tsched.model.run import Outcome, Usage
from tsched.model.units import about, iso
from tsched.schedule.rates import Rate
from tsched.schedule.timeline import Window
from tsched.schedule.workload import Spread, Summary

FEW = 5  # runs below which a rate is not given
_BARS = "▁▂▃▄▅▆▇█"


def rate(one: Rate) -> str:
    """`8% (1 of 12)`; below FEW runs the counts alone."""
    if one.value is None:
        return "-"
    if one.runs < FEW:
        return f"{one.successes} of {one.runs}, too few to tell"
    return f"{one.value:.0%} ({one.successes} of {one.runs})"


def seconds(value: float | None) -> str:
    """`3.5m`; `-` where it is not known."""
    return "-" if value is None else about(value)


def number(value: float | None) -> str:
    """`2.5`; `-` where it is not known."""
    return "-" if value is None else f"{value:.1f}".removesuffix(".0")


def tokens(usage: Usage | None) -> str:
    return "-" if usage is None else f"{usage.total_tokens:,}"


def compact(value: float) -> str:
    """`950`, `1.2k`, `228M`: where there is little room."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


def cost(usage: Usage | None) -> str:
    return "-" if usage is None or usage.cost_usd is None else f"${usage.cost_usd:,.2f}"


def sparkline(values: Sequence[float | None]) -> str:
    """A character for each value, as high as it is beside the highest; a blank for what is not known."""
    top = max((one for one in values if one is not None), default=0.0)
    return "".join(" " if one is None else _BARS[_height(one, top)] for one in values)


def _height(value: float, top: float) -> int:
    """Something is never drawn as nothing."""
    if value <= 0 or top <= 0:
        return 0
    return max(1, round(value / top * (len(_BARS) - 1)))


def span(window: Window) -> str:
    """The window in words."""
    cut = "" if window.asked is None else ", all that is known"
    return f"the last {about(window.seconds)}{cut}"


def window_object(window: Window) -> dict[str, str]:
    """`since`: where it begins, no earlier than anything is known; `asked_since`: where it was to begin."""
    asked = window.since if window.asked is None else window.asked
    return {"asked_since": iso(asked), "since": iso(window.since), "until": iso(window.until)}


def spread_object(one: Spread | None) -> dict[str, float] | None:
    if one is None:
        return None
    values = {"mean": one.mean, "p50": one.p50, "p95": one.p95}
    return {"number": one.number, **{name: round(value, 3) for name, value in values.items()}}


def rate_object(one: Rate) -> dict[str, object]:
    """A rate with its 95 % interval; null where there were no runs."""
    value = one.value
    return {
        "number": one.successes,
        "of": one.runs,
        "rate": None if value is None else round(value, 4),
        "interval": None if value is None else [round(one.interval.low, 4), round(one.interval.high, 4)],
    }


def summary_object(one: Summary, *, failures: bool = True) -> dict[str, object]:
    """Some finished runs together. `failures`: whether their kinds are listed too."""
    kinds = [
        {"reason": kind.reason, "exit_code": kind.exit_code, "pattern": kind.pattern, "runs": kind.runs,
         "example": kind.example}
        for kind in one.failures
    ]  # fmt: skip
    return {
        "tasks": one.tasks,
        "runs": one.runs,
        "outcomes": {str(outcome): one.outcomes.get(outcome, 0) for outcome in Outcome},
        "failed": rate_object(one.failed),
        "duration_seconds": spread_object(one.durations),
        "wait_seconds": spread_object(one.waits),
        "tokens": None if one.usage is None else one.usage.total_tokens,
        "cost_usd": None if one.usage is None else one.usage.cost_usd,
        **({"failures": kinds} if failures else {}),
    }
