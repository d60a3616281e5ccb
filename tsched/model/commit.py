"""Who made a commit, when and why."""

import re

from tsched.model.records import dataclass

_PULL_REQUESTS = (
    re.compile(r"\AMerge pull request #(\d+)\b"),  # GitHub's merge
    re.compile(r"\A[^\n]*\(#(\d+)\)"),  # GitHub's squash, Gitea
    re.compile(r"^See merge request \S*!(\d+)$", re.MULTILINE),  # GitLab
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit. `date`: when its author made it, seconds since the epoch."""

    id: str
    author: str
    email: str
    date: float
    message: str

    @property
    def subject(self) -> str:
        """The message's first line."""
        return self.message.partition("\n")[0].strip()

    @property
    def pull_request(self) -> int | None:
        """The number of the pull (or merge) request that it came by, where its message says so."""
        found = (match for one in _PULL_REQUESTS if (match := one.search(self.message)))
        match = next(found, None)
        return None if match is None else int(match[1])
