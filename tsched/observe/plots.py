"""Plots as inline SVG that stretches to its room. Labels are HTML around it, so they keep their size on a phone."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from tsched.model.run import Outcome
from tsched.model.units import about
from tsched.schedule.timeline import Bar, Bin

HIGH = 100.0  # units of every plot's height
ORDER = (Outcome.COMPLETE, Outcome.UNPROVEN, Outcome.FAILED, Outcome.INTERRUPTED, Outcome.CANCELLED)  # bottom up


def plot(shapes: Iterable[str], *, wide: float, top: float, labels: Sequence[str], says: str) -> str:
    """A plot with its scale. `top`: what its height stands for; `labels`: below, spread; `says`: for the blind."""
    below = "".join(f"<span>{escape(label)}</span>" for label in labels)
    return (
        f'<div class="plot"><div class="scale"><span>{_figure(top)}</span><span>{_figure(top / 2)}</span>'
        f'<span>0</span></div><div class="field">'
        f'<svg viewBox="0 0 {wide:g} {HIGH:g}" preserveAspectRatio="none" role="img" aria-label="{escape(says)}">'
        f"{''.join(shapes)}</svg></div>"
        f'<div class="labels">{below}</div></div>'
    )


def stacked(bars: Sequence[Bar], labels: Sequence[str], *, times: Sequence[str]) -> str:
    """Runs by outcome, a bar each. `times`: what each bar is called where one points at it."""
    top = nice(max((bar.total for bar in bars), default=0))
    shapes = []
    for at, (bar, time) in enumerate(zip(bars, times, strict=True)):
        if not bar.total:
            continue
        parts = [(one, bar.outcomes.get(one, 0)) for one in ORDER if bar.outcomes.get(one, 0)]
        title = f"{time}: " + ", ".join(f"{number} {outcome}" for outcome, number in parts)
        shapes.append(f"<g><title>{escape(title)}</title>{_stack(at, parts, top)}</g>")
    return plot(shapes, wide=len(bars), top=top, labels=labels, says="Runs ended over time, by outcome")


def _stack(at: int, parts: Sequence[tuple[Outcome, int]], top: float) -> str:
    drawn, height = [], 0.0
    for outcome, number in parts:
        part = number / top * HIGH
        height += part
        drawn.append(_rect(at, HIGH - height, part, str(outcome)))
    return "".join(drawn)


def histogram(bins: Sequence[Bin]) -> str:
    """How many runs took so long."""
    top = nice(max((one.runs for one in bins), default=0))
    shapes = [
        f"<g><title>{escape(f'{_span(one)}: {one.runs}')}</title>"
        f"{_rect(at, HIGH - one.runs / top * HIGH, one.runs / top * HIGH, 'bin')}</g>"
        for at, one in enumerate(bins)
    ]
    labels = [about(one.low) if one.low else "0" for one in bins]
    return plot(shapes, wide=len(bins), top=top, labels=labels, says="Runs by duration")


def area(series: Sequence[float | None], labels: Sequence[str], *, says: str) -> str:
    """A quantity over time, as a filled line; gaps where it is not known."""
    top = nice(max((one for one in series if one is not None), default=0.0))
    shapes = []
    for known, group in groupby(enumerate(series), key=lambda pair: pair[1] is not None):
        points = [(at, HIGH - (value or 0.0) / top * HIGH) for at, value in group]
        if not known:
            continue
        start, first = points[0]
        steps = " ".join(f"V{y:.2f} H{at + 1}" for at, y in points)
        shapes.append(f'<path class="area" d="M{start} {HIGH:g} {steps} V{HIGH:g} Z"/>')
        shapes.append(f'<path class="line" d="M{start} {first:.2f} {steps}"/>')
    return plot(shapes, wide=len(series), top=top, labels=labels, says=says)


def nice(value: float) -> float:
    """The next even figure (1 to 6, 8, 10, 20, 30 …) that is not below it: where a scale ends."""
    size = 1.0
    while size * 10 < value:
        size *= 10
    return next(size * step for step in (1, 2, 3, 4, 5, 6, 8, 10) if size * step >= value)


def _rect(at: int, y: float, height: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{at + 0.1:g}" y="{y:.2f}" width="0.8" height="{height:.2f}"/>'


def _figure(value: float) -> str:
    return f"{value:g}"


def _span(one: Bin) -> str:
    return f"{about(one.low)} and more" if math.isinf(one.high) else f"{about(one.low)} to {about(one.high)}"
