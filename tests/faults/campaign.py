"""Campaigns of faults: a kill at every fail-point, and kills at random."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.faults import names
from tests.faults.acts import ACTS, begin, renew
from tests.faults.machine import Machine, kill, processes
from tests.faults.nursery import Nursery
from tests.faults.record import Report, examined

BUSY = 8  # tasks that wait or run at any time
PAUSE = 0.4  # seconds at most between two kills of a storm
CALM = 0.4  # of a storm's kills come only after one more task has ended: work goes on under them
AT_RUNS = 0.4  # of a storm's kills, where there is a run
LATE = "_launch > executors.local._spawn: shim started"  # struck a second time, the daemon coming back late
TRIES = 3  # to reach a point that not every playing of its act passes


@contextmanager
def machine(root: Path, nursery: Nursery, *, attempts: int = 3, served: bool = False) -> Iterator[Machine]:
    """A machine with the fleet of all acts; whatever is left of it is killed at the end."""
    made = Machine(root, nursery, attempts=attempts, served=served)
    try:
        begin(made)
        yield made
    finally:
        made.close()


def points(root: Path, nursery: Nursery, name: str, chosen: Sequence[str], *, served: bool = False) -> Report:
    """Play an act once for each of the points: a kill there, and on to the act's end.

    `chosen`: the points; none: all that the act passes.
    """
    act = ACTS[name]
    with machine(root, nursery, served=served) as one:
        if name == "reboot" and not one.can_reboot:
            return Report(faults=0, tasks=0, unreached=["reboot: this machine gives no process another boot id"])
        chosen = chosen or passed(one, act)
        missed = [point for point in chosen if not any(struck(one, act, point) for _ in range(TRIES))]
        late = [point for point in chosen if point.endswith(LATE) and point not in missed]
        one.late = True  # else a shim that has just been started always finds that its run was recovered
        struck_late = sum(struck(one, act, point) for point in late)
        one.late = False
        one.start()
        found = examined(one, faults=len(chosen) - len(missed) + struck_late)
    return found + Report(faults=0, tasks=0, unreached=[f"{name}: {point}" for point in missed])


def births(root: Path, nursery: Nursery, chosen: Sequence[str], *, served: bool = False) -> Report:
    """The same on a machine that has never run tsched, made anew each time."""
    found = Report(faults=0, tasks=0)
    with machine(root, nursery, served=served) as one:
        for point in chosen or passed(one, ACTS["work"]):
            one.renew()
            reached = struck(one, ACTS["work"], point)
            one.start()
            found += examined(one, faults=int(reached))
            found += Report(faults=0, tasks=0, unreached=[] if reached else [f"births: {point}"])
    return found


def passed(one: Machine, act: Callable[[Machine], None]) -> Sequence[str]:
    """The points that an act passes, in order."""
    one.start("*")
    act(one)
    one.stop()
    return traced(one.hit)


def struck(one: Machine, act: Callable[[Machine], None], point: str) -> bool:
    """Play an act with a kill at a point, and at a second one where it names two. Whether they were reached."""
    kills = point.split(names.THEN)
    one.start(*kills)
    act(one)
    one.stop()
    files = (one.hit, one.then)[: len(kills)]
    reached = all(file.exists() for file in files)
    for file in files:
        file.unlink(missing_ok=True)
    return reached


def recovered(one: Machine, act: Callable[[Machine], None], point: str) -> Sequence[str]:
    """The points that a runner passes which comes back after a kill at a point, in order."""
    one.start(point, "*")
    act(one)
    one.stop()
    one.hit.unlink(missing_ok=True)
    return traced(one.then) if one.then.exists() else []


def traced(file: Path) -> Sequence[str]:
    """The points in a trace, in order, each once. The file goes."""
    found = list(dict.fromkeys(file.read_text().splitlines()))
    file.unlink()
    return found


def named(root: Path, nursery: Nursery, *, served: bool = False, later: bool = False) -> Iterator[tuple[str, str]]:
    """Every point with the act that first passes it: those of a machine's first start, then act by act.

    `later`: also those steps that only a runner takes which comes back after a kill.
    """
    known: set[str] = set()
    firsts: dict[str, Sequence[str]] = {}
    with machine(root, nursery, served=served) as one:
        one.renew()
        births_ = passed(one, ACTS["work"])
        again = {name: passed(one, act) for name, act in ACTS.items() if name != "reboot" or one.can_reboot}
        usual = {point for found in again.values() for point in found}
        yield from (("births", point) for point in births_ if point not in usual)
        for name, found in again.items():
            fresh: Sequence[str] = [point for point in found if point not in known]
            yield from ((name, point) for point in fresh)
            known |= set(found)
            firsts[name] = fresh
        if later:
            yield from second(one, firsts, {step(point) for point in {*births_, *known}})


def second(one: Machine, firsts: Mapping[str, Sequence[str]], steps: set[str]) -> Iterator[tuple[str, str]]:
    """Points of a recovering runner, of other steps than those, each behind its first kill, with the act."""
    for name, fresh in firsts.items():
        for first in fresh:
            for point in recovered(one, ACTS[name], first):
                if step(point) not in steps:
                    steps.add(step(point))
                    yield name, f"{first}{names.THEN}{point}"


def step(point: str) -> str:
    """Without the part of a pass that wants it: which one comes to it first is left to chance."""
    return point.rpartition(" > ")[2]


def storm(root: Path, nursery: Nursery, *, kills: int, seed: int, served: bool = False) -> Report:
    """Kill the daemon, shims, agents or the whole machine at random moments, while tasks keep coming."""
    chance = random.Random(seed)
    with machine(root, nursery, attempts=100, served=served) as one:
        one.start()
        for number in range(kills):
            while under_way(one) < BUSY:
                one.add(chance.choice(("work", "work", "fork")), queue=chance.choice(("dev", "dev", "tree")))
            if number % 25 == 24:
                renew(one)
            least = len(one.tasks) - under_way(one) + 1 if chance.random() < CALM else 0
            one.until(partial(worked, one, least), "a task ends between two kills")
            time.sleep(chance.uniform(0.0, PAUSE))
            strike(one, chance, number)
        renew(one)
        one.until_ended(*one.tasks)
        return examined(one, faults=kills)


def under_way(one: Machine) -> int:
    """How many of its tasks wait or run."""
    return sum(queue.idle + queue.working for queue in one.queue.depths())


def worked(one: Machine, least: int) -> bool:
    """Whether so many of its tasks have ended."""
    return not least or len(one.tasks) - under_way(one) >= least


def strike(one: Machine, chance: random.Random, number: int) -> None:
    """One kill: mostly of the daemon; each fortieth of everything."""
    if number % 40 == 39 and one.can_reboot:
        one.reboot()
        return
    of_runs = processes(one.world.root) if chance.random() < AT_RUNS else ()
    if of_runs:
        kill(chance.choice(of_runs))
    else:
        one.kill()
