"""A drill: runners in network namespaces of their own share a task server, and are cut off from it in turn.

All of it is in a namespace of its own, and nothing is seen outside. The long form (root needs no `--map-root-user`):
`unshare --map-root-user --net python -m tests.e2e.cut_off --runners 3 --tasks 60 --cuts 12`
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.fleets_of_runners import Report, Runner, Served, fleet, judge, shown, wait
from tests.e2e.world import until
from tests.integration import tinytask_servers

HUB = "10.9.0.1"  # where the task server is
TOKEN = "t" * 32
NOTICED = re.compile(r"ERROR - .*(does not answer|no whole answer)")
MEANWHILE = 3  # tasks that the others end while one is cut off


@dataclass
class Cable:
    """From the hub to a machine's namespace, which lasts as long as the process that holds it."""

    number: int
    holder: int

    @property
    def namespace(self) -> str:
        return f"/proc/{self.holder}/ns/net"

    def lay(self) -> None:
        here, there, net = f"hub{self.number}", f"machine{self.number}", f"10.9.{self.number + 1}"
        ip(f"link add {here} type veth peer name {there} netns {self.holder}")
        ip(f"address add {net}.1/24 dev {here}")
        ip(f"link set {here} up")
        for words in ("link set lo up", f"address add {net}.2/24 dev {there}", f"link set {there} up",
                      f"route add default via {net}.1"):  # fmt: skip
            subprocess.run(["nsenter", f"--net={self.namespace}", "ip", *words.split()], check=True)

    def cut(self) -> None:
        ip(f"link set hub{self.number} down")

    def mend(self) -> None:
        ip(f"link set hub{self.number} up")


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


@contextmanager
def cable(number: int) -> Iterator[Cable]:
    """A machine's namespace and the line to it."""
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo made; exec sleep infinity"], stdout=-1) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"made\n"
            one = Cable(number, holder.pid)
            one.lay()
            yield one
        finally:
            holder.kill()


def drill(root: Path, *, runners: int, tasks: int, cuts: int, seed: int) -> Report:
    """Let `runners` do `tasks` while one of them after the other is cut off with a run under way, until it notices.

    Kills none: so no task may have had a second run. `root` must be an empty folder.
    """
    chance = random.Random(seed)
    ip("link set lo up")
    ip(f"address add {HUB}/32 dev lo")
    with ExitStack() as opened:
        base = opened.enter_context(tinytask_servers.served(root / "server", token=TOKEN, host=HUB))
        server = Served(base, TOKEN)
        opened.enter_context(closing(server.http))
        cables = [opened.enter_context(cable(number)) for number in range(runners)]
        team = [Runner(root, one.number, server, namespace=one.namespace) for one in cables]
        fleet(team[0].world)
        for one in team:
            one.world.environ["TSCHED_TASKS_TOKEN"] = TOKEN
            opened.callback(one.stop)
            one.start()
        ids: list[str] = []
        for number in range(cuts):
            due = tasks * (number + 1) // cuts
            ids += [server.add(number) for number in range(len(ids), due)]
            _cut_off(chance.choice(list(zip(cables, team, strict=True))), server, chance)
        wait(server, team)
        return judge(root, ids, server, team, kills=0)


def _cut_off(machine: tuple[Cable, Runner], server: Served, chance: random.Random) -> None:
    """Cut a machine off with a run under way, until others have done some of what was left, or all."""
    line, runner = machine
    until(lambda: runner.left() or not _open(server), "it is at work")
    time.sleep(chance.uniform(0.0, 0.3))  # the moment is what is drawn
    log = runner.world.root / "daemon.log"
    known = len(log.read_text())
    line.cut()
    before = _open(server)
    held = {one.split(":")[1].strip() for one in runner.left()}
    until(lambda: len(_open(server)) <= max(len(held), len(before) - MEANWHILE), "the others go on")
    until(lambda: NOTICED.search(log.read_text()[known:]), "it notices")
    line.mend()


def _open(server: Served) -> Sequence[str]:
    return [one for one, status in server.ends().items() if status != "complete"]


def main() -> int:
    known = argparse.ArgumentParser(description=__doc__)
    for name, number in (("runners", 3), ("tasks", 60), ("cuts", 12), ("seed", 1)):
        known.add_argument(f"--{name}", type=int, default=number)
    given = known.parse_args()
    with tempfile.TemporaryDirectory(prefix="cut-") as root:
        report = drill(Path(root), **vars(given))
    return shown(report, f"cuts={given.cuts}")


if __name__ == "__main__":
    sys.exit(main())
