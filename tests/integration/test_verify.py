"""Signatures by real keys of ssh-keygen and gpg: who is taken, who is refused, and why in words."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.world import World, until
from tsched.gitops.mirror import Mirror
from tsched.gitops.verify import LARGEST, verify_signature
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Fleet
from tsched.model.kept import Kept
from tsched.runner.revise import Held, Rules, Unchanged, consider
from tsched.state.applied import Applied
from tsched.validate.fleet import FleetCache

needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen (openssh-client) is missing")
needs_gpg = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg (gnupg) is missing")


class Signing(World):
    """A fleet repo with a commit by each signer, by name, and a file of allowed signers to fill."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.allowed = root / "allowed"
        self.commits: dict[str, str] = {}

    def verify(self, name: str) -> str:
        return verify_signature(self.clone / ".git", self.commits[name], self.allowed)

    def refused(self, name: str) -> str:
        with pytest.raises(ConfigurationError) as caught:
            self.verify(name)
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    world = Signing(tmp_path)
    world.commits["none"] = world.push("unsigned")
    return world


@pytest.fixture
def ssh(signing: Signing) -> Signing:
    for name in ("ada", "eve"):
        key = signing.root / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        signing.git("config", "gpg.format", "ssh")
        signing.git("config", "user.signingkey", str(key))
        signing.git("commit", "-qS", "--allow-empty", "-m", name)
        signing.commits[f"ssh {name}"] = signing.git("rev-parse", "HEAD")
    return signing


def public(signing: Signing, name: str, options: str = "") -> str:
    return f"{name}@example.org {options} {(signing.root / f'{name}.pub').read_text()}"


def gpg(*arguments: str, words: str = "") -> bytes:
    return subprocess.run(
        ["gpg", "--batch", "--yes", "--passphrase", "", "--pinentry-mode", "loopback", *arguments],
        input=words.encode(), capture_output=True, check=True,
    ).stdout  # fmt: skip


@pytest.fixture
def pgp(signing: Signing, monkeypatch: pytest.MonkeyPatch) -> Iterator[Signing]:
    """Everybody's keys are in this user's own keyring, trusted in the highest degree: that may count for nothing."""
    with TemporaryDirectory(dir="/tmp") as home:  # short: gpg's sockets are there
        monkeypatch.setenv("GNUPGHOME", home)
        signing.environ["GNUPGHOME"] = home
        try:
            for name in ("ada", "eve", "old", "rex"):
                gpg("--quick-gen-key", f"{name} <{name}@example.org>", "ed25519", "sign")
                signing.git("config", "gpg.format", "openpgp")
                signing.git("config", "user.signingkey", f"{name}@example.org")
                signing.git("commit", "-qS", "--allow-empty", "-m", name)
                signing.commits[name] = signing.git("rev-parse", "HEAD")
            yield signing
        finally:
            subprocess.run(["gpgconf", "--kill", "all"], check=False)


def exported(*names: str) -> bytes:
    return gpg("--armor", "--export", *names)


def fingerprint(name: str) -> str:
    lines = gpg("--with-colons", "--list-keys", name).decode().splitlines()
    return next(line.split(":")[9] for line in lines if line.startswith("fpr"))


@needs_ssh
def test_an_ssh_key_of_the_file_is_taken_and_named_and_no_other(ssh: Signing) -> None:
    ssh.allowed.write_text("# who may\n\n" + public(ssh, "ada", 'namespaces="git"'))
    who = ssh.verify("ssh ada")
    assert who.startswith("ada@example.org (ED25519 key SHA256:")
    assert "is not signed by anyone in" in ssh.refused("ssh eve")
    assert ssh.refused("none").endswith("list its signer (it has no signature)")
    ssh.allowed.write_text(public(ssh, "ada", 'namespaces="file"'))
    ssh.refused("ssh ada")
    ssh.allowed.write_text(public(ssh, "ada", 'valid-before="20200101"'))
    ssh.refused("ssh ada")
    ssh.allowed.write_text("")
    ssh.refused("ssh ada")


