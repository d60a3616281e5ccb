"""What happens in a team's life while the program is killed: each act is played until it is wholly over."""

from collections.abc import Callable, Mapping

from tests.e2e.world import RECIPE, pool
from tests.faults.machine import ENDED, Machine, kill

TREE = "workspace: {{repo: {repo}, ref: main, keep: never, hooks: {{after_create: 'true', before_remove: 'true'}}}}\n"
QUICK, PATIENT = (f"drain: {{deadline: {deadline}, on_deadline: requeue}}\n" for deadline in ("1ms", "1h"))


def dev(*agents: str, drain: str = QUICK) -> str:
    return pool("dev", *agents, extra=drain, limit=2)


def tree(machine: Machine) -> str:
    """A pool whose runs have a git worktree each, of the fleet's own repository."""
    return pool("tree", "cy", extra=TREE.format(repo=machine.world.remote))


def talk(machine: Machine) -> str:
    """A pool whose runs go on with the conversation and the work of the run before."""
    kept = f"workspace: {{repo: {machine.world.remote}, ref: main, keep: on-failure}}\n"
    return pool("talk", "eve, runtime: goose, session: continue", extra=kept)


def begin(machine: Machine) -> None:
    """The fleet that all acts share."""
    machine.fleet(dev=dev("ada", "ben"), tree=tree(machine), qa=pool("qa", "dot"), talk=talk(machine))


def renew(machine: Machine) -> None:
    """Other recipes: breakers that kills have opened are closed."""
    machine.world.recipes("ada", "ben", "cy", "dot", "eve", text=f"{RECIPE}# {machine.kills}\n")
    machine.world.push("other recipes")


def work(machine: Machine) -> None:
    """Tasks that succeed: one leaves processes behind, one waits for another."""
    first = machine.add("work")
    machine.until_ended(first, machine.add("fork"), machine.add("work", after=first))


def fail(machine: Machine) -> None:
    """A new revision, and a task that never succeeds."""
    machine.world.recipes("dot", text=f"{RECIPE}# {len(machine.tasks)}\n")
    tip = machine.world.push("another recipe")
    machine.until(lambda: machine.revision() == tip, "the revision is applied")
    machine.until_ended(machine.add("fail", queue="qa"))


def drain(machine: Machine) -> None:
    """An agent that is at work is removed, and comes back."""
    task = machine.add("hold", assign="ben")
    machine.until_running(task)
    machine.world.push("without ben", dev=dev("ada"))
    machine.until(lambda: ("ben", "dev") not in machine.serving(), "ben drains")
    machine.open(task)
    machine.until_ended(task)
    tip = machine.world.push("with ben", dev=dev("ada", "ben"))
    machine.until(lambda: machine.revision() == tip, "ben is back")


def regret(machine: Machine) -> None:
    """A removal is taken back while the agent drains: the request to stop at its deadline is recalled."""
    tip = machine.world.push("patience", dev=dev("ada", "ben", drain=PATIENT))
    machine.until(lambda: machine.revision() == tip, "drains take an hour")
    task = machine.add("hold", assign="ben")
    machine.until_running(task)
    machine.world.push("without ben", dev=dev("ada", drain=PATIENT))
    asked = machine.state.runs
    machine.until(lambda: list(asked.glob(f"{task}-*/stop")) or not machine.has("ben"), "ben is to stop in an hour")
    tip = machine.world.push("with ben", dev=dev("ada", "ben"))
    machine.until(lambda: machine.revision() == tip, "ben is back")
    machine.open(task)
    machine.until_ended(task)


def worktree(machine: Machine) -> None:
    """Work in a git worktree, and work that was left unsaved there."""
    machine.world.recipes("cy", text=f"{RECIPE}# {len(machine.tasks)}\n")
    machine.world.push("another recipe")
    machine.until_ended(machine.add("work", queue="tree"), machine.add("unsaved", queue="tree"))


def cancel(machine: Machine) -> None:
    """A person takes a task back while its agent, which does not heed TERM, is at work."""
    task = machine.add("stubborn")
    machine.until_running(task)
    machine.queue.cancel(task)
    machine.until_ended(task)


def halt(machine: Machine) -> None:
    """An operator stops everything and goes on."""
    task = machine.add("hold")
    machine.until_running(task)
    machine.order("stop", "--now")
    machine.until(lambda: machine.task(task).status == "idle", "the task is back")
    machine.open(task)
    machine.order("resume")
    machine.until_ended(task)


def lose(machine: Machine) -> None:
    """A shim is killed, and then an agent."""
    for victim in ("pid", "agent_pid"):
        task = machine.add("hold")
        lease = machine.until_running(task)
        kill(int(str(lease[victim])))
        machine.open(task)
        machine.until_ended(task)


def reject(machine: Machine) -> None:
    """A bad commit, then a good one."""
    bad = machine.world.push("bad", dev="kind: Pool\n")
    machine.until(lambda: f"{bad[:12]} rejected" in machine.log.read_text(), "it is rejected")
    tip = machine.world.push("good", dev=dev("ada", "ben"))
    machine.until(lambda: machine.revision() == tip, "the good one is applied")


def converse(machine: Machine) -> None:
    """A run goes on where the one before ended; what a task leaves that never succeeds is removed by a person."""
    machine.world.recipes("eve", text=f"{RECIPE}# {len(machine.tasks)}\n")
    machine.world.push("another recipe")
    tasks = [machine.add(title, queue="talk") for title in ("talk", "fail")]
    machine.until(lambda: all(machine.task(one).status in ENDED for one in tasks), f"tasks {tasks} end")
    machine.until(lambda: not machine.runs(), "their runs are settled")
    for kept in machine.kept():
        machine.order("workspace", "remove", kept)
    machine.until_ended(*tasks)


def damage(machine: Machine) -> None:
    """While it is down the history and the mirror are damaged, and a lease was half written by a shim."""
    machine.until(machine.revision, "a fleet is applied")
    machine.stop()
    machine.state.history_db.write_bytes(b"no database" * 1000)
    (machine.state.mirror / "HEAD").write_text("none")
    (machine.state.running / f".task_{machine.add('work')}.json.tmp").touch()
    machine.again()
    machine.until_ended(machine.add("work"))
    tip = machine.world.push("after the damage")
    machine.until(lambda: machine.revision() == tip, "the mirror is made anew")


def move(machine: Machine) -> None:
    """The state folder is taken for a copy of another runner's, with a run of that one's, and gets its own id."""
    machine.until(machine.revision, "a fleet is applied")
    machine.stop()
    (machine.state.root / "runner_home.json").write_text('{"host": "elsewhere", "machine": "", "file": 0}')
    for place in (machine.state.runs, machine.state.workspaces):
        (place / "run_of_another").mkdir(exist_ok=True)
    machine.order("runner", "renew")
    machine.again()
    machine.until_ended(machine.add("work"))


def reboot(machine: Machine) -> None:
    """The machine goes down with a run of each kind on it."""
    tasks = [machine.add(title) for title in ("hold", "stubborn", "fork")]
    for task in tasks[:2]:
        machine.until_running(task)
    machine.reboot()
    machine.queue.cancel(tasks[1])
    machine.open(tasks[0])
    machine.until_ended(*tasks)


ACTS: Mapping[str, Callable[[Machine], None]] = {
    act.__name__: act
    for act in (work, fail, drain, regret, worktree, cancel, halt, lose, reject, converse, damage, move, reboot)
}
