"""The one place that starts git: no inherited GIT_* variable, no hook, no prompt, a time limit on every call."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tsched.failpoint import failpoint
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.secrets import mask

TIMEOUT = 120.0  # seconds
PROTOCOLS = ("https", "http", "ssh", "file")
_FOLLOWERS = ("fatal: Could not read from remote", "Please make sure you have", "and the repository exists")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class GitFailed(TransientError):  # noqa: N818  # named for what happened
    """A git command ended non-zero. `line` is the last meaningful line it printed, credentials masked."""

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.line = line


def git(
    *arguments: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None, timeout: float = TIMEOUT
) -> str:
    """Run git and return what it printed. Raises GitFailed, TransientError past the time limit (seconds)."""
    failpoint(f"git {next(word for word in arguments if word[0].isalpha())}")
    command = ["git", *_options(), *arguments]
    with subprocess.Popen(
        command, cwd=cwd, env={**clean_environment(), **(environ or {})}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # helpers of a transport hold the pipes too
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise TransientError(f"git {arguments[0]} did not end within {timeout:.0f} s") from None
            raise
    if process.returncode != 0:
        raise GitFailed(last_line(err.decode(errors="replace")) or f"git {arguments[0]} failed")
    return out.decode(errors="replace")


def version(*, timeout: float) -> tuple[int, ...] | None:
    """git's own version, such as (2, 39, 5); None where it can't be run or says none. `timeout`: seconds."""
    try:
        said = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", git("version", timeout=timeout))
    except (OSError, TransientError):
        return None
    return None if said is None else tuple(int(part) for part in said.groups() if part is not None)


def _options() -> Sequence[str]:
    settings = [
        "core.hooksPath=/dev/null", "gc.auto=0", "maintenance.auto=false", "submodule.recurse=false",
        "fetch.recurseSubmodules=false", "protocol.allow=never", "core.fsmonitor=false", "advice.detachedHead=false",
        *(f"protocol.{name}.allow=always" for name in PROTOCOLS),
    ]  # fmt: skip
    return [word for setting in settings for word in ("-c", setting)]


def clean_environment() -> dict[str, str]:
    """Ours without any GIT_* variable (a hook's would redirect us), in plain English, never asking a person."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    for name in ("GIT_SSL_CAINFO", "GIT_SSH_COMMAND"):  # how to reach the remote, not which repository is meant
        if name in os.environ:
            kept[name] = os.environ[name]
    kept.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=20")
    return {**kept, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}


def last_line(text: str) -> str:
    """The line that says why: the last fatal or error line, else the last one; credentials masked.

    git's `Could not read from remote repository` and the advice after it only follow the line that tells.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(_FOLLOWERS)]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "ERROR:"))]
    return mask((telling or lines or [text.strip()])[-1])


def check_address(address: str) -> str:
    """The address of a remote that git may be given. Raises ConfigurationError for one that smuggles an option or a
    transport (`-…`, `ext::…`)."""
    scheme = _SCHEME.match(address)
    bad = address.startswith("-") or "::" in address.split("/", 1)[0] or any(ord(c) < 32 for c in address)
    if not address or bad or (scheme is not None and scheme[1].lower() not in PROTOCOLS):
        raise ConfigurationError(
            f"{mask(address)!r} is no address of a fleet repo: use a path, https://…, ssh://… or user@host:path"
        )
    return address


def check_branch(branch: str) -> str:
    """A branch name. Raises ConfigurationError for one that git would not take as such."""
    if not re.fullmatch(r"(?!-|/|.*(\.\.|//|@\{|\.lock$|/$|\.$))[^\x00-\x20~^:?*\[\\\x7f]+", branch):
        raise ConfigurationError(f"{branch!r} is no branch name: set TSCHED_BRANCH to one")
    return branch