@needs_ssh
def test_nothing_in_a_persons_git_settings_makes_a_signature_good(
    ssh: Signing, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh.allowed.write_text(public(ssh, "ada"))
    every = ssh.root / "every"
    every.write_text(public(ssh, "eve"))
    yes = ssh.root / "yes"
    yes.write_text("#!/bin/sh\necho 'Good \"git\" signature for ada@example.org with ED25519 key SHA256:x'\n")
    yes.chmod(0o755)
    words = f'[gpg]\n minTrustLevel = never\n program = {yes}\n[gpg "ssh"]\n program = {yes}\n'
    words += f" allowedSignersFile = {every}\n"
    (ssh.root / ".gitconfig").write_text(words)
    monkeypatch.setenv("HOME", str(ssh.root))
    ssh.refused("ssh eve")
    ssh.verify("ssh ada")


@needs_gpg
def test_an_openpgp_key_of_the_file_is_taken_and_named_and_no_other(pgp: Signing) -> None:
    pgp.allowed.write_bytes(b"Our keys:\n\n" + exported("ada"))
    assert pgp.verify("ada") == f"ada <ada@example.org> (OpenPGP key {fingerprint('ada')})"
    assert "its key is not in that file" in pgp.refused("eve")
    pgp.allowed.write_bytes(exported("ada", "eve") + exported("rex"))
    assert [pgp.verify(name).partition(" ")[0] for name in ("ada", "eve", "rex")] == ["ada", "eve", "rex"]
    pgp.allowed.write_bytes(gpg("--export", "eve"))  # without armour
    pgp.verify("eve")
    pgp.refused("ada")


@needs_gpg
def test_an_expired_and_a_revoked_key_are_refused_with_the_reason(pgp: Signing) -> None:
    gpg("--quick-set-expire", fingerprint("old"), "seconds=1")
    revoked = (Path(os.environ["GNUPGHOME"]) / f"openpgp-revocs.d/{fingerprint('rex')}.rev").read_text()
    gpg("--import", words=revoked.replace(":-----BEGIN", "-----BEGIN"))
    until(lambda: b"\npub:e:" in gpg("--with-colons", "--list-keys", "old"), "the key has expired")
    pgp.allowed.write_bytes(exported("ada", "old", "rex"))
    assert "its key was revoked: sign with another" in pgp.refused("rex")
    assert "its key has expired: prolong it" in pgp.refused("old")
    pgp.verify("ada")


@needs_gpg
def test_a_signature_of_another_commit_is_refused(pgp: Signing) -> None:
    pgp.allowed.write_bytes(exported("ada"))
    text = pgp.git("cat-file", "commit", pgp.commits["ada"]).replace("\n\nada", "\n\nAllow everything")
    forged = subprocess.run(
        ["git", "-C", pgp.clone, "hash-object", "-t", "commit", "-w", "--stdin"],
        input=text.encode() + b"\n", capture_output=True, check=True,
    ).stdout.decode().strip()  # fmt: skip
    pgp.commits["forged"] = forged
    assert "the signature is not of this commit" in pgp.refused("forged")


@needs_gpg
@needs_ssh
def test_one_file_may_hold_keys_of_both_kinds(ssh: Signing, pgp: Signing) -> None:
    pgp.allowed.write_bytes(public(ssh, "ada").encode() + exported("ada"))
    assert "ED25519 key" in pgp.verify("ssh ada")
    assert "OpenPGP key" in pgp.verify("ada")
    pgp.allowed.write_text(public(ssh, "ada"))
    assert "that file holds no such key" in pgp.refused("ada")
    pgp.allowed.write_bytes(exported("ada"))
    pgp.refused("ssh ada")


def test_a_file_that_can_not_be_used_is_named_with_its_mend(signing: Signing) -> None:
    assert "is no file: nothing is adopted" in signing.refused("none")
    for data, words in (
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "holds a private key: put public keys there"),
        (b"\0\0\0 \1\1\0\2KBXf", "is gpg's own keybox: write `gpg --armor --export KEY`"),
        (b"#" * (LARGEST + 1), "is larger than 4 MiB"),
    ):
        signing.allowed.write_bytes(data)
        assert words in signing.refused("none")


def test_what_was_applied_before_signatures_were_asked_for_is_looked_at_too(signing: Signing) -> None:
    signing.allowed.write_text("")
    tip = signing.commits["none"]
    applied = Applied(fleet=Fleet(revision=tip), generation=1)
    rules = Rules(allowed_signers=signing.allowed)
    with closing(Mirror(signing.root / "m", str(signing.remote), "main")) as mirror:
        mirror.fetch(tip)
        look = partial(consider, mirror, tip, applied, cache=FleetCache(), runs=(), kept=Kept())
        held = look(rules)
        assert isinstance(held, Held)
        assert held.kind == "signature"
        assert look(replace(rules, vouched=tip)) == look(Rules()) == Unchanged(tip=tip)


@needs_gpg
def test_without_gpg_it_says_what_to_install(pgp: Signing, monkeypatch: pytest.MonkeyPatch) -> None:
    pgp.allowed.write_bytes(exported("ada"))
    tools = pgp.root / "bin"
    tools.mkdir()
    (tools / "git").symlink_to(str(shutil.which("git")))
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tools))
        assert "gpg, which checks its signature, is not on this machine" in pgp.refused("ada")
