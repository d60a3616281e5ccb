"""Signatures, checked by git itself: SSH keys of an allowed-signers file, OpenPGP keys of its armoured blocks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tsched.gitops.git import TIMEOUT, git, last_line, run
from tsched.model.errors import ConfigurationError

LARGEST: Final = 4 << 20  # bytes
_BLOCK = re.compile(
    rb"^-----BEGIN PGP PUBLIC KEY BLOCK-----\r?$.*?^-----END PGP PUBLIC KEY BLOCK-----\r?$", re.DOTALL | re.MULTILINE
)
_GOOD_SSH = re.compile(r'^Good "git" signature for (.+) with (\S+) key (\S+)$', re.MULTILINE)
_STATUS = "[GNUPG:] "
# What gpg says of a signature that is no good, and what that means.
_REFUSED: Final[Mapping[str, str]] = {
    "REVKEYSIG": "its key was revoked: sign with another",
    "EXPKEYSIG": "its key has expired: prolong it, and put it into that file again",
    "EXPSIG": "the signature has expired: sign anew",
    "BADSIG": "the signature is not of this commit",
    "NO_PUBKEY": "its key is not in that file",
}
# Nothing is started or asked for; a key counts because it is in the file, whoever else vouches for it.
_GPG_SETTINGS = "no-autostart\nno-auto-key-retrieve\ndisable-dirmngr\nno-greeting\nbatch\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Allowed:
    """What the file of allowed signers holds."""

    ssh: bytes  # lines of ssh-keygen's ALLOWED SIGNERS
    pgp: bytes  # public keys


def verify_signature(folder: Path, revision: str, allowed_signers: Path) -> str:
    """Make sure a commit is signed by a key of the file; who signed it, in words.

    `folder`: the bare repository that holds it. Raises ConfigurationError where it is not, or the file can't be used;
    TransientError where git or gpg does not come to an end.
    """
    allowed = _read(allowed_signers)
    commit = git(f"--git-dir={folder}", "cat-file", "commit", revision)
    kind = re.search(r"^gpgsig(?:-sha256)? -----BEGIN (SSH|PGP|SIGNED)", commit.partition("\n\n")[0], re.MULTILINE)
    try:
        with TemporaryDirectory(prefix="tsched-sign-") as scratch:
            match kind[1] if kind is not None else None:
                case "SSH":
                    return _verify_ssh(folder, revision, allowed.ssh, Path(scratch))
                case "PGP":
                    return _verify_pgp(folder, revision, allowed.pgp, Path(scratch))
                case None:
                    raise _RefusedError("it has no signature")
                case _:
                    raise _RefusedError("its X.509 signature can't be checked here: sign by SSH or OpenPGP")
    except _RefusedError as why:
        raise ConfigurationError(
            f"{revision[:12]} is not signed by anyone in {allowed_signers}: sign the commit, or list its signer "
            f"({why})"
        ) from None


class _RefusedError(Exception):
    """Why a signature is not taken."""


def _read(path: Path) -> _Allowed:
    name = f"TSCHED_ALLOWED_SIGNERS names {path}, which"
    try:
        if not path.is_file():
            raise ConfigurationError(f"{name} is no file: nothing is adopted")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigurationError(f"{name} can't be read ({error.strerror}): nothing is adopted") from None
    if len(data) > LARGEST:
        raise ConfigurationError(f"{name} is larger than {LARGEST >> 20} MiB: nothing is adopted")
    if b"PRIVATE KEY" in data:
        raise ConfigurationError(f"{name} holds a private key: put public keys there; nothing is adopted")
    if data[8:12] == b"KBXf":
        raise ConfigurationError(f"{name} is gpg's own keybox: write `gpg --armor --export KEY` into it")
    if data[:1] >= b"\x80":  # OpenPGP packets without armour; no text in UTF-8 that ssh-keygen takes begins so
        return _Allowed(ssh=b"", pgp=data)
    return _Allowed(ssh=_BLOCK.sub(b"", data), pgp=b"\n".join(_BLOCK.findall(data)))


def _verify_ssh(folder: Path, revision: str, allowed: bytes, scratch: Path) -> str:
    signers = scratch / "signers"
    signers.write_bytes(allowed)
    # "fully": a good signature by a key that is not in the file has less.
    settings = (f"gpg.ssh.allowedSignersFile={signers}", "gpg.minTrustLevel=fully")
    code, said = _verify(folder, revision, settings, scratch)
    good = _GOOD_SSH.search(said)
    if code != 0 or good is None:
        raise _RefusedError(last_line(said) or "git says no more")
    return f"{good[1]} ({good[2]} key {good[3]})"


def _verify_pgp(folder: Path, revision: str, allowed: bytes, scratch: Path) -> str:
    if not allowed:
        raise _RefusedError("it is signed by OpenPGP, and that file holds no such key")
    (scratch / "gpg.conf").write_text(_GPG_SETTINGS)
    (scratch / "keys").write_bytes(allowed)
    command = ["gpg", "--homedir", str(scratch), "--batch", "--import", "--", str(scratch / "keys")]
    try:
        run(command, environ={"GNUPGHOME": str(scratch)}, timeout=TIMEOUT)
    except OSError:
        raise _RefusedError("gpg, which checks its signature, is not on this machine: install it") from None
    code, said = _verify(folder, revision, ("gpg.program=gpg", "gpg.minTrustLevel=undefined"), scratch)
    words = [line.removeprefix(_STATUS).split(" ") for line in said.splitlines() if line.startswith(_STATUS)]
    told = {word[0]: word[1:] for word in words}
    for sign, meaning in _REFUSED.items():
        if sign in told:
            raise _RefusedError(f"{meaning} ({told[sign][0]})")
    if code != 0 or "GOODSIG" not in told or "VALIDSIG" not in told:
        raise _RefusedError(last_line(said) or "git says no more")
    return f"{' '.join(told['GOODSIG'][1:])} (OpenPGP key {told['VALIDSIG'][-1]})"


def _verify(folder: Path, revision: str, settings: tuple[str, ...], scratch: Path) -> tuple[int, str]:
    """git's word, by these settings alone: neither the user's settings nor their keys count."""
    options = [word for setting in settings for word in ("-c", setting)]
    command = ["git", f"--git-dir={folder}", *options, "verify-commit", "--raw", "--end-of-options", revision]
    environ = {"GNUPGHOME": str(scratch), "GIT_CONFIG_GLOBAL": "/dev/null"}
    code, _, said = run(command, environ=environ, timeout=TIMEOUT)
    return code, said
