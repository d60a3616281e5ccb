"""Remotes as git is told of them: credentials of an address travel in the environment, never among the arguments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

from tsched.model.address import fault, protocols
from tsched.model.errors import ConfigurationError
from tsched.model.secrets import mask

# git starts it as a shell script with the word `get`, `store` or `erase`.
_HELPER = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$TSCHED_GIT_USER" "$TSCHED_GIT_PASSWORD"; }; f'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """`address`: without credentials, for git's arguments. `environ`: what git needs besides to reach it."""

    address: str
    environ: Mapping[str, str] = field(repr=False)
    credentials: Credentials | None = None


def remote_of(address: str) -> Remote:
    """The remote of an address as a person wrote it. Raises ConfigurationError for one that git may not be given."""
    check_address(address)
    allowed = {"GIT_ALLOW_PROTOCOL": ":".join(protocols(address))}  # outweighs each user's own `protocol.*.allow`
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    if not at or parts.scheme.lower() not in ("http", "https"):
        return Remote(address=address, environ=allowed)
    name, _, password = user.partition(":")
    credentials = Credentials(user=unquote(name), password=unquote(password))
    helper = f"credential.{parts.scheme}://{host}.helper"
    return Remote(
        address=urlunsplit(parts._replace(netloc=host)),
        credentials=credentials,
        environ={
            **allowed,
            "TSCHED_GIT_USER": credentials.user,
            "TSCHED_GIT_PASSWORD": credentials.password,
            "GIT_CONFIG_COUNT": "2",
            **{"GIT_CONFIG_KEY_0": helper, "GIT_CONFIG_VALUE_0": ""},  # no other helper is asked, or told to keep it
            **{"GIT_CONFIG_KEY_1": helper, "GIT_CONFIG_VALUE_1": _HELPER},
        },
    )


def check_address(address: str) -> str:
    """The address itself. Raises ConfigurationError where git may not be given it."""
    why = fault(address)
    if why is not None:
        raise ConfigurationError(why)
    if any(ord(one) < 32 for one in unquote(address.partition("@")[0])):
        raise ConfigurationError(f"{mask(address)!r}: a line's end in its user or password is refused: mend it")
    return address
