"""The user that agents run as, where it is not the runner's own: who that is, and what it can reach."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from tsched.executors.views import Owner
from tsched.model.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user as the kernel and programs know it."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    @property
    def owner(self) -> Owner:
        """It, as the owner of files."""
        return Owner(uid=self.uid, gid=self.gid)

    def ids(self) -> dict[str, object]:
        """What the shim is told of it."""
        return {"uid": self.uid, "gid": self.gid, "groups": list(self.groups)}


def account(name: str | None) -> Account | None:
    """The user of TSCHED_AGENT_USER, None where none is set. Raises ConfigurationError where it can't be used."""
    if name is None:
        return None
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationError(
            f"TSCHED_AGENT_USER is {name!r}, and there is no such user: make it, or mend the name"
        ) from None
    if os.geteuid() != 0:
        raise ConfigurationError(
            f"TSCHED_AGENT_USER is {name!r}, but only root may start programs as another user: run tsched as "
            "root, or take the setting out"
        )
    if found.pw_uid == 0:
        raise ConfigurationError(f"TSCHED_AGENT_USER is {name!r}, which is root itself: name a user of its own")
    groups = tuple(os.getgrouplist(found.pw_name, found.pw_gid))
    return Account(name=found.pw_name, uid=found.pw_uid, gid=found.pw_gid, groups=groups)


def closed_to(who: Account, folder: Path) -> Path | None:
    """The first folder above one that the user may not pass through, None where the way is open."""
    return next((place for place in reversed(folder.parents) if not _passes(who, place)), None)


def _passes(who: Account, place: Path) -> bool:
    try:
        stat = place.stat()
    except FileNotFoundError:
        return True  # it will be made
    if stat.st_uid == who.uid:
        return bool(stat.st_mode & 0o100)
    return bool(stat.st_mode & (0o010 if stat.st_gid in who.groups else 0o001))
