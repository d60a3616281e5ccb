"""Leases: `running/task_<id>.json`, written so that no crash tears one, with a link that names the agent."""

import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tsched.failpoint import failpoint
from tsched.model.errors import ConfigurationError
from tsched.model.records import dataclass
from tsched.model.run import Lease, LeaseState
from tsched.model.units import LAST, iso
from tsched.stamp import Listing, Stamp, settled, stamp
from tsched.state.folder import sync_folder, write_durably

if TYPE_CHECKING:
    from tsched.notices import Notices

_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_AGENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{0,64}")  # none in TinyScheduler's leases
_HALF_WRITTEN = re.compile(r"\.task_([A-Za-z0-9_-]{1,64})(\.json|\.shim)\.tmp")  # by a runner, by a shim
_NAME = re.compile(r"task_([A-Za-z0-9_-]{1,64})\.json")
_MOST_BYTES = 1 << 20
# What TinyScheduler's leases lack. Without a run id a lease belongs to no run of ours.
_ABSENT: Mapping[str, object] = {
    "state": LeaseState.RUNNING, "run_id": "", "attempt": 1, "revision": "", "pool": "", "queue": "", "executor": "",
}  # fmt: skip


def task_named(name: str) -> str:
    """The task that a lease is for, by its file's name."""
    return name.removeprefix("task_").removesuffix(".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseScan:
    """Every readable lease by task id (heartbeat from the file's mtime), and the names of the unreadable ones."""

    leases: Mapping[str, Lease]
    unreadable: tuple[str, ...] = ()

    @property
    def tasks(self) -> frozenset[str]:
        """The tasks that they name, those of unreadable ones by their file's name."""
        return frozenset(self.leases.keys() | {task_named(name) for name in self.unreadable})


class Leases:
    """The folder of leases. The runner writes a lease as `claiming`; from then on the run's shim alone does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scan = LeaseScan(leases={})  # the newest, and by name what it was read from
        self._read_from: dict[str, tuple[Stamp, Lease]] = {}
        self._listing = Listing(folder)
        self._notices: Notices | None = None  # from the second scan on, where the kernel can tell
        self._scanned = False
        self._mended: tuple[Stamp | None, Mapping[str, Lease]] = (None, {})  # the folder, and what links are for
        self._decoder = msgspec.json.Decoder(dict[str, object])

    def path(self, task_id: str) -> Path:
        """Where a task's lease is. Raises ConfigurationError for an id that can't be part of a file name."""
        if not _TASK_ID.fullmatch(task_id):
            raise ConfigurationError(f"task id {task_id!r} can't be used: only letters, digits, _ and -, at most 64")
        return self._folder / f"task_{task_id}.json"

    def link(self, lease: Lease) -> Path:
        """The link that lets `ls state/running | grep -c vaela` count."""
        return self._folder / f"agent_{lease.agent}.task_{lease.task_id}"

    def write(self, lease: Lease) -> None:
        """Write a lease durably: temp file, fsync, rename, folder fsync.

        Raises ConfigurationError for a task id or agent that can't be part of a file name, OSError from the disk.
        """
        if not _AGENT.fullmatch(lease.agent):
            raise ConfigurationError(f"agent {lease.agent!r} can't be used: only letters, digits, ., _ and -")
        text = msgspec.json.format(msgspec.json.encode(lease), indent=2).decode()
        write_durably(self.path(lease.task_id), text + "\n")

    def read(self, task_id: str) -> Lease | None:
        """One lease; None where there is none or it can't be read."""
        return self._read(self.path(task_id), task_id)

    def read_all(self) -> LeaseScan:
        """Every lease there is. Never raises for what is in a file; no folder has no leases.

        A file that is as it was is not read again, and where all are, the answer is the same object.
        """
        leases: dict[str, Lease] = {}
        unreadable: list[str] = []
        read_from: dict[str, tuple[Stamp, Lease]] = {}
        for name in sorted(name for name in self._listing.names() if name.startswith("task_")):
            path = f"{self._folder}/{name}"
            known = self._read_from.get(name)
            if known is not None and stamp(path) == known[0]:
                read_from[name] = known
                leases[known[1].task_id] = known[1]
            elif match := _NAME.fullmatch(name):
                as_it_was, lease = settled(path), self._read(path, match[1])
                if lease is not None:
                    leases[lease.task_id] = lease
                    if as_it_was is not None:
                        read_from[name] = (as_it_was, lease)
                elif os.path.lexists(path):
                    unreadable.append(name)
        self._read_from = read_from
        before = self._scan
        same = len(leases) == len(before.leases) and all(
            before.leases.get(task) is one for task, one in leases.items()
        )
        if not same or before.unreadable != tuple(unreadable):
            self._scan = LeaseScan(leases=leases, unreadable=tuple(unreadable))
        return self._scan

    def scan(self) -> LeaseScan:
        """As `read_all`, for who asks in each pass: a lease that nobody wrote to since is not looked at again.

        A heartbeat writes nothing, so those of leases that are otherwise as they were may be old ones.
        """
        told = self._told()
        if told is None:
            return self.read_all()
        names = {name for name in told if name.startswith("task_")} | set(self._scan.unreadable)
        if names:
            found = self._with(names)
            self._scan = self._scan if found == self._scan else found
        return self._scan

    def _told(self) -> frozenset[str] | None:
        """What in the folder was written to since the last call; None where all has to be looked at."""
        told = self._notices.taken() if self._notices is not None else None
        if told is None:
            self._notices = None
            if self._scanned:  # who scans once needs no watch
                from tsched.notices import Notices  # with ctypes

                with suppress(OSError):
                    self._notices = Notices(self._folder)
            self._scanned = True
        return told

    def _with(self, names: Collection[str]) -> LeaseScan:
        """The newest scan, those names looked at again."""
        leases, unreadable = dict(self._scan.leases), set(self._scan.unreadable) - set(names)
        for name in names:
            self._read_from.pop(name, None)
            if match := _NAME.fullmatch(name):
                lease = self._read(self._folder / name, match[1])
                if lease is not None:
                    leases[lease.task_id] = lease
                    continue
                leases.pop(match[1], None)
                if os.path.lexists(self._folder / name):
                    unreadable.add(name)
        return LeaseScan(leases=leases, unreadable=tuple(sorted(unreadable)))

    def _read(self, path: Path | str, task_id: str) -> Lease | None:
        """None also for what is no regular file, or names another task, or an agent or a run that is no file name."""
        try:
            # Without O_NONBLOCK a named pipe in the place of a lease would stop the runner for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            stat = os.fstat(descriptor)
            fields = self._decoder.decode(os.read(descriptor, min(stat.st_size, _MOST_BYTES)))
            lease = msgspec.convert({**_ABSENT, **fields}, Lease)
        except (msgspec.DecodeError, UnicodeDecodeError, OSError):
            return None
        finally:
            os.close(descriptor)
        if lease.task_id != task_id or not _AGENT.fullmatch(lease.agent) or not _RUN_ID.fullmatch(lease.run_id):
            return None
        with suppress(ValueError, OverflowError):
            if stat.st_mtime < LAST:  # else no calendar has it: the written one must do
                lease = replace(lease, heartbeat=iso(stat.st_mtime))
        return lease

    def remove(self, task_id: str, run_id: str | None, *, lasting: bool = True) -> None:
        """Remove a run's lease, its link first. None: whatever is there. Another run's lease is left alone.

        Not `lasting`: for many at once, until `sync`; a power cut may bring it back. One that can't be read goes too:
        no task is matched while such a file names it, so it is no other run's.
        """
        path = self.path(task_id)
        lease = self._read(path, task_id)
        if run_id is not None and lease is not None and lease.run_id != run_id:
            return
        links = self._folder.glob(f"agent_*.task_{task_id}") if lease is None else (self.link(lease),)
        for link in links:  # of another name than its own it is nobody's: the pass's end clears it away
            failpoint("link to be removed")
            link.unlink(missing_ok=True)
        if not os.path.lexists(path):
            return
        failpoint("lease to be removed")
        try:
            path.unlink(missing_ok=True)
        except IsADirectoryError:  # nobody's lease: it goes where it is empty, and else holds up its task alone
            with suppress(OSError):
                path.rmdir()
        failpoint("lease removed")
        if lasting:
            self.sync()

    def sync(self) -> None:
        """Make what was removed lasting."""
        sync_folder(self._folder)

    def mend_links(self, leases: Mapping[str, Lease]) -> None:
        """One link for each lease, none besides; and what a killed runner left half written is cleared away."""
        now = settled(self._folder)
        if now is not None and now == self._mended[0] and leases is self._mended[1]:
            return  # no name came, went or changed since
        self._mended = (now, leases)
        wanted = {self.link(lease).name: f"task_{task_id}.json" for task_id, lease in leases.items()}
        for entry in list(os.scandir(self._folder)):
            path = Path(entry.path)
            if half := _HALF_WRITTEN.fullmatch(entry.name):
                if half[2] == ".json" or half[1] not in leases:  # a live run's shim may be writing just now
                    failpoint("half to be removed")
                    path.unlink(missing_ok=True)
            elif entry.is_symlink() and entry.name.startswith("agent_"):
                if wanted.get(entry.name) == _target(path):
                    del wanted[entry.name]
                else:
                    path.unlink(missing_ok=True)
        for name, target in wanted.items():
            with suppress(FileExistsError):  # its shim was faster
                (self._folder / name).symlink_to(target)


def _target(link: Path) -> str | None:
    try:
        return os.readlink(link)
    except OSError:  # its shim has just removed it
        return None
