"""What a pass asks of the task server: HTTP requests, counted by a proxy between a real runner and a real server.

A fleet that may start nothing (`max_running: 0`) has all its tasks waiting, so every pass asks the same.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.bench.conftest import Figures
from tests.e2e.world import RECIPE, World, pool
from tests.integration.passes import Runner, faults, runner
from tests.integration.tinytask_servers import served
from tests.integration.weather import Weather
from tsched.model.units import count
from tsched.tasks.wire import PAGE

LIMITS = (
    "apiVersion: tsched/v1\nkind: Limits\nmax_running: 0\nruntimes:\n  work: {argv: [sleep, inf], evidence: exit}\n"
)
MORE = 3  # requests more than queues, at most
PASSES = 3


@contextmanager
def waiting(folder: Path, *, queues: int, agents: int, tasks: int) -> Iterator[tuple[Runner, Weather]]:
    """A runner whose agents serve so many queues of a served task server, in which so many tasks wait."""
    world = World(folder / "world")
    names = [f"agent-{number:05d}" for number in range(agents)]
    pools = {f"q{number:03d}": pool(f"q{number:03d}", *names[number::queues]) for number in range(queues)}
    world.recipes(*names, text=RECIPE)
    world.push("fleet", limits=LIMITS, **pools)
    with (
        served(folder / "served") as behind,
        closing(Weather(behind)) as weather,
        runner(world, TSCHED_TASKS=f"tinytask+{weather.base}") as one,
    ):
        with closing(sqlite3.connect(folder / "served/tasks.db")) as db, db:
            db.executemany(
                "INSERT INTO tasks (title, queue, created_at, updated_at) VALUES ('t', ?, 1, 1)",
                [(list(pools)[number % queues],) for number in range(tasks)],
            )
        yield one, weather


def asked(folder: Path, *, queues: int, agents: int, tasks: int) -> tuple[str, int]:
    """The size in words, and the requests of a pass."""
    with waiting(folder, queues=queues, agents=agents, tasks=tasks) as (one, weather):
        one.once()  # it finds out how the server is spoken to
        before = weather.requests
        for _ in range(PASSES):
            assert not faults(one.once())
        requests, left = divmod(weather.requests - before, PASSES)
        everything = one.host.tasks.waiting(queues=[f"q{number:03d}" for number in range(queues)], agents=[])
    assert requests and not left and len(everything) == tasks
    return f"{count(queues, 'queue')}, {agents:,} agents, {tasks:,} tasks ({requests} requests)", requests


@pytest.mark.parametrize(
    ("queues", "agents", "tasks"),
    [(10, 10, 30), (10, 100, 300), (10, 1_000, 3_000), (1, 100, 1_000), (100, 100, 1_000), (100, 1_000, 10_000)],
)
def test_requests_of_a_pass(tmp_path: Path, figure: Figures, queues: int, agents: int, tasks: int) -> None:
    size, requests = asked(tmp_path, queues=queues, agents=agents, tasks=tasks)
    assert figure("requests of a pass, less queues", size, requests - queues, most=MORE, unit="more")


def test_a_long_queue_is_read_in_pages(tmp_path: Path, figure: Figures) -> None:
    """No bar is kept here: what the figure is made of is pages of 500 tasks."""
    size, requests = asked(tmp_path, queues=1, agents=100, tasks=10_000)
    figure("requests of a pass, less queues", size, requests - 1, unit="more")
    assert requests <= 2 + 10_000 // PAGE
