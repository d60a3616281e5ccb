"""Where a forge's API is, what opens it, and how patient we are with it."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx

from tsched.model.errors import ConfigurationError
from tsched.model.secrets import mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long to wait and how often to try, in seconds."""

    timeout: float = 20.0  # for one call, answer included
    attempts: int = 4
    pause: float = 8.0  # the longest between two attempts that nobody asked for
    patience: float = 30.0  # the longest a forge may ask us to wait before we give up for now
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where a forge's API is, the project in it, and the token that opens it."""

    api: str
    project: str
    variable: str  # the environment variable the token came from
    token: str = field(repr=False)
    job: bool = False  # a GitLab CI job token
    address: str = "the remote, or TSCHED_FORGE_API,"  # what a person sets where the address is wrong

    @property
    def host(self) -> str:
        """The API's host and port."""
        return httpx.URL(self.api).netloc.decode()

    def mask(self, text: str) -> str:
        """The text without the token."""
        return text.replace(self.token, "***").replace(quote(self.token, safe=""), "***")

    def clean(self, text: str) -> str:
        """One short line without the token and without anything a terminal would obey."""
        line = "".join(c if c.isprintable() else " " for c in self.mask(text)[:2000])
        line = mask(" ".join(line.split()))  # on a little: its time grows with the square of a long word
        return line if len(line) <= 300 else line[:299] + "…"


def check_token(variable: str, text: str) -> str:
    """A token as a header may carry it. Raises ConfigurationError."""
    if not re.fullmatch(r"[!#-&(-\[\]-~]+", text):
        raise ConfigurationError(f"{variable} holds no token: set it to one, without quotes, spaces or line breaks")
    return text
