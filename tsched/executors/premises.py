"""The folders that runs need, each run's own with its files, and who may pass through them.

All is the runner's alone, mode 0700. Where agents run as another user, the folders on the way to its workspace may be
passed (0711), not listed; that user owns its workspace and the repository behind it, and reads its task and recipe.
"""

import os
from pathlib import Path

from tsched.executors import cgroups, durable, views
from tsched.executors.account import Account, account, closed_to
from tsched.executors.pinned import Pinned
from tsched.executors.runfolder import HALF_MADE, Host
from tsched.failpoint import failpoint
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.run import Run

PRIVATE, PASSED = 0o700, 0o711


def admitted(name: str | None, state: Path) -> Account | None:
    """The user that agents run as, None: the runner's own. Raises ConfigurationError where it can't be used here."""
    who = account(name)
    closed = closed_to(who, state) if who is not None else None
    if who is not None and closed is not None:
        raise ConfigurationError(
            f"TSCHED_AGENT_USER is {who.name!r}, who can't pass through {closed}: let it (chmod o+x), or set "
            "TSCHED_STATE to another place"
        )
    return who


def make_folders(host: Host, who: Account | None) -> None:
    """Those that all runs share. Raises OSError."""
    passed = (host.runs, host.workspaces, host.workspaces / ".repos")
    for folder in (host.running, host.logs, *passed):
        make(folder)
    for folder in (host.runs.parent, *passed):
        if who is not None:
            folder.chmod(PASSED)
        elif folder.stat().st_mode & 0o777 == PASSED:  # it was for another user once
            folder.chmod(PRIVATE)


def make(folder: Path) -> None:
    """A folder with those above it, all the runner's alone: `parents=True` would leave them to the umask."""
    if folder.is_dir():
        return
    if not folder.parent.exists():
        make(folder.parent)
    folder.mkdir(mode=PRIVATE, exist_ok=True)


def put_down(host: Host, pinned: Pinned, who: Account | None, *, plain: bool) -> None:
    """Write a run's folder, whole or not at all. `plain`: its workspace is an empty folder, made here.

    Raises TransientError where the disk refuses.
    """
    run_id = pinned.run.run_id
    target, temp = host.folder(run_id).path, host.runs / f"{HALF_MADE}{run_id}"
    try:
        make_folders(host, who)
        cgroups.hand_down()
        temp.mkdir(mode=PRIVATE)
        for name, data in pinned.files.items():
            path = temp / name
            make(path.parent)
            durable.write(path, data, lasting=name == "run.json")  # after a power cut no agent is left to start
        if who is not None:
            hand_over(host, pinned.run, temp, who)
        elif plain:
            Path(pinned.run.workspace).mkdir(mode=PRIVATE, exist_ok=True)
        durable.sync(temp)
        failpoint("run's folder made")
        temp.rename(target)
        failpoint("run's folder in place")
        durable.sync(host.runs)
    except OSError as error:
        views.remove(temp)
        if plain and not target.exists():
            views.remove(Path(pinned.run.workspace))
        raise TransientError(f"run {run_id} can't be prepared in {target}: {error}: make room there") from error


def hand_over(host: Host, run: Run, folder: Path, who: Account) -> None:
    """Give the agents' user what a run needs. `folder`: where its files are while they are made. Raises OSError."""
    folder.chmod(PASSED)
    for place in (folder / "task.json", folder / "recipe", *(folder / "recipe").rglob("*")):
        os.chown(place, -1, who.gid)
        place.chmod(0o750 if place.is_dir() else 0o640)
    tree = host.worktree(run)
    for place in (Path(run.workspace), *([tree.cache] if tree is not None else [])):
        place.mkdir(mode=PRIVATE, exist_ok=True)
        if place.lstat().st_uid != who.uid:
            who.owner.give(place)
