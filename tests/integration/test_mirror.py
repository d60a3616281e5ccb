"""The mirror against real remotes: every way in which they can be in trouble has a name and changes nothing."""

import hashlib
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pygit2.remotes import RemoteHead

from tests.e2e.world import World
from tests.integration.git_server import served
from tsched.gitops import heads
from tsched.gitops.mirror import BranchMissing, EmptyRepository, Mirror, RemoteUnreachable
from tsched.gitops.worktree import Worktree, make_bare
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.files import FileKind


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def mirror(world: World, tmp_path: Path) -> Iterator[Mirror]:
    with closing(Mirror(tmp_path / "mirror.git", str(world.remote), "main")) as one:
        yield one


def newest(mirror: Mirror) -> str:
    tip = mirror.poll()
    mirror.fetch(tip)
    return tip


def test_the_tips_files_are_read_without_a_work_tree(world: World, mirror: Mirror) -> None:
    world.recipes("sub/deep")
    tip = world.push(dev="x: 1\n")
    assert newest(mirror) == tip
    files = mirror.files(tip)
    assert sorted(files.entries) == ["pools/dev.yaml", "recipes/sub/deep.yaml"]
    entry = files.entries["pools/dev.yaml"]
    assert (entry.kind, entry.size, files.read(entry)) == (FileKind.FILE, 5, b"x: 1\n")
    assert entry.blob == world.git("hash-object", "pools/dev.yaml")


def test_a_new_commit_is_seen_and_the_old_one_still_read(world: World, mirror: Mirror) -> None:
    first = world.push(dev="x: 1\n")
    newest(mirror)
    for number in range(5):
        tip = world.push(dev=f"x: {number + 2}\n")
        assert newest(mirror) == tip
        files = mirror.files(tip)
        assert files.read(files.entries["pools/dev.yaml"]) == f"x: {number + 2}\n".encode()
    assert mirror.files(first).entries.keys() == {"pools/dev.yaml"}
    assert mirror.is_ancestor(first, tip)
    assert not mirror.is_ancestor(tip, first)


def test_content_keys_follow_content_and_nothing_else(world: World, mirror: Mirror) -> None:
    first = world.push(dev="x: 1\n")
    other = world.push(dev="x: 2\n")
    world.file("README.md", "words")
    back = world.push(dev="x: 1\n")
    newest(mirror)
    keys = [mirror.files(one).content_key for one in (first, other, back)]
    assert keys[0] == keys[2] != keys[1]


def test_an_empty_remote(mirror: Mirror) -> None:
    with pytest.raises(EmptyRepository, match="holds no commit: push a fleet to its branch main"):
        mirror.poll()


def test_a_branch_that_is_not_there(world: World, tmp_path: Path) -> None:
    world.push(dev="x: 1\n")
    other = Mirror(tmp_path / "m", str(world.remote), "prod")
    with closing(other), pytest.raises(BranchMissing, match=r"no branch prod \(it has main\)"):
        other.poll()


def test_a_tag_of_the_branchs_name_is_not_the_branch(world: World, mirror: Mirror) -> None:
    first = world.push(dev="x: 1\n")
    world.git("tag", "main", first)
    world.git("push", "-q", "origin", "refs/tags/main")
    tip = world.push(dev="x: 2\n")
    assert newest(mirror) == tip


def test_a_remote_that_is_gone_and_back(world: World, mirror: Mirror, tmp_path: Path) -> None:
    tip = world.push(dev="x: 1\n")
    newest(mirror)
    shutil.move(world.remote, tmp_path / "away")
    with pytest.raises(RemoteUnreachable, match=r"does not appear to be a git repository|does not exist"):
        mirror.poll()
    assert mirror.files(tip).entries
    shutil.move(tmp_path / "away", world.remote)
    assert newest(mirror) == tip


def aged(world: World) -> None:
    """As if nothing had been written there for a minute."""
    for name in ("HEAD", "packed-refs", "refs/heads/main", "reftable/tables.list"):
        path = world.remote / name
        if path.exists() and time.time() - path.stat().st_mtime < 30:
            os.utime(path, (time.time() - 60,) * 2)


