"""Addresses of git repositories: which ones a program may hand to git. Pure."""

import re
from typing import Final
from urllib.parse import unquote, urlsplit

from tsched.model.secrets import mask

PROTOCOLS: Final = ("https", "ssh", "file")
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
FORMS: Final = "use a path, https://…, ssh://… or user@host:path"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HELPER = re.compile(r"[A-Za-z0-9+.-]*::")  # git starts git-remote-<helper> for it
_SHORT = re.compile(r"(?:([^/:@\[]*)@)?(\[[^\]/]*\]|[^/:\[]+):(.*)", re.DOTALL)  # user@host:path


def fault(address: str) -> str | None:
    """Why git may not be given an address, with the mend; None where it may.

    Refused: what git takes for an option or a helper program to start, what ssh takes for an option, a password for
    ssh (it would stand in ssh's arguments), and plain http to another machine (whoever stands between decides what
    runs).
    """
    shown = f"{mask(address)!r} is no address of a git repository"
    if not address or address.startswith("-") or _HELPER.match(address) or any(ord(one) < 32 for one in address):
        return f"{shown}: {FORMS}"
    scheme = _SCHEME.match(address)
    if scheme is None:
        short = _SHORT.fullmatch(address)
        risky = short is not None and any(part.startswith("-") for part in short.groups(default=""))
        return f"{shown}: no part of it may begin with a dash" if risky else None
    return _fault_of_url(address, scheme[1].lower(), shown)


def _fault_of_url(address: str, scheme: str, shown: str) -> str | None:
    try:
        parts = urlsplit(address)
        host, user, password = parts.hostname or "", unquote(parts.username or ""), parts.password
    except ValueError:
        return f"{shown}: {FORMS}"
    if any(part.startswith("-") for part in (unquote(host), user, unquote(parts.netloc.rpartition("@")[2]))):
        return f"{shown}: no part of it may begin with a dash"
    if scheme == "http" and host not in LOOPBACK:
        return f"{shown}: plain http lets whoever stands between decide what runs: use https://… or ssh://…"
    if scheme == "ssh" and password is not None:
        return f"{shown}: ssh takes no password from it: use a key, or https://…"
    return None if scheme in (*PROTOCOLS, "http") else f"{shown}: {FORMS}"


def protocols(address: str) -> tuple[str, ...]:
    """What git may speak on the way to an address (and where a server or the user's `insteadOf` sends it on to)."""
    return (*PROTOCOLS, "http") if address.lower().startswith("http://") else PROTOCOLS
