"""The one place that starts git: nothing inherited that redirects it, no hook, no prompt, a time limit always."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tsched.failpoint import failpoint
from tsched.model.address import PROTOCOLS
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.secrets import mask

TIMEOUT = 120.0  # seconds
_FOLLOWERS = ("fatal: Could not read from remote", "Please make sure you have", "and the repository exists")
_OURS = ("GIT_", "TSCHED_", "TINYSCHEDULER_")


class GitFailed(TransientError):  # noqa: N818  # named for what happened
    """A git command ended non-zero. `line` is the last meaningful line it printed, credentials masked."""

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.line = line


def git(
    *arguments: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None, timeout: float = TIMEOUT,
    umask: int = -1,
) -> str:  # fmt: skip
    """Run git and return what it printed. `environ`: beside the clean environment. `umask`: -1 leaves it as it is.

    Raises GitFailed; TransientError past the time limit (seconds).
    """
    failpoint(f"git {next(word for word in arguments if word[0].isalpha())}")
    code, out, err = run(["git", *_options(), *arguments], cwd=cwd, environ=environ, timeout=timeout, umask=umask)
    if code != 0:
        raise GitFailed(last_line(err) or f"git {arguments[0]} failed")
    return out


def run(
    command: Sequence[str], *, cwd: Path | None = None, environ: Mapping[str, str] | None = None, timeout: float,
    umask: int = -1,
) -> tuple[int, str, str]:  # fmt: skip
    """Run git or a program of its own (gpg): exit status and what it printed. Nothing of it outlives the call.

    Raises OSError where it can't be started, TransientError past the time limit (seconds).
    """
    with subprocess.Popen(
        command, cwd=cwd, env={**clean_environment(), **(environ or {})}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, umask=umask,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # helpers of a transport hold the pipes too
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise TransientError(f"{shown(command)} did not end within {timeout:.0f} s") from None
            raise
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")


def shown(command: Sequence[str]) -> str:
    """A command in a few words: the program and what it was to do."""
    words = iter(command)
    name, rest = next(words), []
    for word in words:
        if word == "-c":
            next(words)
        elif not word.startswith("-"):
            rest.append(word)
    return " ".join([name, *rest[:1]])


def version(*, timeout: float) -> tuple[int, ...] | None:
    """git's own version, such as (2, 39, 5); None where it can't be run or says none. `timeout`: seconds."""
    try:
        said = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", git("version", timeout=timeout))
    except (OSError, TransientError):
        return None
    return None if said is None else tuple(int(part) for part in said.groups() if part is not None)


def _options() -> Sequence[str]:
    settings = (
        "core.hooksPath=/dev/null", "gc.auto=0", "maintenance.auto=false", "submodule.recurse=false",
        "fetch.recurseSubmodules=false", "core.fsmonitor=false", "advice.detachedHead=false",
    )  # fmt: skip
    return [word for setting in settings for word in ("-c", setting)]


def clean_environment() -> dict[str, str]:
    """Ours without GIT_* (a hook's would redirect us) and without our settings (tokens are no business of git's).

    In plain English, never asking a person, speaking no protocol but these whatever the user's own settings allow.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    for name in ("GIT_SSL_CAINFO", "GIT_SSH_COMMAND"):  # how to reach the remote, not which repository is meant
        if name in os.environ:
            kept[name] = os.environ[name]
    kept.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=20")
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": ""}
    return {
        **kept, **quiet, "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1", "GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS),
    }  # fmt: skip


def last_line(text: str) -> str:
    """The line that says why: the last fatal or error line, else the last one; credentials masked.

    git's `Could not read from remote repository` and the advice after it only follow the line that tells.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(_FOLLOWERS)]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "ERROR:"))]
    return mask((telling or lines or [text.strip()])[-1])


def check_branch(branch: str) -> str:
    """A branch name. Raises ConfigurationError for one that git would not take as such."""
    if not re.fullmatch(r"(?!-|/|.*(\.\.|//|@\{|\.lock$|/$|\.$))[^\x00-\x20~^:?*\[\\\x7f]+", branch):
        raise ConfigurationError(f"{branch!r} is no branch name: set TSCHED_BRANCH to one")
    return branch
