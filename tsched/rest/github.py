"""GitHub's API: where it is, the version of it that this is written for, and who we are there."""

import msgspec

from tsched.rest.access import Access, Limits
from tsched.rest.http import Http
from tsched.rest.refusal import Refused


def github_api(place: str) -> str:
    """The API of a GitHub at a host (and port): github.com, NAME.ghe.com or an Enterprise Server."""
    if place in ("github.com", "ssh.github.com"):
        return "https://api.github.com"
    return f"https://api.{place}" if place.endswith(".ghe.com") else f"https://{place}/api/v3"


def github_http(access: Access, limits: Limits) -> Http:
    """Calls to a GitHub, in the version of its API that this is written for."""
    headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    return Http(access, {**headers, "Authorization": f"Bearer {access.token}"}, limits)


class GitHubUser(msgspec.Struct, frozen=True):
    """Who wrote something on GitHub."""

    id: int
    login: str = ""
    type: str = ""


class GitHubSelf:
    """Whose token calls carry. An App's token (that of Actions too) may not ask who it is, but is a bot."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._me: GitHubUser | None = None

    def wrote(self, author: GitHubUser | None) -> bool:
        """Whether it is us. Asks GitHub who we are, the first time; raises as `Http.ask` does."""
        if self._me is None:
            try:
                self._me = self._http.ask(GitHubUser, "GET", "/user", needs="any permission")
            except Refused as error:
                if error.status not in (403, 404):
                    raise
                self._me = GitHubUser(id=0, type="Bot")
        if author is None:
            return False
        return author.id == self._me.id or (self._me.id == 0 and author.type == "Bot")
