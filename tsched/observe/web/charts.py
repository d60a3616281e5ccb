"""Pictures as SVG, drawn from values: how a queue stood over time, how an agent's slots are used. Pure."""

from collections.abc import Sequence
from html import escape

from tsched.model.history import Sample

WIDTH, HEIGHT = 320, 72
_FOOT = 2  # pixels below zero, so that its line is seen
MOST_SLOTS = 12  # drawn one by one


def depth_chart(samples: Sequence[Sample], *, since: float, now: float, label: str) -> str:
    """Waiting tasks as an area and runs as a line, in steps: a queue stands as it does until the next sample."""
    top = max((max(one.idle, one.working) for one in samples), default=0)
    waiting = _steps([(one.time, one.idle) for one in samples], since, now, top)
    working = _steps([(one.time, one.working) for one in samples], since, now, top)
    lines = ""
    if waiting:
        first, last = waiting[0].split(",")[0], waiting[-1].split(",")[0]
        floor = HEIGHT - _FOOT
        lines = (
            f'<polygon class="waiting" points="{first},{floor} {" ".join(waiting)} {last},{floor}"/>'
            f'<polyline class="waiting" points="{" ".join(waiting)}"/>'
            f'<polyline class="working" points="{" ".join(working)}"/>'
        )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}"><title>{escape(label)}</title>'
        f'<line class="floor" x1="0" y1="{HEIGHT - _FOOT}" x2="{WIDTH}" y2="{HEIGHT - _FOOT}"/>{lines}</svg>'
    )


def _steps(values: Sequence[tuple[float, int]], since: float, now: float, top: int) -> list[str]:
    """Corners of the line, from left to right. A sample before the beginning counts from there on."""
    span = max(now - since, 1.0)
    points: list[str] = []
    before = ""
    for time, value in values:
        x = f"{min(1.0, max(0.0, (time - since) / span)) * WIDTH:.1f}"
        y = f"{HEIGHT - _FOOT - value / max(top, 1) * (HEIGHT - _FOOT - 4):.1f}"
        if before and before != y:
            points.append(f"{x},{before}")
        points.append(f"{x},{y}")
        before = y
    if points:
        points.append(f"{WIDTH},{before}")
    return points


def slots(running: int, limit: int) -> str:
    """A square for each slot, filled where it is used; one bar where there are many. Words stand beside it."""
    if max(running, limit) > MOST_SLOTS:
        share = min(1.0, running / max(limit, 1))
        return _picture(120, _bar("free", 120) + _bar("used", round(share * 120)))
    kinds = ["over" if at >= limit else "used" if at < running else "free" for at in range(max(running, limit))]
    squares = [_bar(kind, 10, at * 12) for at, kind in enumerate(kinds)]
    return _picture(12 * len(squares), "".join(squares))


def _picture(width: int, body: str) -> str:
    box = f'viewBox="0 0 {max(width, 1)} 10" width="{width}" height="10"'
    return f'<svg class="slots" {box} aria-hidden="true">{body}</svg>'


def _bar(kind: str, width: int, x: int = 0) -> str:
    return f'<rect class="{kind}" x="{x}" width="{width}" height="10" rx="2"/>'
