"""Signatures, checked by git itself against an allowed-signers file."""

from pathlib import Path

from tsched.gitops.git import GitFailed, git
from tsched.model.errors import ConfigurationError


def verify_signature(folder: Path, revision: str, allowed_signers: Path) -> None:
    """Make sure a commit is signed by an allowed signer (SSH keys). Raises ConfigurationError where it is not.

    `folder`: the bare repository that holds it.
    """
    if not allowed_signers.is_file():
        raise ConfigurationError(
            f"TSCHED_ALLOWED_SIGNERS names {allowed_signers}, which is no file: nothing is adopted"
        )
    try:
        git(
            f"--git-dir={folder}", "-c", f"gpg.ssh.allowedSignersFile={allowed_signers}",
            "-c", "gpg.minTrustLevel=fully", "verify-commit", "--end-of-options", revision,
        )  # fmt: skip
    except GitFailed as error:
        raise ConfigurationError(
            f"{revision[:12]} is not signed by anyone in {allowed_signers}: sign the commit, or list its signer "
            f"({error.line})"
        ) from None
