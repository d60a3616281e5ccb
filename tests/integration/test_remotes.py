"""Hostile addresses, settings and remotes: git starts nothing for them, and credentials stay out of its arguments."""

from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.world import World
from tests.integration.git_server import served
from tsched.executors import workspace
from tsched.gitops.git import clean_environment, git
from tsched.gitops.mirror import Mirror, RemoteUnreachable
from tsched.gitops.remotes import remote_of
from tsched.gitops.worktree import Worktree
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.fleet import Workspace
from tsched.settings import load

USER, PASSWORD = "bot@acme", "canary/p@ss:wörd"
HOSTILE = [
    *("", "-x", "-u./x", "--upload-pack=touch x", "--config=core.sshCommand=touch x", "a\nb", "a\0b", "a\tb"),
    *("ext::sh -c 'touch x'", "fd::17", "x-y::z", "::x", "ftp://host/x", "git://host/x", "EXT://x", "gopher://h/x"),
    *("ssh://-oProxyCommand=touch%20x/y", "ssh://%2doProxyCommand=x/y", "ssh://-l@host/x", "-oProxyCommand=x:y"),
    *("git@-oProxyCommand=x:y", "host:-x", "git@host:--upload-pack=x", "-l@host:x", "ssh://git:pw@host/x"),
    *("http://example.org/x", "http://127.0.0.1.example.org/x", "http://127.0.0.1@example.org/x", "HTTP://example.org/x"),
    *("https://u:p%0aquit=1@host/x", "https://[::1/x"),
]  # fmt: skip
SOUND = [
    *("/srv/fleet.git", "../x", "./a:b", "https://example.org/x", "https://u:p@example.org/x", "file:///srv/x"),
    *("ssh://git@example.org:22/x", "git@example.org:a/b.git", "example.org:x", "[::1]:x", "ssh://[::1]/x"),
    *("http://localhost:3000/x", "http://127.0.0.1/x", "http://[::1]:80/x"),
]


@pytest.mark.parametrize("address", HOSTILE)
def test_an_address_that_smuggles_something_is_refused_in_words(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"is no address of a git repository|a line's end in") as caught:
        Mirror(tmp_path / "m", address, "main")
    assert "\n" not in str(caught.value)
    if "%0a" not in address:
        with pytest.raises(ConfigurationError, match=r"workspace\.repo: .* is no address"):
            workspace.address(Workspace(repo=address))


@pytest.mark.parametrize("address", SOUND)
def test_an_address_that_people_use_is_taken(address: str) -> None:
    assert remote_of(address).address == address.replace("u:p@", "")
    assert workspace.address(Workspace(repo=address)).endswith(address.removeprefix("..").removeprefix("."))


@pytest.mark.parametrize("address", ["ext::sh", "-x", "http://example.org/x", "ssh://-oProxyCommand=x/y"])
def test_a_setting_that_smuggles_something_is_refused_by_its_name(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"TSCHED_REPO \(environment\) is "):
        load({}, environ={"TSCHED_REPO": address}, cwd=tmp_path)


@pytest.mark.parametrize("ref", ["-x", "--upload-pack=x", "a b", "a\nb", "x:y", "+x", "^x", "a~1", "@{-1}", "*"])
def test_a_workspace_ref_that_smuggles_something_is_refused(ref: str) -> None:
    with pytest.raises(ConfigurationError, match="is no branch, tag or commit"):
        workspace.address(Workspace(repo="/x", ref=ref))


