"""kill -9 at any moment: afterwards the state loads, old or new, never a mixture."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tsched.state import applied, events
from tsched.state.database import Database
from tsched.state.folder import StateFolder
from tsched.state.leases import Leases

ROUNDS = 30

# Forks a writer for each line it reads, so that a round costs milliseconds; says the writer's pid once it has begun.
BREEDER = """
import os, sys
from dataclasses import replace
from pathlib import Path
from tsched.model.event import Event
from tsched.model.fleet import Agent, Fleet, Pool, Recipe, RecipeFile
from tsched.model.lifecycle import Lifecycle
from tsched.model.run import Lease, LeaseState
from tsched.state import applied, events
from tsched.state.database import Database
from tsched.state.folder import StateFolder
from tsched.state.leases import Leases

folder = StateFolder(Path(sys.argv[1]))

def recipe(path, word):
    file = RecipeFile(path=path, blob=f"{path} {word}", text=word)
    return Recipe(path=path, title="T", prompt=word, files=(file,))

def fleet(word):
    recipes = {path: recipe(path, word) for path in ("recipes/a.yaml", "recipes/b.yaml")}
    agents = tuple(Agent(name=path[8], recipe=path) for path in recipes)
    return Fleet(revision=word, pools=(Pool(name="dev", queue="dev", agents=agents),), recipes=recipes)

def write():
    db, leases = Database.open(folder.db), Leases(folder.running)
    record = applied.load(db)
    print(os.getpid(), flush=True)
    while True:
        word = str(record.generation + 1)
        leases.write(Lease(
            task_id="7", agent="a", pid=1, recipe="a.yaml", started_at="", heartbeat="", host="h",
            state=LeaseState.CLAIMING, run_id="7-1-a", attempt=1, revision=word, pool="dev", queue="dev",
            executor="local", reason=word * 1000,
        ))
        with db.transaction():
            rows = {(name, "dev"): Lifecycle(agent=name, queue="dev", pool="dev", revision=word) for name in "ab"}
            events.append(db, [Event(time=0.0, kind="k", subject="s", message=word)])
            record = applied.adopt(db, record, fleet=fleet(word), lifecycles=rows)
            events.append(db, [Event(time=0.0, kind="k", subject="s", message=word)])

for line in sys.stdin:
    writer = os.fork()
    if not writer:
        write()
    os.waitpid(writer, 0)
    print("dead", flush=True)
"""


@contextmanager
def breeder(root: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", BREEDER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.stdin.close() if process.stdin else None


def test_no_kill_tears_a_lease_or_mixes_adoptions(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    chance = random.Random(7)
    reached, patience = 0, 0.03
    with breeder(folder.root) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(ROUNDS):
            process.stdin.write("go\n")
            process.stdin.flush()
            writer = int(process.stdout.readline())
            time.sleep(chance.random() * patience)  # where in the loop it dies is left to chance
            os.kill(writer, signal.SIGKILL)
            assert process.stdout.readline() == "dead\n"
            before, reached = reached, check(folder, at_least=reached)
            patience = patience if reached > before else min(2 * patience, 1.0)  # a disk that others keep busy
    assert reached, "no writer ever wrote: the test proved nothing"


def check(folder: StateFolder, *, at_least: int) -> int:
    with closing(Database.open(folder.db)) as db:
        record = applied.load(db)
        told = [event.message for _, event in events.newest(db, 2)]
    scan = Leases(folder.running).read_all()
    assert scan.unreadable == ()
    assert record.generation >= at_least
    if record.fleet is None:
        return 0
    word = str(record.generation)
    assert record.fleet.revision == word
    assert {(recipe.prompt, recipe.files[0].text) for recipe in record.fleet.recipes.values()} == {(word, word)}
    assert [row.revision for row in record.lifecycles.values()] == [word, word]
    assert told == [word, word]
    lease = scan.leases["7"]
    assert lease.revision in (word, str(record.generation + 1))
    assert lease.reason == lease.revision * 1000
    return record.generation
