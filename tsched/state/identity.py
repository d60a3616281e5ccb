"""A runner's identity on task servers, and whether its state folder is still where it was given.

Two runners of one id would take each other's claims for their own and run tasks twice. So beside the id stands where
it belongs: a copied folder, or a disk that came to another machine, is noticed before anything is done.
"""

import hashlib
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from tsched.failpoint import failpoint
from tsched.model.errors import FatalError
from tsched.model.records import dataclass
from tsched.state.folder import StateFolder, sync_folder

_ID = re.compile(r"[0-9a-f]{32}")
MACHINE = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where an id belongs. `machine`: a digest of the machine's id, "" where it has none, as in most containers.

    `file`: the inode of the file that holds the id, which a copy of it has not. `host` is for people.
    """

    host: str
    machine: str
    file: int


def moved(known: Home, now: Home) -> str | None:
    """Why this can't be the folder that the id was given to; None where it can."""
    if known.machine and now.machine and known.machine != now.machine:
        return f"it came from another machine ({known.host})"
    if known.file != now.file:
        return f"it is a copy of one on {known.host}"
    return None


def runner_id(folder: StateFolder, *, host: str, machine: Path = MACHINE) -> str:
    """This runner's identity: made once, kept for ever (32 hex digits). `host`: this machine's name.

    Raises FatalError where the file holds something else (under a new identity no claim would be ours any more), and
    where the folder is not the one that it was given to.
    """
    known = _read(folder) or _make(folder)
    if (why := displaced(folder, host=host, machine=machine)) is not None:
        raise FatalError(
            f"{folder.root} has the runner id of another place: {why}. Two runners of one id would run tasks twice: "
            "`tsched runner renew` gives this one an id of its own; `tsched runner adopt` keeps it, where the other "
            "is gone for good"
        )
    now = _here(folder, host, machine)
    if _home(folder) != now:
        _keep(folder, now)
    return known


def displaced(folder: StateFolder, *, host: str, machine: Path = MACHINE) -> str | None:
    """Why the id that is there was not given to this folder; None where it was, or there is none. Touches nothing."""
    home = _home(folder)
    return None if home is None or _read(folder) is None else moved(home, _here(folder, host, machine))


def known_id(folder: StateFolder) -> str | None:
    """The id as it stands; None where there is none yet. Raises FatalError as `runner_id` does for a spoiled one."""
    return _read(folder)


def adopt(folder: StateFolder, *, host: str, machine: Path = MACHINE) -> str:
    """From now on the id belongs here. Gives it."""
    known = _read(folder) or _make(folder)
    _keep(folder, _here(folder, host, machine))
    return known


def renew(folder: StateFolder, *, host: str, machine: Path = MACHINE) -> str:
    """A new id, which belongs here."""
    with _written(folder, uuid.uuid4().hex) as made:
        made.rename(_path(folder))
    return adopt(folder, host=host, machine=machine)


def _path(folder: StateFolder) -> Path:
    return folder.root / "runner_id"


def _read(folder: StateFolder) -> str | None:
    path = _path(folder)
    try:
        known = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    if not _ID.fullmatch(known):
        raise FatalError(f"{path} holds no runner id (32 hex digits): restore it (a new id would own no old claim)")
    return known


def _make(folder: StateFolder) -> str:
    """The first one to make it gives it: a runner that is about to lose the lock must not change the winner's id."""
    with _written(folder, uuid.uuid4().hex) as made, suppress(FileExistsError):
        os.link(made, _path(folder))
    known = _read(folder)
    assert known is not None
    return known


@contextmanager
def _written(folder: StateFolder, text: str) -> Iterator[Path]:
    """A file of a name of its own, as others may start at the same moment; where it was moved to is durable after."""
    descriptor, name = tempfile.mkstemp(dir=folder.root, prefix=".runner.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(descriptor)
        failpoint("written beside")
        yield Path(name)
        failpoint("in place")
    finally:
        Path(name).unlink(missing_ok=True)
    sync_folder(folder.root)


def _here(folder: StateFolder, host: str, machine: Path) -> Home:
    try:
        given = machine.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        given = ""
    known = hashlib.sha256(f"tsched {given}".encode()).hexdigest()[:16] if _ID.fullmatch(given) else ""
    return Home(host=host, machine=known, file=_path(folder).stat().st_ino)


def _home(folder: StateFolder) -> Home | None:
    """None where none is on record, or none that can be read: it is written anew."""
    try:
        return msgspec.json.decode((folder.root / "runner_home.json").read_bytes(), type=Home)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _keep(folder: StateFolder, home: Home) -> None:
    with _written(folder, msgspec.json.encode(home).decode()) as made:
        made.rename(folder.root / "runner_home.json")
