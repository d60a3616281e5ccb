"""A cgroup (v2) for each run, where this host has them: what is born in one is found there, and killed as a whole.

A group stands below the runner's own, which has to be the runner's to write: root's, or one that systemd delegates.
Where systemd puts the runner into a leaf named `runner` (DelegateSubgroup), the groups stand beside that leaf, and
the kernel lets controllers hold them to limits: it does so only where no process is in the group above.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tsched.executors import processes
from tsched.executors.processes import Process

LEAF = "runner"
CONTROLLERS = ("memory", "pids", "cpu")
_PREFIX = "tsched-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Containment:
    """What this host can do to keep a run together. `base`: where the groups stand, None: there are none here."""

    base: Path | None = None
    controllers: tuple[str, ...] = ()  # that hold a group to limits
    why_not: str = ""


def base_of(mountinfo: str, cgroup: str) -> Path | None:
    """The folder below which a process may have groups, from its /proc/self/mountinfo and /proc/self/cgroup."""
    own = next((line[3:] for line in cgroup.splitlines() if line.startswith("0::/")), None)
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        root, point = fields.split()[3:5]
        if own is None or ".." in own or rest.split()[0] != "cgroup2" or not Path(own).is_relative_to(root):
            continue
        place = Path(point) / Path(own).relative_to(root)
        return place.parent if place.name == LEAF and place != Path(point) else place
    return None


def found() -> Containment:
    """Look, changing nothing."""
    try:
        base = base_of(_read("/proc/self/mountinfo"), _read("/proc/self/cgroup"))
    except (OSError, ValueError, IndexError):
        base = None
    if base is None:
        return Containment(why_not="no cgroup v2 is mounted here")
    if not all(os.access(place, os.W_OK) for place in (base, base / "cgroup.procs")):
        return Containment(why_not=f"{base} is not the runner's to write")
    known, down = (_read(base / name).split() for name in ("cgroup.controllers", "cgroup.subtree_control"))
    free = base.is_mount() or not _read(base / "cgroup.procs").split()
    usable = (name for name in CONTROLLERS if name in down or (free and name in known))
    return Containment(base=base, controllers=tuple(usable))


@cache
def here() -> Containment:
    """As found once in the life of this process: it stays in its group."""
    return found()


@cache
def hand_down() -> None:
    """Once: let the controllers that there are hold the groups of runs to limits, where the kernel allows it."""
    if (base := here().base) is None:
        return
    for name in CONTROLLERS:
        with suppress(OSError):  # not there, or processes in the group
            (base / "cgroup.subtree_control").write_text(f"+{name}")


def place(run_id: str) -> str:
    """The group of a run that is prepared now, "" where there are none."""
    base = here().base
    return "" if base is None else str(base / f"{_PREFIX}{run_id}")


def group_of(spec: object, run_id: str) -> Path | None:
    """The group that a run's record names, None where it has none or the record was tampered with."""
    if not isinstance(spec, str) or not spec:
        return None
    path = Path(spec)
    return path if path.name == f"{_PREFIX}{run_id}" and ".." not in path.parts and path.is_dir() else None


def kill(group: Path) -> None:
    """Kill all that is in a group and below it. A kill takes its time."""
    with suppress(OSError):  # before Linux 5.14
        (group / "cgroup.kill").write_text("1")


def members(group: Path) -> Iterator[Process]:
    """The living processes of a group and of those below it."""
    for folder, _, _ in os.walk(group):
        try:
            pids = _read(f"{folder}/cgroup.procs").split()
        except OSError:
            continue
        for pid in pids:
            if (process := processes.look(int(pid))) is not None:
                yield process


def remove(group: Path) -> None:
    """Remove an empty group with those below it."""
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            os.rmdir(folder)


def _read(path: str | Path) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")