@pytest.mark.parametrize(
    "setting",
    [
        '[protocol "ext"]\n allow = always\n[url "ext::{touch} "]\n insteadOf = {remote}\n',
        "[core]\n hooksPath = {hooks}\n fsmonitor = {touch}\n",
        '[url "-oProxyCommand={touch}:"]\n insteadOf = {remote}\n[protocol]\n allow = always\n',
    ],
)
def test_nothing_in_a_persons_git_settings_makes_a_fetch_start_a_program(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    world.push(dev="x: 1\n")
    touched, hooks = tmp_path / "touched", tmp_path / "hooks"
    hooks.mkdir()
    for name in ("reference-transaction", "post-checkout", "pre-push", "fsmonitor-watchman"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {touched}\n")
        (hooks / name).chmod(0o755)
    address = f"file://{world.remote}"
    words = setting.format(touch=f"touch {touched}", remote=address, hooks=hooks)
    (tmp_path / ".gitconfig").write_text(words)
    monkeypatch.setenv("HOME", str(tmp_path))
    remote = remote_of(address)
    mirror = tmp_path / "m"
    for call in (
        ("ls-remote", "--end-of-options", remote.address),
        ("clone", "--quiet", "--end-of-options", remote.address, str(mirror)),
    ):
        try:
            git(*call, environ=remote.environ)
        except TransientError as error:
            assert "not allowed" in str(error) or "strange" in str(error), error
    assert not touched.exists()


def test_gits_environment_has_none_of_our_secrets_and_nothing_that_redirects_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("GIT_DIR", "GIT_PROXY_COMMAND", "GIT_EXTERNAL_DIFF", "GIT_CONFIG_COUNT", "GIT_EXEC_PATH", "GIT_SSH"):
        monkeypatch.setenv(name, "canary")
    for name in ("TSCHED_TASKS_TOKEN", "TSCHED_SERVE_TOKEN", "TINYSCHEDULER_X", "SSH_ASKPASS", "GIT_ASKPASS"):
        monkeypatch.setenv(name, "canary")
    seen = clean_environment()
    assert "canary" not in seen.values()
    assert (seen["GIT_TERMINAL_PROMPT"], seen["GIT_ALLOW_PROTOCOL"]) == ("0", "https:ssh:file")


def test_a_commit_changes_nothing_of_the_mirror_but_its_objects(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.push(dev="x: 1\n")
    with closing(Mirror(tmp_path / "m", f"file://{world.remote}", "main")) as mirror:
        mirror.fetch(mirror.poll())
        before = {name: (mirror.folder / name).read_bytes() for name in ("config", "HEAD")}
        for name in ("config", ".git-config", "hooks/post-update", "HEAD", ".gitmodules", ".gitattributes"):
            world.file(name, '[core]\n fsmonitor = touch x\n[submodule "x"]\n path = x\n url = ext::sh\n')
        world.push("hostile")
        mirror.fetch(mirror.poll())
        assert {name: (mirror.folder / name).read_bytes() for name in before} == before
        assert not any((mirror.folder / "hooks").glob("post-update"))


def test_credentials_reach_the_server_and_no_argument_file_or_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    tip = world.push(dev="x: 1\n")
    git("config", "http.receivepack", "true", cwd=world.remote)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.gitconfig").write_text(f"[credential]\n helper = store --file {tmp_path}/kept\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with served(tmp_path, f"{USER}:{PASSWORD}") as (host, server):
        address = f"http://{quote(USER)}:{quote(PASSWORD, safe='')}@{host}/remote.git"
        with closing(Mirror(tmp_path / "m", address, "main")) as mirror:
            mirror.fetch(mirror.poll())
            assert mirror.files(tip).entries
        with Worktree.clone(address, tmp_path / "edit") as tree:
            tree.write({"pools/dev.yaml": b"x: 2\n"})
            pushed = tree.commit("two")
            tree.push()
        assert world.git("ls-remote", str(world.remote), "main").startswith(pushed)
        wrong = Mirror(tmp_path / "n", address.replace("p%40ss", "wrong"), "main")
        with closing(wrong), pytest.raises(RemoteUnreachable) as caught:
            wrong.poll()
    assert any("git-remote-http" in one or "remote-http" in one for one in server.seen)
    told = "\n".join((*server.seen, str(caught.value)))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    held = b"\n".join(path.read_bytes() for path in files).decode(errors="replace")
    for part in (PASSWORD, quote(PASSWORD, safe=""), "canary"):
        assert part not in told
        assert part not in held
    assert not (tmp_path / "kept").exists()


def test_a_remote_that_sends_elsewhere_is_not_followed_to_this_machines_files(tmp_path: Path) -> None:
    World(tmp_path).push(dev="x: 1\n")
    with served(tmp_path) as (host, _):
        mirror = Mirror(tmp_path / "m", f"http://{host}/away", "main")
        with closing(mirror), pytest.raises(RemoteUnreachable, match="unable to access"):
            mirror.poll()