def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the remote is asked from now on, other than the times of its files."""
    found: list[str] = []
    branches = heads._branches

    def told(names: list[RemoteHead]) -> dict[str, str]:
        found.append("heads")
        return branches(names)

    monkeypatch.setattr(heads, "_branches", told)
    return found


def test_a_local_remote_that_nobody_wrote_to_is_not_opened(
    world: World, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip = world.push(dev="x: 1\n")
    newest(mirror)
    questions = asked(monkeypatch)
    assert [mirror.poll(), mirror.poll()] == [tip, tip]
    assert len(questions) == 2, "it was written to a moment ago: the next write might look the same"
    aged(world)
    assert [mirror.poll(), mirror.poll(), mirror.poll()] == [tip, tip, tip]
    assert len(questions) == 3


@pytest.mark.parametrize("how", ["push", "pack", "back", "other name", "gone", "packed and gone", "replaced"])
def test_whatever_becomes_of_a_local_remotes_branch_is_seen_at_once(
    world: World, mirror: Mirror, tmp_path: Path, how: str
) -> None:
    first = world.push(dev="x: 1\n")
    second = world.push(dev="x: 2\n")
    aged(world)
    assert [mirror.poll(), mirror.poll()] == [second, second]
    here = ("--git-dir", str(world.remote))
    wanted = first
    if how == "push":
        wanted = world.push(dev="x: 3\n")
    elif how == "pack":
        world.git(*here, "pack-refs", "--all")
        aged(world)
        assert [mirror.poll(), mirror.poll()] == [second, second]
        wanted = world.push(dev="x: 3\n")
    elif how == "back":
        world.git(*here, "update-ref", "refs/heads/main", first)
    elif how == "other name":
        other = "refs/heads/" + "a" * 24  # as long as a commit's own name
        world.git(*here, "update-ref", other, second)
        world.git(*here, "symbolic-ref", "refs/heads/main", other)
        aged(world)
        assert mirror.poll() == second
        world.git(*here, "update-ref", other, first)
    elif how.endswith("gone"):
        if how == "packed and gone":
            world.git(*here, "pack-refs", "--all")
            aged(world)
            assert [mirror.poll(), mirror.poll()] == [second, second]
        world.git(*here, "update-ref", "-d", "refs/heads/main")
        aged(world)
        with pytest.raises(EmptyRepository):
            mirror.poll()
        return
    else:
        shutil.copytree(world.remote, tmp_path / "copy")
        world.git("--git-dir", str(tmp_path / "copy"), "update-ref", "refs/heads/main", first)
        shutil.rmtree(world.remote)
        shutil.move(tmp_path / "copy", world.remote)
    aged(world)
    assert mirror.poll() == wanted


def test_links_and_submodules_are_named_and_a_large_files_size_is_known(world: World, mirror: Mirror) -> None:
    world.file("pools/large.yaml", "x" * (50 << 20))
    (world.clone / "recipes").mkdir()
    (world.clone / "recipes/link.yaml").symlink_to("/etc/passwd")
    world.git("add", "-A")
    world.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},recipes/module.yaml")
    world.git("commit", "-q", "-m", "odd")
    world.git("push", "-q", "origin", "HEAD:refs/heads/main")
    files = mirror.files(newest(mirror))
    kinds = {path: (file.kind, file.size) for path, file in files.entries.items()}
    assert kinds["recipes/link.yaml"][0] is FileKind.SYMLINK
    assert kinds["recipes/module.yaml"][0] is FileKind.SUBMODULE
    assert kinds["pools/large.yaml"] == (FileKind.FILE, 50 << 20)


def test_a_name_that_is_not_text_does_not_stop_the_reading(world: World, mirror: Mirror) -> None:
    (world.clone / "pools").mkdir()
    with open(os.fsencode(world.clone) + b"/pools/caf\xe9.yaml", "w") as file:
        file.write("x: 1\n")
    tip = world.push(dev="x: 1\n")
    newest(mirror)
    assert len(mirror.files(tip).entries) == 2


@pytest.mark.parametrize("harm", ["packs", "objects", "head", "everything"])
def test_a_damaged_mirror_is_made_anew(world: World, mirror: Mirror, harm: str) -> None:
    world.push(dev="x: 1\n")
    tip = world.push(dev="x: 2\n")
    newest(mirror)
    mirror.close()
    for path in list(mirror.folder.rglob("*")):
        if harm in ("packs", "everything") and path.is_file() and "objects" in path.parts:
            path.chmod(0o600)
            path.write_bytes(b"garbage")
        if harm == "everything" and path.is_file():
            path.write_bytes(b"\0")
    if harm == "objects":
        shutil.rmtree(mirror.folder / "objects")
    if harm == "head":
        (mirror.folder / "HEAD").write_text("nonsense")
    with closing(Mirror(mirror.folder, mirror.url, "main")) as again:
        for _ in range(3):  # the damage may be found only when a file is read; the next cycle then mends it
            try:
                files = again.files(newest(again))
                break
            except TransientError:
                continue
        assert files.read(files.entries["pools/dev.yaml"]) == b"x: 2\n"
        assert again.poll() == tip


@pytest.mark.parametrize("branch", ["--all", "a..b", "x y", "", "a:b", "refs/../x", "@{1}", "x.lock"])
def test_a_branch_name_that_is_none_is_refused(branch: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no branch name"):
        Mirror(tmp_path / "m", "/x", branch)


def test_a_hooks_environment_does_not_lead_astray(
    world: World, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tip = world.push(dev="x: 1\n")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "objects"))
    assert newest(mirror) == tip
    assert not (tmp_path / "index").exists()


def picture(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_borrowed_mirror_writes_nothing_to_its_lender(world: World, mirror: Mirror, tmp_path: Path) -> None:
    first = world.push(dev="x: 1\n")
    newest(mirror)
    before = picture(mirror.folder)
    tip = world.push(dev="x: 2\n")
    with closing(mirror.borrow(tmp_path / "borrowed")) as other:
        assert newest(other) == tip
        assert other.is_ancestor(first, tip)
        assert other.files(tip).entries
    assert picture(mirror.folder) == before


def test_borrowing_works_before_there_is_a_mirror(world: World, mirror: Mirror, tmp_path: Path) -> None:
    tip = world.push(dev="x: 1\n")
    with closing(mirror.borrow(tmp_path / "borrowed")) as other:
        assert newest(other) == tip
    assert not mirror.folder.exists()


def test_trailers_count_on_commits_with_the_tips_pools_alone(world: World, mirror: Mirror) -> None:
    base = world.push(dev="x: 1\n")
    world.push("old\n\nAllow: early", dev="x: 2\n")
    world.push("wanted\n\nAllow: yes", dev="x: 3\n")
    world.file("README.md", "words")
    tip = world.push("nothing to see")
    newest(mirror)
    assert mirror.trailers(base, tip, "allow") == ("yes",)
    assert mirror.trailers(tip, tip, "allow") == ()


def test_what_people_call_a_revision(world: World, mirror: Mirror) -> None:
    first = world.push(dev="x: 1\n")
    tip = world.push(dev="x: 2\n")
    newest(mirror)
    for text, commit in ((tip[:8], tip), ("HEAD", tip), ("main", tip), ("HEAD~1", first), ("main~1", first)):
        assert mirror.resolve(text) == commit
    for text in ("nope", "", "--all", "HEAD~9", "0" * 40):
        with pytest.raises(ConfigurationError, match="names no commit"):
            mirror.resolve(text)


def test_a_remote_by_http(world: World, tmp_path: Path) -> None:
    tip = world.push(dev="x: 1\n")
    with (
        served(tmp_path) as (host, _),
        closing(Mirror(tmp_path / "m", f"http://{host}/remote.git", "main")) as mirror,
    ):
        assert newest(mirror) == tip
        assert mirror.files(tip).entries
        with (
            closing(Mirror(tmp_path / "n", f"http://{host}/none.git", "main")) as none,
            pytest.raises(RemoteUnreachable),
        ):
            none.poll()


def test_a_remote_that_hangs_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x.git"
        mirror = Mirror(tmp_path / "m", address, "main", timeout=0.5)
        with closing(mirror), pytest.raises(TransientError, match=r"gave no whole answer within 0\.5 s"):
            mirror.poll()


def test_a_worktree_commits_and_reverts_without_any_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "empty"))
    make_bare(tmp_path / "remote.git")
    with Worktree.clone(str(tmp_path / "remote.git"), tmp_path / "work") as tree:
        tree.write({"pools/dev.yaml": b"x: 1\n"})
        tree.commit("one")
        tree.write({"pools/dev.yaml": b"x: 2\n"})
        second = tree.commit("two")
        with pytest.raises(ConfigurationError):
            tree.commit("nothing changed")
        back = tree.revert(second)
        tree.push()
    with closing(Mirror(tmp_path / "m", str(tmp_path / "remote.git"), "main")) as mirror:
        assert newest(mirror) == back
        files = mirror.files(back)
        assert files.read(files.entries["pools/dev.yaml"]) == b"x: 1\n"
