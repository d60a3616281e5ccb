"""A remote that hangs, is slow or gone, and a mirror that is damaged: given up in time, mended, and work goes on."""

import os
import shutil
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.git_server import Half, served
from tests.integration.passes import World, faults, pool, runner
from tests.integration.test_mirror import newest
from tsched.gitops.mirror import Mirror
from tsched.model.errors import TransientError


@pytest.fixture
def world(tmp_path: Path) -> World:
    one = World(tmp_path)
    one.fleet(dev=pool("dev", "ada"))
    return one


def test_a_local_path_that_hangs_is_given_up_and_then_asked_by_a_process(world: World, tmp_path: Path) -> None:
    """As a file system does whose server is gone: no read of it ends."""
    packed = world.remote / "packed-refs"
    with closing(Mirror(tmp_path / "m", str(world.remote), "main", timeout=0.3)) as mirror:
        os.mkfifo(packed)
        for _ in range(2):
            with pytest.raises(TransientError, match=r"gave no whole answer within 0\.3 s"):
                mirror.poll()
            assert mirror._heads._asking, "nobody waits for it, and it goes on"
        with packed.open("wb"):  # who waits reads on to the end
            packed.unlink()
        mirror._timeout = 30.0
        assert newest(mirror) == world.git("rev-parse", "HEAD")


def test_half_a_pack_is_given_up_and_leaves_nothing(world: World, tmp_path: Path) -> None:
    for number in range(150):  # so many objects that git writes a pack
        world.file(f"docs/{number}", os.urandom(3000).hex())
    tip = world.push("big")
    with (
        served(tmp_path) as (host, _),
        closing(Half(host, most=100_000)) as line,
        closing(Mirror(tmp_path / "m", f"{line.base}/remote.git", "main")) as mirror,
    ):
        assert mirror.poll() == tip
        mirror._timeout = 1.5
        with pytest.raises(TransientError, match=r"gave no whole answer within 1\.5 s"):
            mirror.fetch(tip)
        assert list((mirror.folder / "objects/pack").iterdir()) == []
    with closing(Mirror(tmp_path / "m", str(world.remote), "main")) as mirror:
        assert newest(mirror) == tip


def test_a_remote_that_never_answers_costs_one_wait_and_tasks_go_on(world: World) -> None:
    with runner(world) as one, socket.create_server(("127.0.0.1", 0)) as silent:
        one.once()
        now = [1000.0]
        one.host.remote.clock = lambda: now[0]
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/x.git"
        hanging = Mirror(one.host.folder.mirror, address, "main", timeout=0.3)
        there, one.host.source = one.host.source, hanging
        task = world.add("quick")
        words = f"{address} gave no whole answer within 0.3 s: see that it is up, and the line to it"
        assert faults(one.once()) == [f"ERROR - Fetch failed, the applied revision keeps running: {words}"]
        hanging.poll = _never  # type: ignore[method-assign]
        assert faults(one.once()) == []
        assert one.ready()[0] == "FetchFailed"
        one.until(lambda: world.task(task)["status"] == "complete", "tasks go on")
        one.host.source = there
        tip = world.push("new", dev=pool("dev", "ada", "ben"))
        now[0] += 3600.0
        assert "The fleet repo's remote answers again, after 1h" in one.once()
        assert one.report()["fetched"] == tip
        hanging.close()


def _never() -> str:
    raise AssertionError("it was to be left alone")


def _truncated(mirror: Path) -> None:
    for path in (mirror / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            os.truncate(path, path.stat().st_size // 2)


def _empty(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.mkdir()


def _a_file(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.write_text("no repository")


def _a_link(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.symlink_to("nowhere")


HARMS: dict[str, Callable[[Path], None]] = {
    "truncated": _truncated,
    "no HEAD": lambda mirror: (mirror / "HEAD").unlink(),
    "no objects": lambda mirror: shutil.rmtree(mirror / "objects"),
    "empty": _empty,
    "a file": _a_file,
    "a link": _a_link,
}


def test_whatever_becomes_of_the_mirror_a_running_runner_mends_it(world: World) -> None:
    """As a daemon has it, with the repository open; test_mirror has those that are opened anew."""
    with runner(world) as one:
        one.once()
        for number, (name, harm) in enumerate(HARMS.items()):
            world.git("gc", "-q") if number == 0 else None
            harm(one.host.folder.mirror)
            tip = world.push(name, dev=pool("dev", "ada", limit=2 + number))
            said = [one.once()]
            while one.report()["fetched"] != tip and len(said) < 3:
                said.append(one.once())
            assert one.report()["fetched"] == tip, f"{name}: {said}"
            assert sum(len(faults(text)) for text in said) <= 1, f"{name}: {said}"
            assert one.host.remote.outage is None, name
