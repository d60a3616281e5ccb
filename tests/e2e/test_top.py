"""`tsched top` on a real terminal, and without one."""

import os
import pty
import select
import sys
from pathlib import Path

from tests.e2e.world import World, pool, until


def test_it_follows_what_happens_until_q(world: World) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(world.root)
        environ = {**world.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        os.execve(sys.executable, [sys.executable, "-m", "tsched", "top", "--interval", "0.2"], environ)
    seen = ""

    def shows(words: str) -> bool:
        nonlocal seen
        while select.select([terminal], [], [], 0.05)[0]:
            try:
                seen += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # the other side has ended
                break
        return words in seen

    until(lambda: shows("generation 1"), "the first screen")
    world.add("hold it")
    world.once()
    until(lambda: shows("hold it"), "the run's task is on the screen")
    os.write(terminal, b"q")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert shows("\x1b[?1049l"), "the terminal is given back as it was"
    os.close(terminal)


def test_without_a_terminal_it_draws_once_or_says_so(world: World, tmp_path: Path) -> None:
    world.fleet(dev=pool("dev", "ada"))
    world.once()
    assert "dev" in world.run("top", "--once", check=0, COLUMNS="100", LINES="30").stdout
    assert "--once" in world.run("top", check=2).stderr
