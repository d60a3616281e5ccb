"""The live view: everything on one screen, whatever there is; and what it says of ages, bars and shares."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.integration.test_state_passes import sample
from tsched.model.event import Event
from tsched.model.units import iso
from tsched.observe.status import NOTHING_SEEN, AgentStatus, PoolStatus, RunStatus, Status, status
from tsched.observe.top import View, bar, screen, share

NOW = 1_800_000_000.0


@given(st.lists(st.integers(0, 60), max_size=6), st.integers(0, 100))
def test_shares_fill_the_room_and_no_more_than_is_wanted(wanted: list[int], room: int) -> None:
    given = share(wanted, room)
    assert all(rows <= most for rows, most in zip(given, wanted, strict=True))
    least = sum(min(rows, 3) for rows in wanted)
    assert sum(given) == max(least, min(room, sum(wanted)))


def test_nobody_gives_way_below_an_equal_share() -> None:
    assert share([100, 100], 20) == [10, 10]
    assert share([2, 100], 20) == [2, 18]


def busy(number: int) -> Status:
    made = status(fleet=None, lifecycles={}, leases=(), depths=(), report=NOTHING_SEEN, now=NOW)
    agents = [
        AgentStatus(
            name=f"agent{index}", state="draining", limit=1, running=1, revision="r",
            drain={"since": iso(NOW - 60), "deadline": iso(NOW + 90), "on_deadline": "requeue"},
        )
        for index in range(number)
    ]  # fmt: skip
    pools = [
        PoolStatus(
            name=f"p{index}", queue=f"q{index}", suspended=False, running=1, max_running=None, agents=agents[:1]
        )
        for index in range(number)
    ]
    runs = [
        RunStatus(
            run_id=f"r{index}", task_id=str(index), agent="ada", pool="p0", state="running", attempt=1, revision="r",
            executor="local", started_at=iso(NOW - 3700 - index), heartbeat=iso(NOW - 5),
        )
        for index in range(number)
    ]  # fmt: skip
    return {**made, "pools": pools, "runs": runs, "queues": [{"name": "q0", "idle": 4, "blocked": 1, "working": 1}]}


def drawn(view: View, width: int, height: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, height=height, color_system=None).print(screen(view, width=width, height=height))
    return out.getvalue().splitlines()


def view(number: int) -> View:
    return View(
        at=NOW,
        status=busy(number),
        titles={"r0": "mend \x1b[31mthe\n gate"},
        samples={"q0": sample(NOW - 5, "q0", 4, oldest=NOW - 7200)},
        events=[
            Event(time=NOW - 9, kind="run.failed", subject="task/7", message=f"no {index}") for index in range(200)
        ],
    )


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 30), (200, 60)])
@pytest.mark.parametrize("number", [0, 1, 300])
def test_it_fits_the_screen(width: int, height: int, number: int) -> None:
    lines = drawn(view(number), width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


def test_it_says_what_is_there() -> None:
    text = "\n".join(drawn(view(2), 120, 40))
    assert "█" in text
    assert "2h" in text, "the longest wait"
    assert "in 1.5m, then requeue" in text
    assert "1h" in text, "how long a run has been going on"
    assert "mend \\x1b[31mthe\\n gate" in text
    assert "no 199" in text, "the newest event"
    assert "no 0" not in text.split()


def test_bars() -> None:
    assert [bar(*of, 4) for of in ((1, 2), (9, 2), (0, 0), (1, 0))] == ["██··", "████", "····", "████"]
