"""Charts, slots and times of the status page, from values."""

import re

import pytest

from tsched.model.history import Sample
from tsched.observe.objects import thinned
from tsched.observe.web.charts import HEIGHT, WIDTH, depth_chart, slots
from tsched.observe.web.page import ago

NOW = 1000.0


def sample(time: float, idle: int, working: int = 0) -> Sample:
    return Sample(time=time, queue="dev", idle=idle, blocked=0, working=working)


def line(text: str, kind: str) -> list[tuple[float, float]]:
    """The corners of a line in a chart."""
    found = re.search(rf'<polyline class="{kind}" points="([^"]*)"', text)
    assert found is not None
    return [(float(x), float(y)) for x, y in (one.split(",") for one in found[1].split())]


def test_a_queue_stands_as_it_does_until_the_next_sample() -> None:
    drawn = depth_chart([sample(900, 0), sample(950, 4), sample(980, 2, 1)], since=900, now=NOW, label="x")
    (x0, y0), (x1, y1), (x2, y2), (x3, y3), (x4, y4), (x5, y5) = line(drawn, "waiting")
    assert (x0, x1, x2, x3, x4, x5) == (0, WIDTH / 2, WIDTH / 2, WIDTH * 0.8, WIDTH * 0.8, WIDTH)
    assert (y0, y1) == (HEIGHT - 2, HEIGHT - 2)
    assert (y2, y3) == (4, 4), "the highest is near the top"
    assert (y4, y5) == (37, 37), "half as high"
    assert line(drawn, "working")[-1] == (WIDTH, 53.5), "both lines have one scale"


def test_what_stood_before_the_window_counts_from_its_beginning() -> None:
    assert line(depth_chart([sample(100, 3)], since=900, now=NOW, label="x"), "waiting") == [(0, 4), (WIDTH, 4)]


def test_a_chart_without_samples_is_empty_and_its_label_is_text() -> None:
    drawn = depth_chart([], since=900, now=NOW, label='a "<b>"')
    assert "<poly" not in drawn
    assert 'aria-label="a &quot;&lt;b&gt;&quot;"' in drawn


@pytest.mark.parametrize(
    ("running", "limit", "kinds"),
    [
        (0, 0, []), (1, 3, ["used", "free", "free"]), (3, 3, ["used"] * 3), (3, 1, ["used", "over", "over"]),
        (5, 100, ["free", "used"]),
    ],
)  # fmt: skip
def test_slots_are_squares_or_one_bar(running: int, limit: int, kinds: list[str]) -> None:
    assert re.findall(r'<rect class="(\w+)"', slots(running, limit)) == kinds


def test_thinning_keeps_peaks_and_the_end() -> None:
    many = [sample(float(at), 99 if at == 501 else at % 7) for at in range(1000)]
    few = thinned(many, 50)
    assert len(few) <= 50
    assert max(one.idle for one in few) == 99
    assert few[-1] == many[-1]
    assert [one.time for one in few] == sorted(one.time for one in few)
    assert thinned(many[:50], 50) == many[:50]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "now"), (-0.4, "now"), (-59, "59 s ago"), (-60, "1 min ago"), (-7200, "2 h ago"), (-86_400, "24 h ago"),
     (-200_000, "2 d ago"), (3600, "in 1 h")],
)  # fmt: skip
def test_times_are_told_by_their_largest_unit(seconds: float, words: str) -> None:
    assert ago(seconds) == words
