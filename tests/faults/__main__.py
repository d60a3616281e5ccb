"""`make faults`: every fail-point and storms of kills; a table, and exit status 1 where a promise was broken."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from tests.faults import campaign, names
from tests.faults.nursery import Nursery
from tests.faults.record import Report

Part = tuple[str, Callable[[Path, Nursery], Report]]


def main() -> int:
    """Play the campaigns; the short form strikes each point once."""
    parser = argparse.ArgumentParser(prog="make faults")
    parser.add_argument("--long", action="store_true", help="every point in every act, and storms of 1,000 kills")
    parser.add_argument("--seed", type=int, default=6, help="of the storms")
    parser.add_argument("--list", action="store_true", help="write down the names of the points instead")
    parser.add_argument("--only", default="", help="parts whose names begin so")
    parser.add_argument(
        "--jobs", type=int, default=4, metavar="N", help="campaigns at once: half of their time they wait"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tsched-faults-") as folder, ExitStack() as started:
        nurseries: SimpleQueue[Nursery] = SimpleQueue()
        for number in range(1 if asked.list else asked.jobs):
            root = Path(folder) / f"nursery{number}"
            root.mkdir()
            nurseries.put(Nursery(root, {"PATH": os.environ["PATH"], "HOME": str(root), "LANG": "C.UTF-8"}))
            started.callback(lambda: nurseries.get().close())
        if asked.list:
            write_names(Path(folder), nurseries)
            return 0
        parts = [part for part in campaigns(long=asked.long, seed=asked.seed) if part[0].startswith(asked.only)]
        return shown(parts, Path(folder), nurseries, jobs=asked.jobs)


def campaigns(*, long: bool, seed: int) -> Iterator[Part]:
    """Their names, and how each is played."""
    for served in (False, True):  # what takes longest first
        where = "served" if served else "embedded"
        yield f"{where}: storm", partial(campaign.storm, kills=1000 if long else 60, seed=seed, served=served)
    for served in (False, True):
        where = "served" if served else "embedded"
        for act, chosen in names.listed(served=served).items():
            points = () if long else chosen
            if act == "births":
                yield f"{where}: births", partial(campaign.births, chosen=points, served=served)
            else:
                yield f"{where}: {act}", partial(campaign.points, name=act, chosen=points, served=served)


def shown(parts: Sequence[Part], root: Path, nurseries: "SimpleQueue[Nursery]", *, jobs: int) -> int:
    """Play them and print a line each, as they end."""
    whole = Report(faults=0, tasks=0)
    form = "{:<22}{:>8}{:>8}{:>8}{:>12}{:>8}{:>9}"
    print(form.format("campaign", "faults", "tasks", "lost", "duplicated", "leaked", "seconds"))

    def played(part: Part) -> tuple[str, Report, float]:
        began, nursery = time.monotonic(), nurseries.get()
        try:
            found = part[1](root / part[0].replace(": ", "-"), nursery)
        except AssertionError as error:  # something never came to its end
            found = Report(faults=0, tasks=0, lost=[f"{part[0]}: {error}"])
        finally:
            nurseries.put(nursery)
        return part[0], found, time.monotonic() - began

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for ended in as_completed([pool.submit(played, part) for part in parts]):
            name, found, seconds = ended.result()
            whole += found
            figures = (found.faults, found.tasks, len(found.lost), len(found.duplicated), len(found.leaked))
            print(form.format(name, *figures, f"{seconds:.0f}"), flush=True)
    for kind, lines in (("lost", whole.lost), ("duplicated", whole.duplicated), ("leaked", whole.leaked)):
        print("".join(f"{kind}: {line}\n" for line in lines), end="")
    print("".join(f"not passed this time: {line}\n" for line in whole.unreached), end="")
    print(whole)
    return 0 if whole.sound else 1


def write_names(root: Path, nurseries: "SimpleQueue[Nursery]") -> None:
    """Bring points.txt and points_served.txt up to date."""
    known: set[str] = set()
    nursery = nurseries.get()
    nurseries.put(nursery)  # it is closed at the end
    for served in (False, True):
        found = list(campaign.named(root / str(served), nursery, served=served, later=not served))
        lines = "".join(f"{act}\t{point}\n" for act, point in found if point not in known)
        names.file(served=served).write_text(lines, encoding="utf-8")
        known |= {point for _, point in found}


if __name__ == "__main__":
    sys.exit(main())
