"""kill -9 at every fail-point, and at random: no task is lost or run twice at once, nothing is left over."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import campaign, names
from tests.faults.nursery import Nursery
from tests.faults.record import Report, contradictions
from tsched.model.run import ExitReason, RunExit

EMBEDDED, SERVED = names.listed(), names.listed(served=True)
PLAYED = [(act, served) for served, found in ((False, EMBEDDED), (True, SERVED)) for act in found]


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    root = tmp_path_factory.mktemp("nursery")
    made = Nursery(root, {"PATH": os.environ["PATH"], "HOME": str(root), "LANG": "C.UTF-8"})
    yield made
    made.close()


@pytest.mark.parametrize(("act", "served"), PLAYED)
def test_a_kill_at_each_point_breaks_no_promise(act: str, served: bool, tmp_path: Path, nursery: Nursery) -> None:
    chosen = (SERVED if served else EMBEDDED)[act]
    if act == "births":
        found = campaign.births(tmp_path / "machine", nursery, chosen, served=served)
    else:
        found = campaign.points(tmp_path / "machine", nursery, act, chosen, served=served)
    if act == "reboot" and not nursery.boot_id:
        pytest.skip("this machine gives no process another boot id: run as root")
    assert len(found.unreached) <= len(chosen) // 4, (
        "other names now? `python -m tests.faults --list` writes them down"
    )
    assert_sound(found)


@pytest.mark.parametrize("served", [False, True], ids=["embedded", "served"])
def test_a_storm_of_kills_breaks_no_promise(served: bool, tmp_path: Path, nursery: Nursery) -> None:
    assert_sound(campaign.storm(tmp_path / "machine", nursery, kills=40, seed=6, served=served))


def test_every_point_is_written_down(tmp_path: Path, nursery: Nursery) -> None:
    known = {campaign.step(point) for found in EMBEDDED.values() for point in found}
    passed = {campaign.step(point) for _, point in campaign.named(tmp_path / "machine", nursery)}
    assert not passed - known, "new ones: `python -m tests.faults --list` writes them down"


DONE = RunExit(run_id="r", reason=ExitReason.EXITED, started=True, exit_code=0, ended_at=1.0)
CUT = RunExit(run_id="r", reason=ExitReason.SHIM_DIED, started=True, ended_at=1.0)
NEVER = RunExit(run_id="r", reason=ExitReason.NOT_STARTED, started=False, ended_at=1.0)


@pytest.mark.parametrize(
    ("journal", "exits", "lost", "twice"),
    [
        ("start 1 a,end 1 a", {"a": DONE}, 0, 0),
        ("start 1 a,end 1 a,start 1 b,end 1 b", {"a": CUT, "b": DONE}, 0, 0),  # its shim died before it could tell
        ("start 1 a,end 1 a,start 1 b,end 1 b", {"a": DONE, "b": DONE}, 0, 1),  # done, and done again
        ("start 1 a,start 1 a,end 1 a", {"a": DONE}, 0, 1),
        ("start 1 a,end 1 a", {}, 1, 0),
        ("start 1 a,end 1 a", {"a": NEVER}, 1, 0),
        ("overlap 1 a,start 1 a,end 1 a", {"a": DONE}, 0, 1),
    ],
)
def test_what_agents_saw_is_held_against_the_history(
    journal: str, exits: dict[str, RunExit], lost: int, twice: int
) -> None:
    assert tuple(map(len, contradictions(journal.split(","), exits))) == (lost, twice)


def assert_sound(found: Report) -> None:
    assert (found.lost, found.duplicated, found.leaked) == ([], [], []), found
