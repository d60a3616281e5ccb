"""A remote by HTTP is asked in this process where git would go the same way, by git elsewhere, and leaks nothing."""

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import ConfigLevel

from tests.integration.git_server import GitServer, Half, served
from tests.integration.passes import World, pool, until
from tsched.gitops.heads import MANY, REFUSALS, Heads
from tsched.gitops.mirror import BranchMissing, Mirror, RemoteUnreachable
from tsched.gitops.remotes import remote_of
from tsched.model.errors import TransientError

SECRET = "c4n4ry"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Of a person who has set nothing."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    usual = pygit2.settings.search_path[ConfigLevel.GLOBAL]  # libgit2 asks for HOME once in a process's life
    pygit2.settings.search_path[ConfigLevel.GLOBAL] = str(tmp_path / "home")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    one = World(tmp_path)
    one.fleet(dev=pool("dev", "ada"))
    yield one
    pygit2.settings.search_path[ConfigLevel.GLOBAL] = usual


@contextmanager
def mirror_of(world: World, address: str, *, timeout: float = 60.0) -> Iterator[Mirror]:
    with closing(Mirror(world.remote.parent / "m", address, "main", timeout=timeout)) as mirror:
        yield mirror


def polled(mirror: Mirror, server: type[GitServer]) -> tuple[str, set[str]]:
    """What one more poll finds, and who asked the server meanwhile."""
    server.asked.clear()
    tip = mirror.poll()
    return tip, {"libgit2" if "libgit2" in agent else "git" for agent, _ in server.asked}


def settings(world: World, text: str) -> None:
    (world.remote.parent / "home/.gitconfig").write_text(text)


def test_each_new_commit_is_seen_and_no_process_started(world: World) -> None:
    with served(world.remote.parent) as (host, server), mirror_of(world, f"http://{host}/remote.git") as mirror:
        first = world.git("rev-parse", "HEAD")
        assert polled(mirror, server) == (first, {"libgit2"})
        second = world.push(dev=pool("dev", "ada", "ben"))
        assert polled(mirror, server) == (second, {"libgit2"})
        world.git("--git-dir", str(world.remote), "branch", "-m", "main", "other")
        with pytest.raises(BranchMissing, match=r"has no branch main \(it has other\)"):
            mirror.poll()


def test_credentials_of_the_address_go_to_its_server_alone(world: World) -> None:
    tip = world.git("rev-parse", "HEAD")
    with (
        served(world.remote.parent, f"bot:{SECRET}") as (host, server),
        served(world.remote.parent, "x:y") as (other, thief),
    ):
        with mirror_of(world, f"http://bot:{SECRET}@{host}/remote.git") as mirror:
            assert polled(mirror, server) == (tip, {"libgit2"})
        away = f"http://bot:{SECRET}@{host}/to/http://{other}/remote.git"
        with mirror_of(world, away) as mirror, pytest.raises(RemoteUnreachable):
            mirror.poll()
        assert {authorization for _, authorization in thief.asked} == {""}
        assert SECRET not in "\n".join((*server.seen, *thief.seen))


def test_a_wrong_password_is_said_once_and_in_gits_words(world: World) -> None:
    with served(world.remote.parent, f"bot:{SECRET}") as (host, server):
        with (
            mirror_of(world, f"http://bot:wrong@{host}/remote.git") as mirror,
            pytest.raises(RemoteUnreachable, match="Authentication failed"),
        ):
            mirror.poll()
        libgit2 = [authorization for agent, authorization in server.asked if "libgit2" in agent]
        assert len(libgit2) <= 2, "each wrong guess counts towards an account's being locked"


def test_who_needs_a_credential_helper_is_asked_by_git_from_then_on(world: World) -> None:
    helper = f"!f() {{ echo username=bot; echo password={SECRET}; }}; f"
    settings(world, f'[credential]\n\thelper = "{helper}"\n')
    tip = world.git("rev-parse", "HEAD")
    with (
        served(world.remote.parent, f"bot:{SECRET}") as (host, server),
        mirror_of(world, f"http://{host}/remote.git") as one,
    ):
        for _ in range(REFUSALS):
            assert polled(one, server) == (tip, {"libgit2", "git"})
        assert polled(one, server) == (tip, {"git"})


