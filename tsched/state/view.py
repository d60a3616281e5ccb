"""A read-only view of the applied fleet for the guide's jq lines: `agent-control.json`.

What was last written is remembered, so that an edit by hand can be told from a view that is older than the fleet.
"""

import json
from collections.abc import Collection

import msgspec

from tsched.model.fleet import Fleet
from tsched.state.database import Database
from tsched.state.folder import StateFolder, write_durably

Row = tuple[str, str]  # an agent and its queue
Mark = tuple[int, ...]  # of the file: another one after any write to it


class _Entry(msgspec.Struct, frozen=True):
    agentName: str  # noqa: N815  # TinyScheduler's words
    agentType: str  # noqa: N815


def rows(fleet: Fleet, left_out: Collection[str]) -> tuple[Row, ...]:
    """What the view shows of a fleet. `left_out`: agents under a local drain, as the guide removes them from it."""
    return tuple((agent.name, pool.queue) for pool, agent in fleet.agents() if agent.name not in left_out)


def write(folder: StateFolder, db: Database, fleet: Fleet, left_out: Collection[str] = ()) -> None:
    """Write the view where it differs, then note what it shows. Raises OSError, TransientError from the disk."""
    wanted = rows(fleet, left_out)
    text = json.dumps([{"agentName": agent, "agentType": queue} for agent, queue in wanted], indent=2) + "\n"
    if _text(folder) != text:
        write_durably(folder.control_file, text, mode=0o400)
    if shown(db) != wanted:
        with db.transaction():
            db.execute("INSERT OR REPLACE INTO view VALUES (1, ?)", (json.dumps(wanted),))


def forget(db: Database) -> None:
    """From now on the file is somebody's own, so no edit of it means anything here."""
    if shown(db) is not None:
        with db.transaction():
            db.execute("DELETE FROM view")


def mark(folder: StateFolder) -> Mark | None:
    """What tells whether the file is as it was without reading it; None where there is none."""
    try:
        facts = folder.control_file.stat()
    except OSError:
        return None
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


def shown(db: Database) -> tuple[Row, ...] | None:
    """What the view showed when it was last written; None where it never was."""
    stored = db.rows("SELECT body FROM view")
    return db.decode(stored[0][0], tuple[Row, ...], "the view") if stored else None


def found(folder: StateFolder) -> tuple[Row, ...] | None:
    """What the file shows now; None where it is no list of agents. Raises FileNotFoundError."""
    text = _text(folder)
    if text is None:
        raise FileNotFoundError(folder.control_file)
    try:
        entries = msgspec.json.decode(text, type=list[_Entry])
    except (msgspec.DecodeError, UnicodeError):
        return None
    return tuple((entry.agentName, entry.agentType) for entry in entries)


def owner(folder: StateFolder) -> str:
    """Whose the file is: who edited it last, as well as that can be known."""
    try:
        return folder.control_file.owner()
    except KeyError:
        return f"uid {folder.control_file.stat().st_uid}"


def _text(folder: StateFolder) -> str | None:
    try:
        return folder.control_file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
