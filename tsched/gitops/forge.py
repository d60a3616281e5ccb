"""Forges: pull requests, comments and commit statuses through one small protocol."""

import re
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from tsched.gitops.github import GitHub
from tsched.gitops.gitlab import GitLab
from tsched.model.errors import ConfigurationError
from tsched.rest.access import Access, Limits, check_token


class Forge(Protocol):
    """What tsched asks of a forge. Raises ConfigurationError for what a person mends, else TransientError."""

    name: str

    def open_pull_request(self, *, head: str, base: str, title: str, body: str) -> str:
        """Open a pull request, or update the one that is open for this head and base. Returns its web address."""

    def comment(self, number: int, *, marker: str, body: str) -> str:
        """Write our one comment with this marker on a pull request, or update it. Returns its web address."""

    def set_status(self, revision: str, *, context: str, state: str, description: str, url: str = "") -> None:
        """Set the status of a commit under a context: success, failure, pending or error."""

    def close(self) -> None:
        """Let go of all connections."""


def forge_of(
    remote: str, *, environ: Mapping[str, str], kind: str | None = None, api: str | None = None,
    limits: Limits | None = None,
) -> Forge:  # fmt: skip
    """The forge behind a remote's address, opened by a token from the environment.

    `kind` and `api` come before TSCHED_FORGE and TSCHED_FORGE_API, and those before what the host's name says.
    Raises ConfigurationError for an address that is on no forge, an unknown host, or no token.
    """
    place, path = _place(remote)
    host = place.split(":")[0]
    kind = kind or environ.get("TSCHED_FORGE")
    forges: tuple[type[GitHub] | type[GitLab], ...] = (GitHub, GitLab)
    made = next((one for one in forges if (one.name == kind if kind else one.knows(host))), None)
    if made is None:
        wrong = f"{kind!r} is no kind of forge" if kind else f"the name of {place} does not say what forge it is"
        raise ConfigurationError(f"{wrong}: set TSCHED_FORGE to github or gitlab")
    api = _api(api or environ.get("TSCHED_FORGE_API") or made.api_of(place))
    names = ("TSCHED_FORGE_TOKEN", *made.variables)
    variable = next((name for name in names if environ.get(name, "").strip()), None)
    if variable is None:
        raise ConfigurationError(f"no token for {place}: set TSCHED_FORGE_TOKEN (or {' or '.join(made.variables)})")
    token = check_token(variable, environ[variable].strip())
    access = Access(
        api=api, project=made.project_of(path, api), variable=variable, token=token,
        job=token == environ.get("CI_JOB_TOKEN", "").strip(),
    )  # fmt: skip
    return made(access, limits or Limits())


def change_address(remote: str, number: int, *, environ: Mapping[str, str]) -> str | None:
    """The web address of a pull request, made of the remote's; None where that does not say what forge it is."""
    try:
        place, path = _place(remote)
    except ConfigurationError:
        return None
    host, kind = place.split(":")[0], environ.get("TSCHED_FORGE")
    if kind == GitHub.name or (not kind and GitHub.knows(host)):
        return f"https://{'github.com' if host == 'ssh.github.com' else place}/{quote(path)}/pull/{number}"
    if kind == GitLab.name or (not kind and GitLab.knows(host)):
        place = "gitlab.com" if host == "altssh.gitlab.com" else place
        return f"https://{place}/{quote(path)}/-/merge_requests/{number}"
    return None


def _place(remote: str) -> tuple[str, str]:
    """Host (with the port, where it is that of https) and path of a remote's address."""
    host, port, path = "", None, ""
    if "://" in remote:
        try:
            parts = urlsplit(remote)
            host, port, path = parts.hostname or "", parts.port, unquote(parts.path)
            host = host if parts.scheme in ("https", "http", "ssh") else ""
            port = port if parts.scheme == "https" else None
        except ValueError:
            host = ""
    elif found := re.fullmatch(r"(?:[^@/\s]+@)?([^@:/\s]+):(.+)", remote):
        host, path = found[1].lower(), found[2]
    path = path.strip("/").removesuffix(".git")
    if not re.fullmatch(r"[\w.-]+", host) or not re.fullmatch(
        r"(?!\.{1,2}/)[\w.+-]+(/(?!\.{1,2}(/|$))[\w.+-]+)+", path
    ):
        raise ConfigurationError(
            f"{_bare(remote)!r} is no repository on a forge: use https://HOST/OWNER/REPOSITORY or "
            f"git@HOST:OWNER/REPOSITORY"
        )
    return (host if port in (None, 443) else f"{host}:{port}"), path


def _api(address: str) -> str:
    """The address of an API, without a slash at its end."""
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or not address.isprintable() or " " in address:
        raise ConfigurationError(
            f"{_bare(address)!r} is no address of an API: set TSCHED_FORGE_API to https://HOST/…"
        )
    return address.rstrip("/")


def _bare(address: str) -> str:
    """An address as written but for credentials, even such that have no place in one (a `/` in a password)."""
    return re.sub("://.*@", "://***@", address, flags=re.DOTALL)