@pytest.mark.parametrize("how", ["header", "another address", "proxy", "authority"])
def test_a_persons_settings_of_the_way_are_gits_to_follow(
    world: World, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip = world.git("rev-parse", "HEAD")
    with served(world.remote.parent) as (host, server):
        address = f"http://{host}/remote.git"
        if how == "header":
            settings(world, '[http "http://127.0.0.1/"]\n\textraHeader = "X: y"\n')
        elif how == "another address":
            address = f"http://{host}/none.git"
            settings(world, f'[url "http://{host}/remote.git"]\n\tinsteadOf = {address}\n')
        elif how == "proxy":
            monkeypatch.setenv("http_proxy", f"http://{host}")
        else:
            monkeypatch.setenv("GIT_SSL_CAINFO", "/nowhere")
        with mirror_of(world, address) as mirror:
            assert polled(mirror, server) == (tip, {"git"})


def test_settings_count_from_when_they_are_made(world: World) -> None:
    with served(world.remote.parent) as (host, server), mirror_of(world, f"http://{host}/remote.git") as mirror:
        assert polled(mirror, server)[1] == {"libgit2"}
        settings(world, '[http]\n\textraHeader = "X: y"\n')
        assert polled(mirror, server)[1] == {"git"}


def test_a_server_with_very_many_names_is_asked_by_git(world: World) -> None:
    """As one is that keeps a name for each pull request."""
    tip = world.git("rev-parse", "HEAD")
    lines = "".join(f"create refs/pull/{number}/head {tip}\n" for number in range(MANY))
    subprocess.run(["git", "-C", str(world.remote), "update-ref", "--stdin"], input=lines, text=True, check=True)
    with served(world.remote.parent) as (host, server), mirror_of(world, f"http://{host}/remote.git") as mirror:
        assert polled(mirror, server) == (tip, {"libgit2"})
        assert polled(mirror, server) == (tip, {"git"})


def test_a_server_in_trouble_is_asked_without_a_process_when_it_is_well_again(world: World) -> None:
    tip = world.git("rev-parse", "HEAD")
    with served(world.remote.parent) as (host, server), mirror_of(world, f"http://{host}/remote.git") as mirror:
        server.trouble = 503
        for _ in range(REFUSALS + 1):
            with pytest.raises(RemoteUnreachable, match="503"):
                mirror.poll()
        server.trouble = 0
        assert polled(mirror, server) == (tip, {"libgit2"})


def test_while_a_question_is_unanswered_git_asks_the_next(world: World) -> None:
    tip = world.git("rev-parse", "HEAD")
    with (
        served(world.remote.parent) as (host, server),
        closing(Half(host, most=0)) as line,
        mirror_of(world, f"{line.base}/remote.git", timeout=0.5) as mirror,
    ):
        mirror._open_or_make()
        with pytest.raises(TransientError, match=r"gave no whole answer within 0\.5 s"):
            mirror.poll()
        line.most, mirror._timeout = 1 << 30, 60.0
        assert polled(mirror, server) == (tip, {"git"})


def test_who_is_left_behind_keeps_the_repository_that_it_uses(world: World) -> None:
    """libgit2 ends the process where one thread closes or reads a repository that another is asking by."""
    opened: list[pygit2.Repository] = []

    def repository() -> pygit2.Repository:
        opened.append(pygit2.init_repository(str(world.remote.parent / "own"), bare=True))
        return opened[-1]

    with served(world.remote.parent) as (host, _), closing(Half(host, most=0)) as line:
        heads = Heads(remote_of(f"{line.base}/remote.git"), "main", repository=repository)
        with pytest.raises(TransientError):
            heads.ask(0.5)
        assert len(opened) == 1
        line.close()
        until(lambda: not heads._asking, "it has no answer to wait for")
    with served(world.remote.parent) as (host, _), mirror_of(world, f"http://{host}/remote.git") as mirror:
        heads = Heads(remote_of(f"http://{host}/remote.git"), "main", repository=repository)
        assert heads.ask(60.0) == heads.ask(60.0)
        assert len(opened) == 2, "one serves all questions that are answered"
        assert mirror._another() is not mirror._open_or_make()
