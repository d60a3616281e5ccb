"""What forges take: texts within their limits, comments that are found again, the states of a commit."""

import re

from tsched.model.errors import ConfigurationError

STATES = ("success", "failure", "pending", "error")


def cut(text: str, limit: int) -> str:
    """Text within a forge's limit of characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def marked(marker: str, body: str = "") -> str:
    """A comment's text: the HTML comment it is found again by, then the body."""
    if not re.fullmatch(r"(?!.*--)[\w.:/ -]*\w", marker):
        raise ConfigurationError(f"{marker!r} is no marker of a comment: use letters, digits and single - . : / only")
    return f"<!-- {marker} -->\n{body}"


def check_status(revision: str, state: str) -> None:
    """Raises ConfigurationError for what no forge would take."""
    if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", revision):
        raise ConfigurationError(f"{revision!r} is no full commit hash: a status needs all of it")
    if state not in STATES:
        raise ConfigurationError(f"{state!r} is no state of a commit: use one of {', '.join(STATES)}")
